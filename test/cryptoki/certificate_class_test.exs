defmodule Cryptoki.CertificateClassTest do
  # Where a certificate is asked for nothing else is handed out: CKA_VALUE of other objects is a secret.
  use ExUnit.Case, async: true

  alias Cryptoki.{CMS, Error, Key, SSL, URI, X509}
  alias Cryptoki.Test.MainToken

  setup do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 1)})
    label = "class #{System.unique_integer([:positive])}"
    readable = [sensitive: false, extractable: true]
    aes = Cryptoki.generate_key!(hsm, :aes_key_gen, [label: label, value_len: 32] ++ readable)
    data = Cryptoki.create!(hsm, class: :data, label: label, value: "a text")
    template = [label: label, curve: :secp256r1, private: readable]
    {public, private} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, template)
    objects = %{secret_key: aes, data: data, private_key: private, public_key: public}
    %{hsm: hsm, label: label, objects: objects}
  end

  @types [secret_key: :secret_key, data: :data, private_key: :private, public_key: :public]

  for {class, type} <- @types do
    test "not the value of a #{class}", %{hsm: hsm, label: label, objects: objects} do
      key = objects[unquote(class)]
      uri = URI.new(object: label, type: unquote(type))

      for wrong <- [key, %{key | handle: nil}, uri, to_string(uri)] do
        assert not_found?(Cryptoki.certificate(hsm, wrong))
        assert not_found?(Cryptoki.with_session(hsm, &Cryptoki.certificate(&1, wrong)))
        assert {:error, {:key_not_found, _}} = :cryptoki.certificate(hsm, wrong)
        private = objects.private_key
        assert not_found?(CMS.sign(hsm, private, wrong, "text"))
        assert not_found?(X509.crl(hsm, private, wrong, [], number: 1))

        if :erlang.system_info(:otp_release) >= ~c"27",
          do: assert(not_found?(SSL.certs_keys(hsm, private, wrong)))
      end

      {:ok, code} = Cryptoki.Names.code(:class, unquote(class))

      for class <- [unquote(class), code],
          selector <- [[label: label, class: class], %{class: class}] do
        assert_raise ArgumentError, ~r/class: .* names no certificate/, fn ->
          Cryptoki.certificate(hsm, selector)
        end
      end

      # What says it is a certificate and is none.
      assert not_found?(Cryptoki.certificate(hsm, %{key | class: :certificate}))
    end
  end

  test "the certificate is found among them", %{hsm: hsm, label: label, objects: objects} do
    assert not_found?(Cryptoki.certificate(hsm, label: label))
    {:ok, der} = X509.self_signed(hsm, objects.private_key, subject: "/CN=#{label}")

    template = [
      class: :certificate,
      certificate_type: :x_509,
      label: label,
      subject: "",
      value: der
    ]

    %Key{} = stored = Cryptoki.create!(hsm, template)

    for right <- [
          [label: label],
          [label: label, class: :certificate],
          [label: label, class: 1],
          %{label: label},
          URI.new(object: label, type: :cert),
          "pkcs11:type=cert;" <>
            binary_part(
              to_string(URI.new(object: label)),
              7,
              byte_size(to_string(URI.new(object: label))) - 7
            ),
          stored,
          objects.public_key
        ],
        do: assert(Cryptoki.certificate(hsm, right) == {:ok, der})
  end

  defp not_found?(answer), do: match?({:error, %Error{reason: :key_not_found}}, answer)
end
