defmodule Cryptoki.ContentKey.OAEP do
  @moduledoc false
  # RSA-OAEP (RFC 8017, section 7.1.2): as a mechanism, and taken off here, for tokens that have it with other
  # hashes only. Pure.

  alias Cryptoki.{Mechanism, Prehash}

  @typedoc "The hashes as `:crypto` has them."
  @type t :: %{hash: atom, mgf: atom, label: binary}

  @doc "The mechanism of a token."
  @spec mechanism(t) :: Mechanism.spec()
  def mechanism(%{hash: hash, mgf: mgf, label: label}),
    do: {:rsa_pkcs_oaep, hash: named(hash), mgf: generator(mgf), label: label}

  defp named(:sha), do: :sha_1
  defp named(hash), do: hash

  defp generator(:sha), do: :mgf1_sha1
  defp generator(hash), do: :"mgf1_#{hash}"

  @doc """
  The message in what raw RSA gave, of a modulus of so many bytes; "" for what is none, found out after all of
  it was looked at, and by nothing in it that could be told from something else.
  """
  @spec decode(t, binary, pos_integer) :: binary
  def decode(%{hash: hash, mgf: mgf, label: label}, raw, size) do
    digest = :crypto.hash(hash, label)
    length = byte_size(digest)

    if size < 2 * length + 2 or byte_size(raw) > size do
      ""
    else
      <<first, masked::binary>> = :binary.copy(<<0>>, size - byte_size(raw)) <> raw
      {seed, block} = :erlang.split_binary(masked, length)
      seed = :crypto.exor(seed, Prehash.RSA.mask(mgf, block, length))

      mask = Prehash.RSA.mask(mgf, seed, byte_size(block))
      {found, rest} = block |> :crypto.exor(mask) |> :erlang.split_binary(length)

      {bad, at} = separator(rest, 0, 0, 0, 0)
      bad = first |> Bitwise.bor(bad) |> Bitwise.bor(difference(found, digest))
      # Both are made, whichever is taken.
      message = binary_part(rest, at, byte_size(rest) - at)
      elem({message, ""}, min(bad, 1))
    end
  end

  # Where the message begins: behind zeros and the first one; every byte is looked at.
  defp separator("", _place, found, bad, at), do: {Bitwise.bor(bad, 1 - found), at}

  defp separator(<<byte, rest::binary>>, place, found, bad, at) do
    one = equal(byte, 1)
    zero = equal(byte, 0)
    here = (1 - found) * one
    bad = Bitwise.bor(bad, (1 - found) * (1 - one) * (1 - zero))
    separator(rest, place + 1, Bitwise.bor(found, here), bad, at + here * (place + 1))
  end

  # 1 or 0, without a branch: of numbers of eight bits.
  defp equal(a, b), do: Bitwise.band(Bitwise.bsr(Bitwise.bxor(a, b) - 1, 8), 1)

  defp difference(a, b) do
    a |> :crypto.exor(b) |> :binary.bin_to_list() |> Enum.reduce(0, &Bitwise.bor/2)
  end
end
