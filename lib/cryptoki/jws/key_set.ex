defmodule Cryptoki.JWS.KeySet do
  @moduledoc false
  # Tokens of the web verified with a set of public keys (RFC 7517), without a token of PKCS #11. The set is somebody's
  # document, and the JWS anybody's: which key it is is said by `kid`, what it may do by the key alone. Pure.

  alias Cryptoki.{CallOptions, Chunks, Ecdsa, Error, JSON, Mechanism, SignatureAlgorithm}
  alias Cryptoki.JWK.Public
  alias Cryptoki.JWS.{Algorithm, Compact, Options}

  @most 1_048_576

  @doc "See `Cryptoki.JWS.verify/3`."
  @spec verify(list | map | binary, term, keyword | map) :: {:ok, map} | {:error, Error.t()}
  def verify(keys, jws, opts) do
    {own, []} = CallOptions.split!(opts, Options.verify(), [])
    unless is_binary(jws), do: raise(ArgumentError, "jws: must be a string")

    with {:ok, keys} <- keys(keys),
         {:ok, read} <- Compact.read(jws, own),
         {:ok, mechanism} <- Algorithm.public(read.alg),
         {:ok, jwk} <- choose(keys, read),
         {:ok, key} <- key(jwk),
         :ok <- signed(key, mechanism, read),
         do: {:ok, Map.take(read, [:header, :payload])}
  end

  ## The set

  defp keys(text) when is_binary(text) do
    with true <- byte_size(text) <= @most,
         {:ok, %{"keys" => _} = set} <- JSON.decode(text),
         do: keys(set),
         else: (_no_set -> no_set())
  end

  defp keys(%{"keys" => keys}) when is_list(keys), do: keys(keys)

  defp keys(keys) when is_list(keys) do
    if not List.improper?(keys) and Enum.all?(keys, &is_map/1),
      do: {:ok, Enum.uniq(keys)},
      else: no_set()
  end

  defp keys(_other), do: no_set()

  defp no_set, do: no(:invalid_argument, "it is a list of keys, or a map with one under \"keys\"")

  ## The key

  defp choose(keys, %{header: %{"kid" => kid}, alg: alg}) when is_binary(kid) do
    named = Enum.filter(keys, &(&1["kid"] == kid))

    case Enum.filter(named, &goes_with?(&1, alg)) do
      [key] -> {:ok, key}
      [] when named == [] -> no(:key_not_found, "there is no key with the kid #{quoted(kid)}")
      [] -> Compact.fault("the key with the kid #{quoted(kid)} does not go with #{alg}")
      several -> no(:key_ambiguous, "#{length(several)} keys have the kid #{quoted(kid)}")
    end
  end

  defp choose(_keys, %{header: %{"kid" => _no_text}}),
    do: Compact.fault("this is no compact JWS: its kid is no string")

  defp choose(keys, %{alg: alg}) do
    case Enum.filter(keys, &goes_with?(&1, alg)) do
      [key] ->
        {:ok, key}

      [] when keys == [] ->
        no(:key_not_found, "there is none")

      [] ->
        Compact.fault("no key of the set goes with #{alg}")

      several ->
        Compact.fault("it has no kid, and #{length(several)} keys of the set go with #{alg}")
    end
  end

  # Type and curve, and what its owner says of it.
  defp goes_with?(jwk, alg) do
    Algorithm.goes_with?(alg, Public.kind(jwk)) and Map.get(jwk, "alg", alg) == alg and
      Map.get(jwk, "use", "sig") == "sig" and verifies?(Map.get(jwk, "key_ops", ["verify"]))
  end

  defp verifies?(operations),
    do: is_list(operations) and not List.improper?(operations) and "verify" in operations

  defp key(jwk) do
    with {:error, error} <- Public.read(jwk) do
      name =
        if is_binary(jwk["kid"]), do: "the key with the kid #{quoted(jwk["kid"])}: ", else: ""

      no(error.reason, name <> error.detail)
    end
  end

  ## The signature

  defp signed(key, mechanism, %{signed: signed, signature: signature}) do
    {hash, options} = SignatureAlgorithm.by_mechanism(mechanism)

    with {:ok, data} <- data(signed, hash),
         {:ok, signature} <- form(key, Mechanism.ecdsa?(mechanism), signature) do
      case SignatureAlgorithm.signed?(data, hash, signature, key, options) do
        true ->
          :ok

        false ->
          Compact.fault("it is not signed by the key of the set")

        :unsupported ->
          {:error, Error.new(:unsupported, "this OTP does not know such signatures")}
      end
    end
  end

  defp data({:stream, _chunks}, :none),
    do:
      {:error,
       Error.new(:unsupported, "payload: keys that hash by themselves verify no stream here")}

  defp data({:stream, _chunks} = stream, hash), do: {:ok, {:digest, Chunks.digest(hash, stream)}}
  defp data(signed, _hash), do: {:ok, IO.iodata_to_binary(signed)}

  # r and s, each as long as the curve's order (RFC 7518, section 3.4).
  defp form({{:ECPoint, <<4, both::binary>>}, _curve}, true, signature) do
    if byte_size(signature) == byte_size(both),
      do: {:ok, Ecdsa.to_der(signature)},
      else:
        Compact.fault("its signature has #{byte_size(signature)} bytes, not #{byte_size(both)}")
  end

  # An Edwards point is bytes by chance, and may begin as those do.
  defp form(_another, _ecdsa?, signature), do: {:ok, signature}

  defp quoted(kid), do: Algorithm.quoted(kid)
  defp no(reason, text), do: {:error, Error.new(reason, "jwks: " <> text)}
end
