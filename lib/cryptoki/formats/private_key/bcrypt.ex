defmodule Cryptoki.PrivateKey.Bcrypt do
  @moduledoc false
  # bcrypt_pbkdf, by which OpenSSH makes keys of passwords (OpenBSD's bcrypt_pbkdf(3)): PBKDF2 in another order, with
  # bcrypt as its function, and that with SHA-512 before it. Nothing in OTP computes it. Blowfish's boxes change with
  # each key; here they are tuples of tuples, of which a change copies little. Pure.

  import Bitwise

  # Words of Blowfish's state: 18, and four boxes of 256. It begins as the fraction of pi (Machin's formula).
  @words 18 + 4 * 256
  @bits 32 * @words
  @guard 64

  arctangent = fn inverse ->
    square = inverse * inverse
    one = div(1 <<< (@bits + @guard), inverse)

    {one, 1, 1}
    |> Stream.iterate(fn {power, n, sign} -> {div(power, square), n + 2, -sign} end)
    |> Stream.drop(1)
    |> Enum.reduce_while(one, fn
      {0, _n, _sign}, sum -> {:halt, sum}
      {power, n, sign}, sum -> {:cont, sum + sign * div(power, n)}
    end)
  end

  pi = 16 * arctangent.(5) - 4 * arctangent.(239)
  fraction = pi >>> @guard &&& (1 <<< @bits) - 1
  words = for <<(word::32 <- <<fraction::size(@bits)>>)>>, do: word

  leaves = fn words -> words |> Enum.chunk_every(16) |> Enum.map(&List.to_tuple/1) end
  {p, boxes} = Enum.split(words, 18)

  @p List.to_tuple(p)
  @boxes boxes
         |> Enum.chunk_every(256)
         |> Enum.map(&List.to_tuple(leaves.(&1)))
         |> List.to_tuple()

  @text for <<word::32 <- "OxychromaticBlowfishSwatDynamite">>, do: word
  @block 32

  @doc "So many bytes of it."
  @spec pbkdf(binary, binary, pos_integer, pos_integer) :: binary
  def pbkdf(password, salt, rounds, size) do
    pass = :crypto.hash(:sha512, password)
    count = div(size + @block - 1, @block)
    blocks = for number <- 1..count, do: block(pass, <<salt::binary, number::32>>, rounds)

    # Not one behind the other: a byte of each in turn.
    for at <- 0..(size - 1), into: <<>> do
      <<:binary.at(Enum.at(blocks, rem(at, count)), div(at, count))>>
    end
  end

  defp block(pass, salt, rounds) do
    first = hash(pass, :crypto.hash(:sha512, salt))

    {_last, all} =
      Enum.reduce(2..rounds//1, {first, first}, fn _round, {last, all} ->
        next = hash(pass, :crypto.hash(:sha512, last))
        {next, :crypto.exor(all, next)}
      end)

    all
  end

  ## bcrypt

  @zeros List.duplicate(0, 16)

  defp hash(pass, salt) do
    pass = words(pass)
    salt = words(salt)

    {p, boxes} =
      Enum.reduce(1..64, expanded({@p, @boxes}, pass, salt), fn _round, state ->
        state |> expanded(salt, @zeros) |> expanded(pass, @zeros)
      end)

    for word <- Enum.reduce(1..64, @text, fn _round, text -> encrypted(text, p, boxes) end),
        into: <<>>,
        do: <<word::32-little>>
  end

  defp words(bytes), do: for(<<word::32 <- bytes>>, do: word)

  defp encrypted([], _p, _boxes), do: []

  defp encrypted([left, right | rest], p, boxes) do
    {left, right} = encipher(left, right, p, boxes)
    [left, right | encrypted(rest, p, boxes)]
  end

  # The key into the first words; then each pair of the state is the encryption of the pair before it, into which
  # the salt goes. Both have 16 words, which come again and again.
  defp expanded({p, boxes}, key, salt) do
    p =
      p
      |> Tuple.to_list()
      |> Enum.zip(Stream.cycle(key))
      |> Enum.map(fn {word, of_key} -> bxor(word, of_key) end)
      |> List.to_tuple()

    {p, left, right, salts} = first(p, boxes, 0, 0, 0, salt, salt)
    {boxes, _left, _right, _salts} = box(p, boxes, 0, left, right, salts, salt)
    {p, boxes}
  end

  defp first(p, _boxes, 18, left, right, salts, _salt), do: {p, left, right, salts}

  defp first(p, boxes, at, left, right, [], salt),
    do: first(p, boxes, at, left, right, salt, salt)

  defp first(p, boxes, at, left, right, [one, two | salts], salt) do
    {left, right} = encipher(bxor(left, one), bxor(right, two), p, boxes)
    p = p |> put_elem(at, left) |> put_elem(at + 1, right)
    first(p, boxes, at + 2, left, right, salts, salt)
  end

  # Each box of 256 words, two at a time; `at` counts through all four.
  defp box(_p, boxes, 1024, left, right, salts, _salt), do: {boxes, left, right, salts}
  defp box(p, boxes, at, left, right, [], salt), do: box(p, boxes, at, left, right, salt, salt)

  defp box(p, boxes, at, left, right, [one, two | salts], salt) do
    {left, right} = encipher(bxor(left, one), bxor(right, two), p, boxes)
    box = elem(boxes, at >>> 8)
    leaf = elem(box, at >>> 4 &&& 15)
    leaf = leaf |> put_elem(at &&& 15, left) |> put_elem((at &&& 15) + 1, right)
    boxes = put_elem(boxes, at >>> 8, put_elem(box, at >>> 4 &&& 15, leaf))
    box(p, boxes, at + 2, left, right, salts, salt)
  end

  ## Blowfish

  defmacrop f(x) do
    quote do
      x = unquote(x)

      (elem(elem(var!(a), x >>> 28), x >>> 24 &&& 15) +
         elem(elem(var!(b), x >>> 20 &&& 15), x >>> 16 &&& 15))
      |> bxor(elem(elem(var!(c), x >>> 12 &&& 15), x >>> 8 &&& 15))
      |> Kernel.+(elem(elem(var!(d), x >>> 4 &&& 15), x &&& 15))
      |> band(0xFFFFFFFF)
    end
  end

  defp encipher(left, right, p, {a, b, c, d}) do
    {p0, p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11, p12, p13, p14, p15, p16, p17} = p

    left = bxor(left, p0)
    right = f(left) |> bxor(p1) |> bxor(right)
    left = f(right) |> bxor(p2) |> bxor(left)
    right = f(left) |> bxor(p3) |> bxor(right)
    left = f(right) |> bxor(p4) |> bxor(left)
    right = f(left) |> bxor(p5) |> bxor(right)
    left = f(right) |> bxor(p6) |> bxor(left)
    right = f(left) |> bxor(p7) |> bxor(right)
    left = f(right) |> bxor(p8) |> bxor(left)
    right = f(left) |> bxor(p9) |> bxor(right)
    left = f(right) |> bxor(p10) |> bxor(left)
    right = f(left) |> bxor(p11) |> bxor(right)
    left = f(right) |> bxor(p12) |> bxor(left)
    right = f(left) |> bxor(p13) |> bxor(right)
    left = f(right) |> bxor(p14) |> bxor(left)
    right = f(left) |> bxor(p15) |> bxor(right)
    left = f(right) |> bxor(p16) |> bxor(left)
    {bxor(right, p17), left}
  end
end
