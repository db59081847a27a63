defmodule Cryptoki.Test.Payments do
  @moduledoc false
  # The token that the examples in docs and guides work on: the keys "invoice" (RSA), "contract"
  # (P-256) and "archive" (AES), and a certificate of the first.

  alias Cryptoki.Test.{MainToken, SoftHSM, TLS}

  @label "payments"

  @doc "The start options of an instance on it. It is made once a run: `token:` has to find one."
  @spec options(keyword) :: keyword
  def options(more) do
    with nil <- :persistent_term.get(__MODULE__, nil),
         do: :persistent_term.put(__MODULE__, MainToken.own(label: @label))

    Keyword.merge(:persistent_term.get(__MODULE__), more)
  end

  @doc "Makes what the examples need, the first time."
  @spec fill(GenServer.name()) :: :ok
  def fill(hsm) do
    unless File.exists?(marker()), do: make(hsm)
    File.touch!(marker())
  end

  defp marker, do: Path.join(SoftHSM.directory(), "payments")

  @doc "Makes the three keys and the certificate on the token of an instance."
  @spec make(GenServer.name()) :: Cryptoki.Key.t()
  def make(hsm) do
    # Kryoptic gives a key no purpose that it is not asked for.
    uses = [public: [verify: true, encrypt: true], private: [sign: true, decrypt: true]]
    rsa = [label: "invoice", id: <<1>>, token: true, modulus_bits: 2048] ++ uses
    {public, _private} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, rsa)

    ec = [label: "contract", id: <<2>>, token: true, curve: :secp256r1]
    Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, ec)

    aes = [label: "archive", id: <<3>>, token: true, value_len: 32]
    Cryptoki.generate_key!(hsm, :aes_key_gen, aes)

    authority = TLS.authority(Path.join(SoftHSM.directory(), "authority"))
    public_key = Cryptoki.public_key!(hsm, public)
    [der] = authority |> TLS.certificate(public_key, "invoice") |> TLS.der()

    Cryptoki.create!(hsm,
      class: :certificate,
      certificate_type: :x_509,
      label: "invoice",
      id: <<1>>,
      token: true,
      subject: <<0x30, 0>>,
      value: der
    )
  end
end
