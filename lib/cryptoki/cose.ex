defmodule Cryptoki.COSE do
  alias Cryptoki.{Bytes, CallOptions, Error}
  alias Cryptoki.COSE.{Algorithm, Message, Options}
  alias Cryptoki.JWS
  alias Cryptoki.Options.Table

  @moduledoc """
  CBOR Object Signing (COSE, RFC 9052): `COSE_Sign1` messages, made and verified on the token. Passkeys, the health
  certificates of the EU, mobile driving licences (ISO 18013-5), firmware manifests (SUIT) and CBOR Web Tokens are such messages.

      {:ok, message} = Cryptoki.COSE.sign1(MyApp.HSM, [label: "contract"], cbor, unprotected: %{4 => "2026-1"})
      {:ok, %{payload: ^cbor}} = Cryptoki.COSE.verify1(MyApp.HSM, [label: "contract"], message, alg: "ES256")

  Algorithms: #{Enum.map_join(Algorithm.names(), ", ", &"`#{&1}`")} (RFC 9053, RFC 8812, RFC 9864, RFC 9964). Each goes with one
  kind of key, which is checked: those of ECDSA with their own curve, too. RSA keys have 2048 bits at least.

  Headers are maps from labels, integers or strings, to values: a binary is a byte string, text is `{:text, "..."}`; integers,
  lists, maps, booleans, `nil` and `{:tag, number, value}` are what they are. What is written is deterministic (RFC 8949,
  section 4.2.1).
  """

  import Cryptoki.Bang, only: [bang: 1]

  @type hsm :: Cryptoki.hsm()
  @type key :: Cryptoki.key()
  @type opts :: keyword | map
  @type label :: integer | String.t()
  @type header :: %{label => term}
  @type verified :: %{
          alg: String.t(),
          protected: header,
          unprotected: header,
          payload: binary
        }

  @doc """
  Signs a payload, iodata: the bytes of a `COSE_Sign1`.

  #{Table.docs(Options.sign1())}
    * `timeout:`, `pin:` and `metadata:` as in `Cryptoki.sign/5`

  Errors: `:key_type_inconsistent`, `:key_size_range`, `:invalid_argument` when an algorithm is needed, `:unsupported` for keys
  that have none here, and those of `Cryptoki.sign/5`. RFC 9052, section 4; PKCS #11 v3.2, section 5.13 (C_Sign).

      iex> {:ok, message} = Cryptoki.COSE.sign1(MyApp.HSM, [label: "contract"], "text", unprotected: %{4 => "11"})
      iex> <<0xD2, 0x84, 0x43, 0xA1, 0x01, 0x26, 0xA1, 0x04, 0x42, "11", 0x44, "text", 0x58, 64, signature::binary>> = message
      iex> byte_size(signature)
      64
  """
  @spec sign1(hsm, key, iodata, opts) :: {:ok, binary} | {:error, Error.t()}
  def sign1(hsm, key, payload, opts \\ []) do
    {own, call} = CallOptions.split!(opts, Options.sign1())
    payload = Bytes.binary!(payload, "a payload")

    with {:ok, {name, mechanism}} <- choose(hsm, key, :sign, own[:alg], call),
         protected = Message.protected(own[:protected], name),
         signed = Message.to_be_signed(protected, payload, own[:external_aad]),
         {:ok, signature} <- Cryptoki.sign(hsm, key, mechanism, signed, call),
         do: {:ok, Message.write(protected, payload, signature, own)}
  end

  bang(sign1(hsm, key, payload :: iodata, opts) :: binary)

  @doc """
  Verifies a `COSE_Sign1`, with its tag or without, and with that of a CBOR Web Token before it, with a public key of the token: `{:ok, %{alg: name, protected: header,
  unprotected: header, payload: bytes}}`. What is in `unprotected` was signed by nobody. Whether claims in a payload hold is the
  caller's to say.

  #{Table.docs(Options.verify1())}
    * `timeout:`, `pin:` and `metadata:` as in `Cryptoki.verify/6`

  The algorithm is that of the protected header, and goes with the key; one that is unprotected counts for nothing, and has to
  be the same. A message may have 16 MiB, its headers 48 KiB, 16 values in one another, and none of indefinite length.

  Errors: `:signature_invalid` for all that is wrong with the message itself, which anybody may have sent: no `COSE_Sign1`, another
  signature, an algorithm that is not expected or not of this kind of key, a label twice, a critical parameter that nobody understands;
  `detail` says which. Besides it `:invalid_argument` when `payload:` does not go with the message, and those of
  `Cryptoki.verify/6`. RFC 9052, section 4; PKCS #11 v3.2, section 5.15 (C_Verify).

      iex> message = Cryptoki.COSE.sign1!(MyApp.HSM, [label: "contract"], "text", external_aad: "row 7")
      iex> {:ok, verified} = Cryptoki.COSE.verify1(MyApp.HSM, [label: "contract"], message, external_aad: "row 7")
      iex> {verified.alg, verified.payload}
      {"ES256", "text"}
      iex> {:error, error} = Cryptoki.COSE.verify1(MyApp.HSM, [label: "contract"], message)
      iex> error.reason
      :signature_invalid
  """
  @spec verify1(hsm, key, binary, opts) :: {:ok, verified} | {:error, Error.t()}
  def verify1(hsm, key, message, opts \\ []) do
    {own, call} = CallOptions.split!(opts, Options.verify1())
    unless is_binary(message), do: raise(ArgumentError, "message: must be a binary")

    with {:ok, read} <- Message.read(message, own),
         {:ok, {_name, mechanism}} <-
           JWS.Algorithm.blame(choose(hsm, key, :verify, read.alg, call)),
         verified = Cryptoki.verify(hsm, key, mechanism, read.signed, read.signature, call),
         :ok <- JWS.Algorithm.blame(verified),
         do: {:ok, Map.take(read, [:alg, :protected, :unprotected, :payload])}
  end

  bang(verify1(hsm, key, message :: binary, opts) :: verified)

  # A key has in COSE what it has in JOSE, but for a secret one, which signs no COSE_Sign1.
  defp choose(hsm, key, verb, name, call) do
    with {:ok, {jose, mechanism}} <-
           JWS.Algorithm.for_key(hsm, key, verb, Algorithm.in_jose(name), call),
         do: {:ok, {name || jose, mechanism}}
  end
end
