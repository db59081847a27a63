defmodule Cryptoki.JWE.Algorithm do
  @moduledoc false
  # How a JWE has the key of its content (RFC 7518, section 4), and which keys each is for. Pure.

  alias Cryptoki.Base64URL
  alias Cryptoki.ContentKey.{Agreement, Holder}
  alias Cryptoki.JWE.Encryption
  alias Cryptoki.JWK.Public

  @algorithms %{
    "RSA-OAEP" => {:rsa, %{hash: :sha, mgf: :sha, label: ""}},
    "RSA-OAEP-256" => {:rsa, %{hash: :sha256, mgf: :sha256, label: ""}},
    "ECDH-ES" => {:agree, :direct},
    "ECDH-ES+A128KW" => {:agree, 16},
    "ECDH-ES+A192KW" => {:agree, 24},
    "ECDH-ES+A256KW" => {:agree, 32},
    "A128KW" => {:key_wrap, 16},
    "A192KW" => {:key_wrap, 24},
    "A256KW" => {:key_wrap, 32},
    "A128GCMKW" => {:gcm, 16},
    "A192GCMKW" => {:gcm, 24},
    "A256GCMKW" => {:gcm, 32},
    "dir" => {:direct, nil}
  }
  # RFC 7518, section 4.6.2: of what is agreed on both may say who they are.
  @party 512

  @curves ~w[secp256r1 secp384r1 secp521r1 x25519 x448]a

  @type way ::
          {:rsa, map}
          | {:agree, point :: binary, size :: :direct | pos_integer, info :: binary}
          | :key_wrap
          | {:gcm, iv :: binary, tag :: binary}
          | :direct

  @doc "The names."
  @spec names() :: [String.t()]
  def names, do: @algorithms |> Map.keys() |> Enum.sort()

  @spec fetch(term) :: {:ok, tuple} | :error
  def fetch(name), do: Map.fetch(@algorithms, name)

  @doc "Whether a key is one for an algorithm."
  @spec for?(String.t(), Holder.t()) :: boolean
  def for?(name, holder) do
    case @algorithms[name] do
      {:rsa, _oaep} -> holder.key_type == :rsa
      {:agree, _size} -> holder.curve in @curves
      {:direct, nil} -> aes?(holder)
      {_wrap, size} -> aes?(holder) and holder.size in [size, nil]
      nil -> false
    end
  end

  defp aes?(holder), do: holder.class == :secret_key and holder.key_type == :aes

  @doc "What a recipient's header says of its key, or a sentence that says what is wrong with it."
  @spec way(map, Encryption.t(), Holder.t()) :: {:ok, way} | {:error, String.t()}
  def way(%{"alg" => name} = header, encryption, holder) do
    case Map.fetch!(@algorithms, name) do
      {:rsa, oaep} -> {:ok, {:rsa, oaep}}
      {:agree, size} -> agree(header, size, encryption, holder)
      {:key_wrap, _size} -> {:ok, :key_wrap}
      {:gcm, _size} -> gcm(header)
      {:direct, nil} -> direct(encryption, holder)
    end
  end

  defp gcm(header) do
    with {:ok, <<_::96>> = iv} <- Base64URL.decode(header["iv"]),
         {:ok, <<_::128>> = tag} <- Base64URL.decode(header["tag"]),
         do: {:ok, {:gcm, iv, tag}},
         else: (_none -> {:error, "its header has no iv and tag of an encrypted key"})
  end

  defp direct(encryption, %{size: size}) do
    cond do
      not Encryption.single?(encryption) ->
        {:error, "#{elem(encryption, 0)} has two keys in one, which no key of a token is (dir)"}

      size not in [nil, Encryption.size(encryption)] ->
        {:error, "#{elem(encryption, 0)} wants a key of another length (dir)"}

      true ->
        {:ok, :direct}
    end
  end

  defp agree(header, size, encryption, %{curve: curve}) do
    with {:ok, point} <- ephemeral(header["epk"], curve),
         {:ok, apu} <- party(header["apu"]),
         {:ok, apv} <- party(header["apv"]) do
      {:ok, {:agree, point, size, info(header["alg"], size, encryption, apu, apv)}}
    end
  end

  defp ephemeral(%{} = epk, curve) do
    with true <- Public.kind(epk) == curve,
         {:ok, {{:ECPoint, point}, _parameters}} <- Public.read(epk),
         true <- Agreement.point?(point, curve),
         do: {:ok, point},
         else: (_none -> {:error, "its epk is no public key of the curve #{curve}"})
  end

  defp ephemeral(_none, _curve), do: {:error, "its header has no epk"}

  defp party(nil), do: {:ok, ""}

  defp party(text) do
    with {:ok, party} when byte_size(party) <= @party <- Base64URL.decode(text),
         do: {:ok, party},
         else: (_none -> {:error, "its apu or apv is not base64url of #{@party} bytes at most"})
  end

  @doc "What goes into an agreed key (RFC 7518, section 4.6.2)."
  @spec info(String.t(), :direct | pos_integer, Encryption.t(), binary, binary) :: binary
  def info(alg, size, encryption, apu, apv) do
    {name, bytes} =
      if size == :direct,
        do: {elem(encryption, 0), Encryption.size(encryption)},
        else: {alg, size}

    IO.iodata_to_binary([
      for(part <- [name, apu, apv], do: [<<byte_size(part)::32>>, part]),
      <<8 * bytes::32>>
    ])
  end
end
