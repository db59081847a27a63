defmodule Cryptoki.Test.PostQuantum do
  @moduledoc false
  # ML-DSA, SLH-DSA and ML-KEM outside the token: pq_referee of native/kryoptic_token, pure Rust, which the
  # script that builds Kryoptic puts beside it. Sets are called as their CKP_ are: `:ml_dsa_65`.

  alias Cryptoki.Test.{Outside, SoftHSM}

  # The last number of 2.16.840.1.101.3.4.2.
  @hashes %{
    sha256: 1,
    sha384: 2,
    sha512: 3,
    sha224: 4,
    sha3_224: 7,
    sha3_256: 8,
    sha3_384: 9,
    sha3_512: 10
  }

  @doc "What is signed for a message and a context: M' of FIPS 204, algorithms 2 and 4."
  @spec message(binary, binary, atom | nil) :: binary
  def message(data, context, hash \\ nil)
  def message(data, context, nil), do: <<0, byte_size(context), context::binary, data::binary>>

  def message(data, context, hash) do
    identifier = <<6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, Map.fetch!(@hashes, hash)>>

    <<1, byte_size(context), context::binary, identifier::binary,
      Outside.hash(hash, data)::binary>>
  end

  @spec valid?(atom, binary, binary, binary) :: boolean
  def valid?(set, public, message, signature) do
    case run(set, "verify", [public, message, signature], 0) do
      {:ok, []} -> true
      :no -> false
    end
  end

  @doc "The deterministic signature; of ML-DSA `secret` is the seed, of SLH-DSA the private key."
  @spec sign(atom, binary, binary) :: binary
  def sign(set, secret, message) do
    {:ok, [signature]} = run(set, "sign", [secret, message], 1)
    signature
  end

  @doc "Public and private key, as FIPS 203 and FIPS 204 write them, of a seed."
  @spec keygen(atom, binary) :: {public :: binary, private :: binary}
  def keygen(set, seed) do
    {:ok, [public, private]} = run(set, "keygen", [seed], 2)
    {public, private}
  end

  @spec encapsulate(atom, binary) :: {ciphertext :: binary, secret :: binary}
  def encapsulate(set, public) do
    {:ok, [ciphertext, secret]} = run(set, "encapsulate", [public], 2)
    {ciphertext, secret}
  end

  @spec decapsulate(atom, binary, binary) :: secret :: binary
  def decapsulate(set, seed, ciphertext) do
    {:ok, [secret]} = run(set, "decapsulate", [seed, ciphertext], 1)
    secret
  end

  defp run(set, command, inputs, outputs) do
    name = "post-quantum-#{System.unique_integer([:positive])}"
    directory = Path.join(SoftHSM.directory(), name)
    File.mkdir_p!(directory)
    files = for n <- 1..(length(inputs) + outputs), do: Path.join(directory, "#{n}")
    for {file, bytes} <- Enum.zip(files, inputs), do: File.write!(file, bytes)
    set = set |> to_string() |> String.replace("_", "-")

    try do
      case System.cmd(referee(), [set, command | files], stderr_to_stdout: true) do
        {"", 0} -> {:ok, files |> Enum.drop(length(inputs)) |> Enum.map(&File.read!/1)}
        {"", 1} -> :no
        {text, _status} -> raise text
      end
    after
      File.rm_rf!(directory)
    end
  end

  defp referee do
    library = System.fetch_env!("CRYPTOKI_TEST_KRYOPTIC")
    referee = Path.join(Path.dirname(library), "pq_referee")

    if File.exists?(referee),
      do: referee,
      else: raise("#{referee} is missing: test/support/tokens/kryoptic builds it")
  end
end
