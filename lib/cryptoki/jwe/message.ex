defmodule Cryptoki.JWE.Message do
  @moduledoc false
  # A JWE as it came (RFC 7516, section 7), compact or JSON: all of it may be from anybody, so nothing in it raises,
  # and nothing is believed. Pure.

  alias Cryptoki.{Base64URL, Each, Error, JSON}
  alias Cryptoki.JWE.Encryption
  alias Cryptoki.JWS

  # Chains of certificates fit into a header.
  @header 48 * 1024
  @key 16 * 1024
  @recipients 100
  # Of a header; they are compared for each recipient.
  @names 100
  @registered ~w[alg enc zip jku jwk kid x5u x5c x5t x5t#S256 typ cty crit epk apu apv iv tag p2s p2c]

  @typedoc "One for whom it is: all that is said of it, by whomever, and its encrypted key."
  @type recipient :: %{header: map, encrypted_key: binary}
  @type t :: %{
          protected: map,
          unprotected: map,
          recipients: [recipient],
          encryption: Encryption.t(),
          sealed: Encryption.sealed()
        }

  @doc "What it says; `crit` are the extensions that are understood, `enc` those that are expected, or `nil`."
  @spec read(binary, [String.t()], [String.t()] | nil) :: {:ok, t} | {:error, Error.t()}
  def read(jwe, crit, enc) do
    with {:ok, parts} <- parts(jwe),
         {:ok, protected} <- protected(parts),
         {:ok, recipients} <- recipients(parts, protected),
         :ok <- each(recipients, &header(&1.header, protected, crit)),
         {:ok, encryption} <- encryption(recipients, enc),
         {:ok, sealed} <- sealed(parts),
         :ok <- fits(encryption, sealed) do
      {:ok,
       %{
         protected: protected,
         unprotected: parts["unprotected"] || %{},
         recipients: recipients,
         encryption: encryption,
         sealed: sealed
       }}
    end
  end

  ## The two forms

  defp parts(jwe) do
    if jwe =~ ~r/\A[ \t\r\n]*\{/, do: json(jwe), else: compact(jwe)
  end

  defp compact(jwe) do
    case String.split(jwe, ".", parts: 6) do
      [protected, key, iv, ciphertext, tag] ->
        {:ok,
         %{
           "protected" => protected,
           "encrypted_key" => key,
           "iv" => iv,
           "ciphertext" => ciphertext,
           "tag" => tag
         }}

      _other ->
        malformed("it has neither five parts nor is it JSON")
    end
  end

  @texts ~w[protected encrypted_key iv ciphertext tag aad]

  defp json(text) do
    with {:ok, %{} = parts} <- JSON.decode(text),
         true <- Enum.all?(@texts, &(is_binary(parts[&1]) or not is_map_key(parts, &1))),
         true <-
           Enum.all?(~w[unprotected header], &(is_map(parts[&1]) or not is_map_key(parts, &1))),
         true <- is_binary(parts["ciphertext"]) do
      {:ok, parts}
    else
      _none -> malformed("its JSON is not that of a JWE")
    end
  end

  defp protected(%{"protected" => text}) when text != "" do
    with true <- 3 * byte_size(text) <= 4 * @header,
         {:ok, json} <- Base64URL.decode(text),
         {:ok, %{} = header} <- JSON.decode(json),
         do: {:ok, header},
         else: (_none -> malformed("its header is not a JSON object in base64url"))
  end

  defp protected(_without), do: {:ok, %{}}

  ## Recipients

  defp recipients(%{"recipients" => list} = parts, protected) when is_list(list) do
    cond do
      is_map_key(parts, "header") or is_map_key(parts, "encrypted_key") ->
        malformed("it has recipients, and one besides them")

      length(list) not in 1..@recipients ->
        malformed("it has 1 to #{@recipients} recipients")

      true ->
        Each.of(list, &recipient(&1, parts, protected))
    end
  end

  defp recipients(%{"recipients" => _other}, _protected),
    do: malformed("its recipients are no list")

  defp recipients(parts, protected), do: Each.of([parts], &recipient(&1, parts, protected))

  # No name twice, in whichever of them (section 7.2.1).
  defp recipient(recipient, parts, protected) when is_map(recipient) do
    headers = [protected, parts["unprotected"] || %{}, recipient["header"] || %{}]
    key = recipient["encrypted_key"] || ""

    with true <- Enum.all?(headers, &(is_map(&1) and map_size(&1) <= @names)),
         names = Enum.flat_map(headers, &Map.keys/1),
         true <- names == Enum.uniq(names) and is_binary(key),
         true <- 3 * byte_size(key) <= 4 * @key,
         {:ok, key} <- Base64URL.decode(key) do
      {:ok, %{header: Enum.reduce(headers, &Map.merge/2), encrypted_key: key}}
    else
      _none -> malformed("a recipient has no header and key as it should have")
    end
  end

  defp recipient(_other, _parts, _protected), do: malformed("a recipient is no JSON object")

  defp each(recipients, fun),
    do: Enum.find_value(recipients, :ok, &with(:ok <- fun.(&1), do: nil))

  defp header(header, protected, crit) do
    cond do
      is_map_key(header, "zip") -> fault("it is compressed (zip), which is not here")
      not crit?(header, protected, crit) -> fault("crit is wrong or names what is not understood")
      true -> :ok
    end
  end

  # Only what is protected counts (section 4.1.13).
  defp crit?(%{"crit" => names}, protected, understood) do
    is_map_key(protected, "crit") and JWS.Options.critical?(names, protected, @registered) and
      names -- understood == []
  end

  defp crit?(_header, _protected, _understood), do: true

  @doc "The names of members that are those of no extension."
  @spec registered() :: [String.t()]
  def registered, do: @registered

  ## Content

  # One for all of them.
  defp encryption(recipients, expected) do
    with [name] when is_binary(name) <- Enum.uniq(Enum.map(recipients, & &1.header["enc"])),
         {:expected, true, _name} <- {:expected, expected == nil or name in expected, name},
         {:ok, encryption} <- Encryption.fetch(name) do
      {:ok, encryption}
    else
      {:expected, false, name} ->
        fault("its encryption is #{JWS.Algorithm.quoted(name)}, which is not expected")

      :error ->
        fault("its encryption is none that is here")

      _not_one ->
        malformed("its header names no encryption")
    end
  end

  defp sealed(parts) do
    with {:ok, iv} <- decoded(parts, "iv"),
         {:ok, ciphertext} <- decoded(parts, "ciphertext"),
         {:ok, tag} <- decoded(parts, "tag"),
         {:ok, _aad} <- decoded(parts, "aad") do
      {:ok, %{iv: iv, ciphertext: ciphertext, tag: tag, aad: aad(parts)}}
    end
  end

  # As it came (section 5.1, step 14).
  defp aad(%{"aad" => aad} = parts), do: (parts["protected"] || "") <> "." <> aad
  defp aad(parts), do: parts["protected"] || ""

  defp decoded(parts, name) do
    with :error <- Base64URL.decode(parts[name] || ""),
         do: malformed("its #{name} is not base64url")
  end

  defp fits(encryption, sealed) do
    if Encryption.fits?(encryption, sealed),
      do: :ok,
      else: malformed("its iv, ciphertext or tag have not the length that they have")
  end

  defp malformed(detail), do: fault("this is no JWE: " <> detail)

  @doc "What is wrong with it for all to see."
  @spec fault(String.t()) :: {:error, Error.t()}
  def fault(detail), do: {:error, Error.new(:encrypted_data_invalid, detail)}
end
