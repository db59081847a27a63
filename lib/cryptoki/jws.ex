defmodule Cryptoki.JWS do
  alias Cryptoki.{Base64URL, CallOptions, Error, HSM, JSON, Keys}
  alias Cryptoki.JWS.{Algorithm, Options}
  alias Cryptoki.Options.Table

  @call [:timeout, :pin, :metadata]
  # The longest ones, of SLH-DSA, have some 50 000 bytes.
  @most_signature 64 * 1024

  @moduledoc """
  JSON Web Signatures (RFC 7515) in the compact form, made and verified on the token: what a JWT
  signed by an HSM is.

      {:ok, jwt} =
        Cryptoki.JWS.sign(MyApp.HSM, [label: "contract"], %{sub: "alice", exp: 1_900_000_000},
          header: %{typ: "JWT", kid: "2026-1"})

  Algorithms: #{Enum.map_join(Algorithm.names(), ", ", &"`#{&1}`")} (RFC 7518, RFC 8037, RFC 8812, RFC
  9864). Each goes with one kind of key, which is checked; RSA keys have 2048 bits at least, HMAC keys
  the length of the hash. A token without, say, `:ecdsa_sha256` signs with `:ecdsa`, see
  `Cryptoki.sign/5`.

  `Cryptoki.JWK` publishes the keys that verify.
  """

  import Cryptoki.Bang, only: [bang: 1]

  @type hsm :: Cryptoki.hsm()
  @type key :: Cryptoki.key()
  @type opts :: keyword | map
  @type payload :: iodata | map | {:stream, Enumerable.t()}
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

    with {:ok, {alg, mechanism}} <- choose(hsm, key, :sign, own[:alg], call),
         protected = header |> Map.put("alg", alg) |> JSON.encode!() |> Base64URL.encode(),
         {:ok, signature} <- Cryptoki.sign(hsm, key, mechanism, input(protected, payload), call) do
      shown = if detached?, do: "", else: payload
      {:ok, IO.iodata_to_binary([protected, ?., shown, ?., Base64URL.encode(signature)])}
    end
  end

  bang(sign(hsm, key, payload, opts) :: String.t())

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
  def verify(hsm, key, jws, opts \\ []) do
    {own, call} = CallOptions.split!(opts, Options.verify())
    unless is_binary(jws), do: raise(ArgumentError, "jws: must be a string")

    with {:ok, {protected, shown, signature}} <- split(jws),
         {:ok, header} <- read_header(protected, own[:crit]),
         {:ok, alg} <- expected(header, own[:alg]),
         {:ok, payload, signed} <- content(shown, own[:payload], header),
         {:ok, {_alg, mechanism}} <- blame(choose(hsm, key, :verify, alg, call)),
         input = input(protected, signed),
         :ok <- blame(Cryptoki.verify(hsm, key, mechanism, input, signature, call)),
         do: {:ok, %{header: header, payload: payload}}
  end

  bang(verify(hsm, key, jws :: String.t(), opts) :: verified)

  # What the header or the signature of the JWS is to blame for, whoever found out.
  defp blame({:error, %Error{reason: reason, code: code} = error})
       when reason == :signature_len_range or
              (code == nil and reason in [:key_type_inconsistent, :unsupported]),
       do: {:error, %{error | reason: :signature_invalid}}

  defp blame(answer), do: answer

  ## Both ways

  defp choose(hsm, key, verb, alg, call) do
    wanted = Keys.wanted!(key, verb)

    with {:ok, target} <- HSM.target(hsm, Cryptoki.Options.call!(call, @call)),
         do: Algorithm.choose(target, wanted, alg)
  end

  defp input(protected, {:stream, chunks}),
    do: {:stream, Stream.concat([[protected, ?.]], chunks)}

  defp input(protected, payload), do: [protected, ?., payload]

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

  ## What is verified: all of it may come from anybody, so nothing in it raises

  defp split(jws) do
    with [protected, payload, signature] <- String.split(jws, ".", parts: 4),
         :ok <- short("header", protected, Options.most()),
         :ok <- short("signature", signature, @most_signature),
         {:ok, signature} <- Base64URL.decode(signature) do
      {:ok, {protected, payload, signature}}
    else
      {:error, _too_long} = error -> error
      _other -> malformed("three parts of base64url are needed")
    end
  end

  # Bytes as characters of base64url.
  defp short(part, text, most) do
    if 3 * byte_size(text) <= 4 * most,
      do: :ok,
      else: malformed("its #{part} has more than #{most} bytes")
  end

  defp read_header(protected, understood) do
    with {:ok, text} <- Base64URL.decode(protected),
         {:ok, %{} = header} <- JSON.decode(text),
         {:crit, true} <- {:crit, crit?(header, understood)} do
      {:ok, header}
    else
      {:crit, _no} -> fault("crit is wrong or names what is not understood")
      _no_header -> malformed("its header is not a JSON object")
    end
  end

  # Nobody may be told less than what b64 says: without crit it does not count (RFC 7797, section 6).
  defp crit?(%{"crit" => crit} = header, understood) do
    Options.critical?(crit, header) and crit -- ["b64" | understood] == [] and
      is_boolean(Map.get(header, "b64", true)) and
      (not is_map_key(header, "b64") or "b64" in crit)
  end

  defp crit?(header, _understood),
    do: not is_map_key(header, "crit") and not is_map_key(header, "b64")

  defp expected(%{"alg" => alg}, nil) when is_binary(alg), do: {:ok, alg}

  defp expected(%{"alg" => alg}, expected) when is_binary(alg) do
    if alg in expected,
      do: {:ok, alg},
      else: fault("its algorithm is #{Algorithm.quoted(alg)}, which is not expected")
  end

  defp expected(_header, _expected), do: malformed("its header names no algorithm")

  # {:ok, payload, as it was signed}
  defp content("", nil, _header), do: {:ok, "", ""}

  defp content(shown, nil, header) do
    if header["b64"] == false,
      do: {:ok, shown, shown},
      else: with({:ok, payload} <- decoded(shown), do: {:ok, payload, shown})
  end

  defp content("", {:stream, _chunks} = payload, %{"b64" => false}), do: {:ok, payload, payload}

  defp content(_shown, {:stream, _chunks}, _header),
    do: mismatch("a stream can be that of a detached JWS with b64 false only")

  defp content("", payload, header) do
    payload = Cryptoki.Bytes.binary!(payload, "a payload")
    {:ok, payload, if(header["b64"] == false, do: payload, else: Base64URL.encode(payload))}
  end

  defp content(_shown, _payload, _header),
    do: mismatch("it is for a detached JWS, and this one has a payload")

  defp decoded(text),
    do: with(:error <- Base64URL.decode(text), do: malformed("its payload is not base64url"))

  defp malformed(detail), do: fault("this is no compact JWS: " <> detail)
  defp fault(detail), do: {:error, Error.new(:signature_invalid, detail)}
  defp mismatch(detail), do: {:error, Error.new(:invalid_argument, "payload: " <> detail)}
end
