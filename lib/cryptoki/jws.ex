defmodule Cryptoki.JWS do
  alias Cryptoki.{Base64URL, CallOptions, Error, JSON}
  alias Cryptoki.JWS.{Algorithm, Compact, KeySet, Options}
  alias Cryptoki.Options.Table

  @moduledoc """
  JSON Web Signatures (RFC 7515) in the compact form, made and verified on the token: what a JWT
  signed by an HSM is.

      {:ok, jwt} =
        Cryptoki.JWS.sign(MyApp.HSM, [label: "contract"], %{sub: "alice", exp: 1_900_000_000},
          header: %{typ: "JWT", kid: "2026-1"})

  Algorithms: #{Enum.map_join(Algorithm.names(), ", ", &"`#{&1}`")} (RFC 7518, RFC 8037, RFC 8812, RFC
  9864, RFC 9964). Each goes with one kind of key, which is checked; RSA keys have 2048 bits at least, HMAC keys
  the length of the hash. A token without, say, `:ecdsa_sha256` signs with `:ecdsa`, see
  `Cryptoki.sign/5`.

  `Cryptoki.JWK` publishes the keys that verify.
  """

  import Cryptoki.Bang, only: [bang: 1]

  @type hsm :: Cryptoki.hsm()
  @type key :: Cryptoki.key()
  @type opts :: keyword | map
  @type payload :: iodata | map | {:stream, Enumerable.t()}
  @typedoc "Keys without a token: JWKs, a map with them under `\"keys\"`, or the JSON of that."
  @type set :: {:jwks, [map] | map | String.t()}
  @type verified :: %{header: map, payload: iodata | {:stream, Enumerable.t()}}

  @doc """
  Signs a payload: iodata, a map, which is encoded as JSON, or `{:stream, enumerable}`, when it is
  detached and unencoded.

  #{Table.docs(Options.sign())}
    * `timeout:`, `pin:` and `metadata:` as in `Cryptoki.sign/5`

  Errors: `:key_type_inconsistent`, `:key_size_range`, `:unsupported` for an algorithm that does not
  exist, `:invalid_argument` when one is needed, and those of `Cryptoki.sign/5`. PKCS #11 v3.2, section
  5.13 (C_Sign).

      iex> {:ok, jwt} = Cryptoki.JWS.sign(MyApp.HSM, [label: "contract"], %{sub: "alice"}, header: %{typ: "JWT"})
      iex> [header, payload, _signature] = String.split(jwt, ".")
      iex> {Base.url_decode64!(header, padding: false), Base.url_decode64!(payload, padding: false)}
      {~S({"alg":"ES256","typ":"JWT"}), ~S({"sub":"alice"})}
  """
  @spec sign(hsm, key, payload, opts) :: {:ok, String.t()} | {:error, Error.t()}
  def sign(hsm, key, payload, opts \\ []) do
    {own, call} = CallOptions.split!(opts, Options.sign())
    header = header(own[:header], own[:b64])
    detached? = own[:detached]
    payload = payload!(payload, detached?, own[:b64])

    with {:ok, {alg, mechanism}} <- Algorithm.for_key(hsm, key, :sign, own[:alg], call),
         protected = header |> Map.put("alg", alg) |> JSON.encode!() |> Base64URL.encode(),
         {:ok, signature} <-
           Cryptoki.sign(hsm, key, mechanism, Compact.input(protected, payload), call) do
      shown = if detached?, do: "", else: payload
      {:ok, IO.iodata_to_binary([protected, ?., shown, ?., Base64URL.encode(signature)])}
    end
  end

  bang(sign(hsm, key, payload, opts) :: String.t())

  @doc """
  `verify/3` without options.

      iex> {:ok, jwt} = Cryptoki.JWS.sign(MyApp.HSM, [label: "contract"], %{sub: "alice"}, header: %{kid: "1"})
      iex> keys = [Cryptoki.JWK.public!(MyApp.HSM, [label: "contract"], kid: "1")]
      iex> Cryptoki.JWS.verify!({:jwks, keys}, jwt).payload
      ~S({"sub":"alice"})
  """
  @spec verify(set, jws :: String.t()) :: {:ok, verified} | {:error, Error.t()}
  def verify({:jwks, _keys} = set, jws), do: verify(set, jws, [])

  @doc """
  Verifies a compact JWS with a set of public keys (JWKS, RFC 7517) in place of a token, by `:public_key`: `verify({:jwks,
  keys}, jws, opts)`. `keys` is a list of JWKs, a map with them under `"keys"`, or the JSON of that, of 1 MiB at most.
  `verify(hsm, key, jws)` is `verify/4` without options.

  The key is the one with the `kid` of the header, and without a `kid` the only one that goes with the algorithm. What
  it may be used for is said by the key, never by the header alone: its type and curve, and its `alg`, `use` and `key_ops`
  where it has them. Secret keys (`oct`) are none of a set, and `HS256` and the others with a secret key are never taken.
  Keys of kinds that are not known here are left, as section 5 has it. Those of ML-DSA need an OTP that knows them (29).

  Options are those of `verify/4`, without those of calls.

  Errors: `:signature_invalid` as there, also for an algorithm that no key goes with; `:key_not_found` for a `kid` that the set
  does not have, which may be time to fetch it again; `:key_ambiguous` for one that several keys have; `:invalid_argument`
  for what is no set, and for a key that nobody may use (`Cryptoki.JWK.to_public_key/1`) or that is no public one;
  `:unsupported` for signatures that this OTP does not know.

      iex> {:ok, jwt} = Cryptoki.JWS.sign(MyApp.HSM, [label: "contract"], %{sub: "alice"}, header: %{kid: "1"})
      iex> keys = [Cryptoki.JWK.public!(MyApp.HSM, [label: "contract"], kid: "1")]
      iex> {:ok, verified} = Cryptoki.JWS.verify({:jwks, keys}, jwt, alg: "ES256")
      iex> verified.header["kid"]
      "1"
      iex> {:error, error} = Cryptoki.JWS.verify({:jwks, []}, jwt)
      iex> error.reason
      :key_not_found
  """
  @spec verify(hsm | set, key | (jws :: String.t()), (jws :: String.t()) | opts) ::
          {:ok, verified} | {:error, Error.t()}
  def verify({:jwks, keys}, jws, opts) when is_list(keys) or is_map(keys) or is_binary(keys),
    do: KeySet.verify(keys, jws, opts)

  def verify(hsm, key, jws), do: verify(hsm, key, jws, [])

  @doc """
  Verifies a compact JWS with a public or secret key of the token: `{:ok, %{header: map, payload:
  binary}}`. Whether the claims in a payload hold (`exp`, `aud` ...) is the caller's to say.

  #{Table.docs(Options.verify())}
    * `timeout:`, `pin:` and `metadata:` as in `Cryptoki.verify/6`

  Errors: `:signature_invalid` for all that is wrong with the JWS itself, which anybody may have sent:
  no compact JWS, another signature, an algorithm that is not expected or not of this kind of key, a
  critical extension that nobody understands; `detail` says which. Besides it `:invalid_argument` when
  `payload:` does not go with the JWS, and those of `Cryptoki.verify/6`. PKCS #11 v3.2, section 5.15
  (C_Verify).

      iex> {:ok, jws} = Cryptoki.JWS.sign(MyApp.HSM, [label: "contract"], "text", detached: true)
      iex> {:ok, verified} = Cryptoki.JWS.verify(MyApp.HSM, [label: "contract"], jws, payload: "text")
      iex> {verified.header, verified.payload}
      {%{"alg" => "ES256"}, "text"}
      iex> {:error, error} = Cryptoki.JWS.verify(MyApp.HSM, [label: "contract"], jws, payload: "another")
      iex> error.reason
      :signature_invalid
  """
  @spec verify(hsm, key, jws :: String.t(), opts) :: {:ok, verified} | {:error, Error.t()}
  def verify(hsm, key, jws, opts) do
    {own, call} = CallOptions.split!(opts, Options.verify())
    unless is_binary(jws), do: raise(ArgumentError, "jws: must be a string")

    with {:ok, read} <- Compact.read(jws, own),
         {:ok, {_alg, mechanism}} <-
           Algorithm.blame(Algorithm.for_key(hsm, key, :verify, read.alg, call)),
         verified = Cryptoki.verify(hsm, key, mechanism, read.signed, read.signature, call),
         :ok <- Algorithm.blame(verified),
         do: {:ok, Map.take(read, [:header, :payload])}
  end

  bang(verify(set, jws :: String.t()) :: verified)
  bang(verify(hsm :: hsm | set, key :: key | String.t(), jws :: String.t() | opts) :: verified)
  bang(verify(hsm, key, jws :: String.t(), options :: opts) :: verified)

  ## What is signed

  defp header(header, true), do: header

  defp header(header, false) do
    crit = Enum.uniq(Map.get(header, "crit", []) ++ ["b64"])
    Map.merge(header, %{"b64" => false, "crit" => crit})
  end

  defp payload!({:stream, _chunks} = stream, true, false), do: stream

  defp payload!({:stream, _chunks}, _detached?, _b64?),
    do: raise(ArgumentError, "a stream is signed with detached: true and b64: false")

  defp payload!(payload, detached?, b64?) when is_map(payload),
    do: payload |> JSON.encode!() |> payload!(detached?, b64?)

  defp payload!(payload, detached?, b64?) when is_binary(payload) or is_list(payload) do
    payload = Cryptoki.Bytes.binary!(payload, "a payload")

    cond do
      b64? ->
        Base64URL.encode(payload)

      detached? or payload =~ ~r/\A[\x20-\x2d\x2f-\x7e]*\z/ ->
        payload

      true ->
        raise ArgumentError, "b64: false without detached: wants printable ASCII without a dot"
    end
  end

  defp payload!(_other, _detached?, _b64?),
    do: raise(ArgumentError, "a payload is iodata, a map or {:stream, enumerable}")
end
