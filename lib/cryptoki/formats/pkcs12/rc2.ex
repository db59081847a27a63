defmodule Cryptoki.PKCS12.RC2 do
  @moduledoc false
  # RC2 (RFC 2268) in CBC mode, decryption only: what certificates in a PKCS #12 were encrypted with for twenty
  # years. OpenSSL has it where its legacy provider is installed, and `:crypto` not with 40 bits. Pure.

  import Bitwise

  # RFC 2268, section 2: a permutation of all bytes, out of the digits of pi.
  @pi "D978F9C419DDB5ED28E9FD794AA0D89DC67E37832B76538E624C6488448BFBA2179A59F587B34F1361456D8D09817D32" <>
        "BD8F40EB86B77B0BF09521225C6B4E8254D66593CE60B21C7356C014A78CF1DC1275CA1F3BBEE4D1423DD430A33CB626" <>
        "6FBF0EDA4669075727F21D9BBC944303F811C7F690EF3EE706C3D52FC8661ED708E8EADE8052EEF784AA72AC354D6A2A" <>
        "961AD2715A1549744B9FD05E0418A4ECC2E0416E0F51CBCC2491AF50A1F47039997C3A8523B8B47AFC02365B25559731" <>
        "2D5DFA98E38A92AE05DF2910676CBAC9D300E6CFE19EA82C6316013F58E289A90D38341BAB33FFB0BB480C5FB9B1CD2E" <>
        "C5F3DB47E5A59C770AA62068FE7FC1AD"
  @permutation @pi |> Base.decode16!() |> :binary.bin_to_list() |> List.to_tuple()

  @doc "The plaintext with its padding; the key is as long as it is strong. Of whole blocks of 8 bytes."
  @spec decrypt(key :: binary, iv :: <<_::64>>, binary) :: binary
  def decrypt(key, <<_::64>> = iv, data) when rem(byte_size(data), 8) == 0,
    do: blocks(data, iv, expanded(key), [])

  defp blocks("", _before, _words, done), do: done |> Enum.reverse() |> IO.iodata_to_binary()

  defp blocks(<<block::binary-8, rest::binary>>, before, words, done) do
    <<a::16-little, b::16-little, c::16-little, d::16-little>> = block

    {a, b, c, d} =
      {a, b, c, d}
      |> unmixed(63..44//-4, words)
      |> unmashed(words)
      |> unmixed(43..20//-4, words)
      |> unmashed(words)
      |> unmixed(19..3//-4, words)

    plain = <<a::16-little, b::16-little, c::16-little, d::16-little>>
    blocks(rest, block, words, [:crypto.exor(plain, before) | done])
  end

  # Section 4, each round backwards: `last` is the highest of its four words of the key.
  defp unmixed(state, lasts, words), do: Enum.reduce(lasts, state, &round(&2, &1, words))

  defp round({a, b, c, d}, last, words) do
    d = unmix(d, 5, elem(words, last), c, b, a)
    c = unmix(c, 3, elem(words, last - 1), b, a, d)
    b = unmix(b, 2, elem(words, last - 2), a, d, c)
    a = unmix(a, 1, elem(words, last - 3), d, c, b)
    {a, b, c, d}
  end

  defp unmix(word, places, key, one, two, three) do
    rotated = word >>> places ||| word <<< (16 - places)
    rotated - key - (one &&& two) - (bnot(one) &&& three) &&& 0xFFFF
  end

  defp unmashed({a, b, c, d}, words) do
    d = d - elem(words, c &&& 63) &&& 0xFFFF
    c = c - elem(words, b &&& 63) &&& 0xFFFF
    b = b - elem(words, a &&& 63) &&& 0xFFFF
    a = a - elem(words, d &&& 63) &&& 0xFFFF
    {a, b, c, d}
  end

  # Section 2: to 128 bytes, and back to what is as strong as the key, as 64 words.
  defp expanded(key) do
    size = byte_size(key)
    forth = longer(key |> :binary.bin_to_list() |> Enum.reverse(), size, 128 - size)
    [first | strong] = forth |> Enum.take(size) |> Enum.reverse()
    strong = [elem(@permutation, first) | strong]
    bytes = back(strong, size, 128 - size)

    words = for <<low, high <- IO.iodata_to_binary(bytes)>>, do: high <<< 8 ||| low

    List.to_tuple(words)
  end

  # The last byte first.
  defp longer(bytes, _size, 0), do: bytes

  defp longer([last | _] = bytes, size, left) do
    next = elem(@permutation, last + Enum.at(bytes, size - 1) &&& 0xFF)
    longer([next | bytes], size, left - 1)
  end

  defp back(bytes, _size, 0), do: bytes

  defp back([first | _] = bytes, size, left) do
    next = elem(@permutation, bxor(first, Enum.at(bytes, size - 1)))
    back([next | bytes], size, left - 1)
  end
end
