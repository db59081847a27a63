defmodule Cryptoki.JWS.Compact do
  @moduledoc false
  # A compact JWS (RFC 7515, section 7.1) as it came: all of it may be from anybody, so nothing in it raises, and
  # nothing in it is believed before its signature is verified. Pure.

  alias Cryptoki.{Base64URL, Error, JSON}
  alias Cryptoki.JWS.{Algorithm, Options}

  # The longest ones, of SLH-DSA, have some 50 000 bytes.
  @most_signature 64 * 1024

  @type t :: %{
          header: map,
          alg: String.t(),
          payload: iodata | {:stream, Enumerable.t()},
          signed: iodata | {:stream, Enumerable.t()},
          signature: binary
        }

  @doc "What it says, with the options of `verify`: what is signed, and with which algorithm it says it is."
  @spec read(binary, keyword) :: {:ok, t} | {:error, Error.t()}
  def read(jws, own) do
    with {:ok, {protected, shown, signature}} <- split(jws),
         {:ok, header} <- read_header(protected, own[:crit]),
         {:ok, alg} <- expected(header, own[:alg]),
         {:ok, payload, signed} <- content(shown, own[:payload], header) do
      signed = input(protected, signed)
      {:ok, %{header: header, alg: alg, payload: payload, signed: signed, signature: signature}}
    end
  end

  @doc "What is signed of a header and a payload."
  @spec input(iodata, iodata | {:stream, Enumerable.t()}) :: iolist | {:stream, Enumerable.t()}
  def input(protected, {:stream, chunks}),
    do: {:stream, Stream.concat([[protected, ?.]], chunks)}

  def input(protected, payload), do: [protected, ?., payload]

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

  @doc "What is wrong with it, by who sent it."
  @spec fault(String.t()) :: {:error, Error.t()}
  def fault(detail), do: {:error, Error.new(:signature_invalid, detail)}

  defp mismatch(detail), do: {:error, Error.new(:invalid_argument, "payload: " <> detail)}
end
