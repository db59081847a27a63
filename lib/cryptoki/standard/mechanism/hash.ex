# What mechanisms need to know about hash functions.
defmodule Cryptoki.Mechanism.Hash do
  @moduledoc false

  alias Cryptoki.Names

  # mechanism => {bytes of a digest, mask generation function of PKCS #1}
  @hashes %{
    sha_1: {20, :mgf1_sha1},
    sha224: {28, :mgf1_sha224},
    sha256: {32, :mgf1_sha256},
    sha384: {48, :mgf1_sha384},
    sha512: {64, :mgf1_sha512},
    sha512_224: {28, nil},
    sha512_256: {32, nil},
    sha512_t: {nil, nil},
    sha3_224: {28, :mgf1_sha3_224},
    sha3_256: {32, :mgf1_sha3_256},
    sha3_384: {48, :mgf1_sha3_384},
    sha3_512: {64, :mgf1_sha3_512},
    blake2b_160: {20, nil},
    blake2b_256: {32, nil},
    blake2b_384: {48, nil},
    blake2b_512: {64, nil},
    md2: {16, nil},
    md5: {16, nil},
    ripemd128: {16, nil},
    ripemd160: {20, nil},
    gostr3411: {32, nil},
    fasthash: {40, nil}
  }

  # How other mechanisms spell it. Longest first: sha512_256_hmac is not one of SHA-512.
  spellings =
    [{"sha1", :sha_1} | for({hash, _} <- @hashes, do: {Atom.to_string(hash), hash})]
    |> Enum.sort_by(fn {spelling, _} -> -byte_size(spelling) end)

  carries? = fn mechanism, spelling ->
    mechanism == spelling or String.starts_with?(mechanism, spelling <> "_") or
      String.ends_with?(mechanism, "_" <> spelling)
  end

  @of_mechanism for {mechanism, _} <- Names.all(:mechanism),
                    {_, hash} <- [Enum.find(spellings, &carries?.("#{mechanism}", elem(&1, 0)))],
                    into: %{},
                    do: {mechanism, hash}

  @doc "The hash functions, as names of mechanisms."
  @spec names() :: [atom]
  def names, do: Map.keys(@hashes)

  @doc "The hash a mechanism carries in its name, or `nil`."
  @spec of_mechanism(Names.name_or_code()) :: atom | nil
  def of_mechanism(mechanism), do: Map.get(@of_mechanism, mechanism)

  @doc "Bytes of a digest, or `nil`."
  @spec size(Names.name_or_code()) :: pos_integer | nil
  def size(hash), do: @hashes |> Map.get(hash, {nil, nil}) |> elem(0)

  @doc "The mask generation function of PKCS #1 with this hash, or `nil`."
  @spec mgf(Names.name_or_code()) :: atom | nil
  def mgf(hash), do: @hashes |> Map.get(hash, {nil, nil}) |> elem(1)
end
