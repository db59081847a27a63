defmodule Cryptoki.COSE.Message do
  @moduledoc false
  # COSE_Sign1 (RFC 9052, section 4.2), and what is signed of it (section 4.4). That of others may be any bytes: nothing in
  # it raises, and nothing in it is believed before its signature is verified. Pure.

  alias Cryptoki.{CBOR, Error}
  alias Cryptoki.CBOR.Reader
  alias Cryptoki.COSE.{Algorithm, Header, Options}

  @tag 18
  # Of a CBOR Web Token, before the other (RFC 8392, section 6).
  @cwt 61
  @most 16 * 1_048_576
  # The longest ones, of ML-DSA, have some 5 000 bytes.
  @most_signature 64 * 1024

  @type t :: %{
          alg: String.t(),
          protected: Header.t(),
          unprotected: Header.t(),
          payload: binary,
          signed: binary,
          signature: binary
        }

  @doc "The bytes of a protected header with its algorithm."
  @spec protected(Header.t(), String.t()) :: binary
  def protected(header, name),
    do: header |> Map.put(1, Algorithm.number(name)) |> Header.write() |> CBOR.encode!()

  @doc "What is signed."
  @spec to_be_signed(protected :: binary, binary, external_aad :: iodata) :: binary
  def to_be_signed(protected, payload, external_aad) do
    external = Cryptoki.Bytes.binary!(external_aad, "external_aad:")
    CBOR.encode!([{:text, "Signature1"}, protected, external, payload])
  end

  @doc "The message."
  @spec write(binary, binary, binary, keyword) :: binary
  def write(protected, payload, signature, own) do
    shown = if own[:detached], do: nil, else: payload
    message = [protected, Header.write(own[:unprotected]), shown, signature]
    CBOR.encode!(if own[:tagged], do: {:tag, @tag, message}, else: message)
  end

  @doc "What a message says, with the options of `verify1`."
  @spec read(binary, keyword) :: {:ok, t} | {:error, Error.t()}
  def read(bytes, own) do
    with {:ok, [protected, unprotected, shown, signature]} <- parts(bytes),
         {:ok, header} <- protected_header(protected),
         {:ok, unprotected} <- header(unprotected, "unprotected"),
         :ok <- apart(header, unprotected),
         :ok <- understood(header, own[:crit]),
         {:ok, name} <- algorithm(header, unprotected, own[:alg]),
         {:ok, payload} <- payload(shown, own[:payload]) do
      # One of nothing is signed as nothing (section 4.4).
      protected = if header == %{}, do: "", else: protected

      {:ok,
       %{
         alg: name,
         protected: header,
         unprotected: unprotected,
         payload: payload,
         signed: to_be_signed(protected, payload, own[:external_aad]),
         signature: signature
       }}
    end
  end

  defp parts(bytes) do
    case Reader.decode(bytes, @most) do
      {:ok, {:tag, @cwt, {:tag, _number, _message} = tagged}} -> tagged(tagged)
      {:ok, message} -> tagged(message)
      {:error, text} -> malformed(text)
    end
  end

  defp tagged({:tag, @tag, message}), do: four(message)
  defp tagged({:tag, number, _other}), do: malformed("its tag is #{number}, not #{@tag}")
  defp tagged(message), do: four(message)

  defp four([protected, _unprotected, payload, signature] = parts)
       when is_binary(protected) and (is_binary(payload) or payload == nil) and
              is_binary(signature) do
    cond do
      byte_size(protected) > Options.most() ->
        malformed("its protected header has more than #{Options.most()} bytes")

      byte_size(signature) > @most_signature ->
        malformed("its signature has more than #{@most_signature} bytes")

      true ->
        {:ok, parts}
    end
  end

  defp four(_other), do: malformed("a list of headers, payload and signature is needed")

  # A map of nothing may be left out, and may be there (section 3).
  defp protected_header(""), do: {:ok, %{}}

  defp protected_header(bytes) do
    case Reader.decode(bytes, Options.most()) do
      {:ok, map} -> header(map, "protected")
      {:error, text} -> malformed("protected header, #{text}")
    end
  end

  defp header(map, which) do
    with :error <- Header.read(map),
         do: malformed("its #{which} header is no map of labels")
  end

  defp apart(protected, unprotected) do
    # Which of both counts is said nowhere.
    case Enum.find(Map.keys(protected), &is_map_key(unprotected, &1)) do
      nil -> :ok
      label -> malformed("both headers have the label #{Algorithm.quoted(label)}")
    end
  end

  defp understood(header, known) do
    with true <- Header.critical?(header),
         [] <- Header.unknown(header, known),
         do: :ok,
         else: (_no -> fault("crit is wrong or names what is not understood"))
  end

  # Only what is signed says with what, or the caller.
  defp algorithm(%{1 => number}, _unprotected, expected) do
    case Algorithm.name(number) do
      {:ok, name} -> expected(name, expected)
      :error -> fault("there is no algorithm #{shown(number)} here")
    end
  end

  defp algorithm(_protected, unprotected, [name]) do
    case Map.fetch(unprotected, 1) do
      {:ok, number} -> same(Algorithm.name(number), name)
      :error -> {:ok, name}
    end
  end

  defp algorithm(_protected, _unprotected, _several),
    do: fault("its protected header has no algorithm; say which one with alg:, if it may be so")

  # Anything may stand there.
  defp shown(number) when is_integer(number), do: Integer.to_string(number)
  defp shown({:text, text}), do: Algorithm.quoted(text)
  defp shown(_other), do: "of that type"

  defp same({:ok, name}, name), do: {:ok, name}
  defp same(_another, name), do: fault("its unprotected algorithm is not #{name}")

  defp expected(name, expected) do
    if expected == nil or name in expected,
      do: {:ok, name},
      else: fault("its algorithm is #{name}, which is not expected")
  end

  defp payload(nil, nil), do: malformed("its payload is detached; give payload:")
  defp payload(nil, given), do: {:ok, Cryptoki.Bytes.binary!(given, "payload:")}
  defp payload(shown, nil), do: {:ok, shown}

  defp payload(_shown, _given) do
    text = "payload: it is for a detached message, and this one has a payload"
    {:error, Error.new(:invalid_argument, text)}
  end

  defp malformed(detail), do: fault("this is no COSE_Sign1: " <> detail)
  defp fault(detail), do: {:error, Error.new(:signature_invalid, detail)}
end
