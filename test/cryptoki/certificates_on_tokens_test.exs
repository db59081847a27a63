defmodule Cryptoki.CertificatesOnTokensTest do
  use ExUnit.Case, async: true

  # What lies on a token as a certificate was put there by somebody: it is none, or it is more than one needs.
  # CMS and TLS answer for it by an error, and do not ask more of it than they need.

  alias Cryptoki.{CMS, Error, SSL, X509}
  alias Cryptoki.Test.{KeyPairs, MainToken, OpenSSL, Parts, Scratch, TLS}

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    directory = TLS.authority(Scratch.directory("on-tokens"))
    %{secp256r1: key} = KeyPairs.make(hsm, [:secp256r1])
    pem = TLS.certificate(directory, Cryptoki.public_key!(hsm, key), "here")
    [der] = TLS.der(pem)
    %{hsm: hsm, key: key, pem: pem, der: der, directory: directory}
  end

  defp lies(hsm, value) do
    label = "lies #{System.unique_integer([:positive])}"
    kind = [class: :certificate, certificate_type: :x_509, subject: <<0x30, 0>>]

    with {:ok, object} <- Cryptoki.create(hsm, kind ++ [label: label, value: value]),
         do: {:ok, [object, [label: label]]}
  end

  test "no certificate is an error, wherever it is asked for", %{hsm: hsm, key: key} = context do
    %{pem: pem, der: der} = context

    for value <- [
          der <> <<0>>,
          der <> der,
          pem,
          binary_part(der, 0, 100),
          binary_part(der, 1, byte_size(der) - 1),
          "-----BEGIN CERTIFICATE-----",
          <<0x30, 0>>,
          <<0x30, 0x80, 0, 0>>,
          <<0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF>>,
          :binary.copy(<<0x30, 0x80>>, 5000),
          :rand.bytes(300),
          indefinite(der)
        ],
        # A token may refuse it itself.
        {:ok, names} <- [lies(hsm, value)],
        name <- names do
      answers =
        [
          CMS.sign(hsm, key, name, "text"),
          CMS.sign(hsm, key, [name, pem], "text"),
          CMS.sign(hsm, key, pem, "text", chain: name),
          CMS.sign(hsm, key, pem, "text", chain: [pem, name]),
          CMS.sign(hsm, key, pem, "text", signers: [{key, name}])
        ] ++
          if(TLS.missing(),
            do: [],
            else: [
              SSL.certs_keys(hsm, key, name),
              SSL.certs_keys(hsm, key, [pem, name])
            ]
          )

      for answer <- answers do
        assert {:error, %Error{reason: :invalid_argument} = error} = answer
        assert Exception.message(error) =~ "as it lies on the token"
      end
    end
  end

  # BER, which certificates are not in.
  defp indefinite(der) do
    {:ok, [{0x30, contents, _}]} = Parts.split(der)
    <<0x30, 0x80, contents::binary, 0, 0>>
  end

  test "what nobody asked for may be anything", %{hsm: hsm, key: key, der: der} = context do
    for {spoilt, what} <- [
          {replace(der, ~r/\x17\x0d\d{12}Z/, <<0x17, 13, "999999999999Z">>), "no time"},
          {replace(
             der,
             ~r/\x55\x1d\x11.*localhost/s,
             &String.replace(&1, "localhost", "loc\0\xFFhost")
           ), "a name that is none"}
        ] do
      assert spoilt != der, what
      {:ok, names} = lies(hsm, spoilt)

      for name <- names do
        assert {:ok, signed} = CMS.sign(hsm, key, name, "text")
        file = Scratch.write(context.directory, "signed", signed)

        verify = ~w(cms -verify -noverify -inform DER -in #{file} -out /dev/null)
        assert {"CMS Verification successful" <> _, 0} = OpenSSL.openssl(verify)

        unless TLS.missing(),
          do: assert({:ok, %{cert: [^spoilt]}} = SSL.certs_keys(hsm, key, name))
      end
    end
  end

  defp replace(der, pattern, by), do: Regex.replace(pattern, der, by, global: false)

  test "the certificate of a curve or a kind that OTP does not have is an error", context do
    %{hsm: hsm, key: key, der: der} = context
    # id-ecPublicKey becomes something else.
    other = replace(der, ~r/\x2a\x86\x48\xce\x3d\x02\x01/, <<0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 9>>)
    assert other != der
    {:ok, [object, _name]} = lies(hsm, other)

    for answer <- [CMS.sign(hsm, key, object, "text"), SSL.certs_keys(hsm, key, object)],
        do: assert({:error, %Error{reason: :unsupported}} = answer)
  end

  # Whoever looks through the objects of a token finds some that are gone when they are read.
  test "what others make and destroy meanwhile is no error", %{hsm: hsm, directory: directory} do
    nameless = [curve: :secp256r1]
    {public, private} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, nameless)
    strangers = TLS.certificate(directory, Cryptoki.public_key!(hsm, public), "stranger")
    :ok = Cryptoki.destroy(hsm, public)
    {_public, other} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, nameless)

    others =
      Task.async(fn ->
        until_told(fn ->
          {:ok, certificate} = X509.store(hsm, strangers, label: "churn", token: false)

          pair =
            Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, label: "churn", curve: :secp256r1)

          for object <- [certificate | Tuple.to_list(pair)], do: Cryptoki.destroy(hsm, object)
        end)
      end)

    answers = for _ <- 1..500, do: Cryptoki.certificate(hsm, other)
    public_keys = for _ <- 1..200, do: Cryptoki.public_key(hsm, private)
    send(others.pid, :enough)
    Task.await(others, :infinity)

    assert Enum.uniq(for {:error, error} <- answers, do: error.reason) == [:key_not_found]
    # Nothing may be left that proves its public half, which is said of the key.
    gone = [:stale_handle, :object_handle_invalid]
    assert for({:error, error} <- public_keys, error.reason in gone, do: error) == []
  end

  defp until_told(fun) do
    fun.()

    receive do
      :enough -> :ok
    after
      0 -> until_told(fun)
    end
  end
end
