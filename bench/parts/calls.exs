defmodule Bench.Calls do
  @moduledoc false
  # The calls that are measured, by the names that bench/limit.c has for them too.

  @digest :binary.copy(<<7>>, 32)
  @large 1_048_576
  @chunk 65_536
  @gcm {:aes_gcm, iv: :binary.copy(<<1>>, 12), tag_bits: 128}
  @cbc {:aes_cbc_pad, iv: :binary.copy(<<1>>, 16)}

  @doc "What is signed."
  @spec digest() :: binary
  def digest, do: @digest

  @doc "The keys that they need, on the token."
  @spec make_keys(Cryptoki.hsm()) :: :ok
  def make_keys(hsm) do
    ec = [label: "bench ec", curve: :secp256r1, token: true]
    {_, _} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, ec)
    rsa = [label: "bench rsa", modulus_bits: 2048, token: true]
    {_, _} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, rsa)
    hmac = [label: "bench hmac", value_len: 32, token: true, sign: true]
    _ = Cryptoki.generate_key!(hsm, :generic_secret_key_gen, hmac)
    aes = [label: "bench aes", value_len: 32, token: true, encrypt: true]
    _ = Cryptoki.generate_key!(hsm, :aes_key_gen, aes)
    :ok
  end

  @doc "A call of an instance, `by` a `%Cryptoki.Key{}` or a selector, with so many bytes of data where that is asked for."
  @spec of(Cryptoki.hsm(), binary, keyword) :: (() -> term)
  def of(hsm, case, opts \\ []) do
    size = opts[:size] || @large
    by = opts[:by] || :key
    call(case, hsm, by, size)
  end

  defp call("ecdsa", hsm, by, _size), do: sign(hsm, named(hsm, by, "ec", :private_key), :ecdsa)

  defp call("rsa", hsm, by, _size),
    do: sign(hsm, named(hsm, by, "rsa", :private_key), :sha256_rsa_pkcs)

  defp call("hmac", hsm, by, _size),
    do: sign(hsm, named(hsm, by, "hmac", :secret_key), :sha256_hmac)

  defp call("random", hsm, _by, _size), do: fn -> {:ok, _} = Cryptoki.random(hsm, 32) end

  defp call("sha256", hsm, _by, size) do
    data = :binary.copy(<<7>>, size)
    fn -> {:ok, _} = Cryptoki.digest(hsm, :sha256, data) end
  end

  defp call("gcm", hsm, by, size) do
    {key, data} = {named(hsm, by, "aes", :secret_key), :binary.copy(<<7>>, size)}
    fn -> {:ok, _} = Cryptoki.encrypt(hsm, key, @gcm, data) end
  end

  defp sign(hsm, key, mechanism),
    do: fn -> {:ok, _} = Cryptoki.sign(hsm, key, mechanism, @digest) end

  defp named(hsm, by, name, class) do
    selector = [label: "bench " <> name, class: class]
    if by == :key, do: Cryptoki.find_one!(hsm, selector), else: selector
  end

  @doc """
  Encrypts a stream of so many bytes in chunks of 64 KiB; answers chunks a second, and by how many bytes the memory of the process
  has grown since the first sixteenth of it.
  """
  @spec stream(Cryptoki.hsm(), pos_integer) :: {float, integer}
  def stream(hsm, size) do
    key = Cryptoki.find_one!(hsm, label: "bench aes")
    {count, chunk} = {div(size, @chunk), :binary.copy(<<7>>, @chunk)}
    begun = System.monotonic_time()
    chunks = Stream.repeatedly(fn -> chunk end) |> Stream.take(count)

    before =
      hsm
      |> Cryptoki.encrypt_stream(key, @cbc, chunks)
      |> Enum.reduce({0, nil}, fn _bytes, {done, before} ->
        {done + 1, if(done == div(count, 16), do: Bench.Measure.resident(), else: before)}
      end)
      |> elem(1)

    rate = count / Bench.Measure.seconds_since(begun)
    {rate, 1024 * (Bench.Measure.resident() - before)}
  end
end
