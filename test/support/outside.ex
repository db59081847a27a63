defmodule Cryptoki.Test.Outside do
  @moduledoc false
  # What a token computes, computed without it: by :crypto, by OpenSSL's command where :crypto has no name
  # for it, and by a few lines after the standard where neither does (each with its published example in
  # test/referee/outside_test.exs).

  alias Cryptoki.Test.{OpenSSL, SoftHSM}

  ## Hashes and MACs

  @doc "The name that :crypto has for the hash of a mechanism."
  @spec hash_name(atom) :: atom
  def hash_name(:sha_1), do: :sha
  def hash_name(:sha1), do: :sha
  def hash_name(hash), do: hash

  @doc "A digest; the hash is named as its mechanism is."
  @spec hash(atom, iodata) :: binary
  def hash(hash, data) when hash in [:sha512_224, :sha512_256],
    do: run(~w(dgst -binary -#{dashes(hash)} -out) ++ [:out, :in], data)

  def hash(hash, data), do: :crypto.hash(hash_name(hash), data)

  @doc "HMAC with this hash."
  @spec hmac(atom, binary, iodata) :: binary
  def hmac(hash, key, data) when hash in [:sha512_224, :sha512_256] do
    # FIPS 198-1; a block of these is 128 bytes.
    key = if byte_size(key) > 128, do: hash(hash, key), else: key
    zeros = 8 * (128 - byte_size(key))
    key = <<key::binary, 0::size(zeros)>>
    [inner, outer] = for byte <- [0x36, 0x5C], do: :crypto.exor(key, :binary.copy(<<byte>>, 128))
    hash(hash, [outer, hash(hash, [inner, data])])
  end

  def hmac(hash, key, data), do: :crypto.mac(:hmac, hash_name(hash), key, data)

  @doc "AES-CMAC (RFC 4493)."
  @spec aes_cmac(binary, iodata) :: binary
  def aes_cmac(key, data), do: :crypto.mac(:cmac, :"aes_#{bit_size(key)}_cbc", key, data)

  ## Ciphers

  @doc "Encrypts with one of OpenSSL's ciphers, which :crypto may not have, without padding."
  @spec encrypt(String.t(), binary, binary, iodata) :: binary
  def encrypt(cipher, key, iv, data),
    do:
      run(
        ~w(enc -e -#{cipher} -nopad -K #{hex(key)} -iv #{hex(iv)} -in) ++ [:in, "-out", :out],
        data
      )

  ## Key wrapping

  @kw_iv <<0xA6A6A6A6A6A6A6A6::64>>
  @kwp_iv <<0xA65959A6::32>>

  @doc "AES key wrap (RFC 3394)."
  @spec key_wrap(binary, binary, binary) :: binary
  def key_wrap(kek, data, iv \\ @kw_iv) when rem(byte_size(data), 8) == 0 do
    registers = for <<r::binary-8 <- data>>, do: r
    steps = for j <- 0..5, i <- 1..length(registers), do: {i, length(registers) * j + i}

    {a, registers} =
      Enum.reduce(steps, {iv, registers}, fn {i, t}, {a, registers} ->
        <<a::64, r::binary-8>> = ecb(kek, a <> Enum.at(registers, i - 1), true)
        {<<Bitwise.bxor(a, t)::64>>, List.replace_at(registers, i - 1, r)}
      end)

    IO.iodata_to_binary([a | registers])
  end

  @doc "What was wrapped so, or `:error` when it was not with this key and IV."
  @spec key_unwrap(binary, binary, binary) :: {:ok, binary} | :error
  def key_unwrap(kek, wrapped, iv \\ @kw_iv) do
    case unwrap(kek, wrapped) do
      {^iv, data} -> {:ok, data}
      _another -> :error
    end
  end

  defp unwrap(kek, <<a::binary-8, rest::binary>>) do
    registers = for <<r::binary-8 <- rest>>, do: r
    n = length(registers)
    steps = for j <- 5..0//-1, i <- n..1//-1, do: {i, n * j + i}

    {a, registers} =
      Enum.reduce(steps, {a, registers}, fn {i, t}, {<<a::64>>, registers} ->
        input = <<Bitwise.bxor(a, t)::64>> <> Enum.at(registers, i - 1)
        <<a::binary-8, r::binary-8>> = ecb(kek, input, false)
        {a, List.replace_at(registers, i - 1, r)}
      end)

    {a, IO.iodata_to_binary(registers)}
  end

  @doc "AES key wrap with padding (RFC 5649), for data of any length but 0."
  @spec key_wrap_pad(binary, binary) :: binary
  def key_wrap_pad(kek, data) do
    zeros = 8 * Integer.mod(-byte_size(data), 8)
    iv = @kwp_iv <> <<byte_size(data)::32>>
    padded = <<data::binary, 0::size(zeros)>>
    if byte_size(padded) == 8, do: ecb(kek, iv <> padded, true), else: key_wrap(kek, padded, iv)
  end

  @doc "What was wrapped so, or `:error`."
  @spec key_unwrap_pad(binary, binary) :: {:ok, binary} | :error
  def key_unwrap_pad(kek, wrapped) do
    {iv, padded} =
      if byte_size(wrapped) == 16 do
        <<iv::binary-8, padded::binary-8>> = ecb(kek, wrapped, false)
        {iv, padded}
      else
        unwrap(kek, wrapped)
      end

    with <<@kwp_iv, size::32>> when size <= byte_size(padded) <- iv,
         {data, zeros} when byte_size(zeros) < 8 <- :erlang.split_binary(padded, size),
         ^zeros <- :binary.copy(<<0>>, byte_size(zeros)) do
      {:ok, data}
    else
      _another -> :error
    end
  end

  defp ecb(key, block, encrypt),
    do: :crypto.crypto_one_time(:"aes_#{bit_size(key)}_ecb", key, block, encrypt)

  @doc "PKCS #7 padding."
  @spec pkcs7(binary, pos_integer) :: binary
  def pkcs7(data, block) do
    size = block - rem(byte_size(data), block)
    data <> :binary.copy(<<size>>, size)
  end

  ## Key derivation

  @doc "HKDF (RFC 5869), both steps."
  @spec hkdf(atom, binary, binary, binary, pos_integer) :: binary
  def hkdf(hash, secret, salt, info, size),
    do: hash |> hkdf_extract(secret, salt) |> then(&hkdf_expand(hash, &1, info, size))

  @spec hkdf_extract(atom, binary, binary) :: binary
  def hkdf_extract(hash, secret, ""), do: hkdf_extract(hash, secret, zeros(hash))
  def hkdf_extract(hash, secret, salt), do: hmac(hash, salt, secret)

  @spec hkdf_expand(atom, binary, binary, pos_integer) :: binary
  def hkdf_expand(hash, key, info, size) do
    collect(size, "", fn previous, counter -> hmac(hash, key, [previous, info, counter]) end)
  end

  defp zeros(hash), do: :binary.copy(<<0>>, byte_size(hash(hash, "")))

  @doc "The KDF of ANSI X9.63 (SEC 1, section 3.6.1)."
  @spec x963(atom, binary, binary, pos_integer) :: binary
  def x963(hash, secret, shared, size) do
    collect(size, "", fn _previous, counter -> hash(hash, [secret, <<counter::32>>, shared]) end)
  end

  @doc "The concatenation KDF of SP 800-56A: the counter comes first."
  @spec concat_kdf(atom, binary, binary, pos_integer) :: binary
  def concat_kdf(hash, secret, shared, size) do
    collect(size, "", fn _previous, counter -> hash(hash, [<<counter::32>>, secret, shared]) end)
  end

  @doc "SP 800-108, counter mode: `prf` of what `input` makes of the counter."
  @spec counter_kdf((iodata -> binary), (pos_integer -> iodata), pos_integer) :: binary
  def counter_kdf(prf, input, size),
    do: collect(size, "", fn _previous, counter -> prf.(input.(counter)) end)

  @doc "SP 800-108, feedback mode: `input` gets the last block, or the IV, and the counter."
  @spec feedback_kdf((iodata -> binary), binary, (binary, pos_integer -> iodata), pos_integer) ::
          binary
  def feedback_kdf(prf, iv, input, size),
    do: collect(size, iv, fn previous, counter -> prf.(input.(previous, counter)) end)

  defp collect(size, first, block, counter \\ 1, done \\ "")

  defp collect(size, _previous, _block, _counter, done) when byte_size(done) >= size,
    do: binary_part(done, 0, size)

  defp collect(size, previous, block, counter, done) do
    next = block.(previous, counter)
    collect(size, next, block, counter + 1, done <> next)
  end

  @doc "Prime and base of group 14 of RFC 3526, from OpenSSL."
  @spec dh_group :: {binary, binary}
  def dh_group do
    {pem, 0} = OpenSSL.openssl(~w(genpkey -genparam -algorithm DH -pkeyopt group:modp_2048))
    [entry] = :public_key.pem_decode(pem)
    {:DHParameter, prime, base, _length} = :public_key.pem_entry_decode(entry)
    {:binary.encode_unsigned(prime), :binary.encode_unsigned(base)}
  end

  ## OpenSSL's command

  @doc "Runs `openssl`; `:in` among the arguments is a file with the data, `:out` one with the answer."
  @spec run([String.t() | :in | :out], iodata) :: binary
  def run(arguments, data) do
    input = Path.join(SoftHSM.directory(), "outside-#{System.unique_integer([:positive])}")
    output = input <> ".out"
    File.write!(input, data)

    try do
      arguments
      |> Enum.map(fn argument -> Map.get(%{in: input, out: output}, argument, argument) end)
      |> OpenSSL.openssl()
      |> case do
        {"", 0} -> File.read!(output)
        {text, _status} -> raise "openssl #{hd(arguments)}: #{text}"
      end
    after
      File.rm(input)
      File.rm(output)
    end
  end

  defp dashes(hash), do: hash |> to_string() |> String.replace("_", "-")
  defp hex(bytes), do: Base.encode16(bytes)
end
