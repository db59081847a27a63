defmodule Cryptoki.PrivateKey.PBKDF2 do
  @moduledoc false
  # A key out of a password as PBES2 and PBMAC1 make it: PBKDF2 (RFC 8018, section 5.2 and appendix A.2). Pure.

  alias Cryptoki.DER.Reader
  alias Cryptoki.SignatureAlgorithm.Identifier

  @pbkdf2 {1, 2, 840, 113_549, 1, 5, 12}
  @hashes %{
    {1, 2, 840, 113_549, 2, 7} => :sha,
    {1, 2, 840, 113_549, 2, 8} => :sha224,
    {1, 2, 840, 113_549, 2, 9} => :sha256,
    {1, 2, 840, 113_549, 2, 10} => :sha384,
    {1, 2, 840, 113_549, 2, 11} => :sha512
  }

  @typedoc "`iterations` and `length` are the fields: who reads them knows what they may be."
  @type t :: %{
          hash: atom,
          salt: binary,
          iterations: Reader.t(),
          length: Reader.t() | nil
        }

  @doc "What an AlgorithmIdentifier says; `:unknown` where it is no PBKDF2, or of a hash that is not known."
  @spec read(Reader.t()) :: t | :unknown
  def read(identifier) do
    with {@pbkdf2, %Reader{} = parameters} <- Identifier.parts(identifier),
         [salt, iterations, length, prf] = fields(parameters),
         hash when hash != :unknown <- if(prf, do: hash(prf), else: :sha),
         do: %{hash: hash, salt: Reader.octets(salt), iterations: iterations, length: length},
         else: (_other -> :unknown)
  end

  defp fields(parameters) do
    Reader.fields(Reader.is!(parameters, 0x30), [
      {"salt", 4},
      {"iterationCount", 2},
      {:maybe, "keyLength", 2},
      {:maybe, "prf", 0x30}
    ])
  end

  @doc "The hash of an HMAC, as `:crypto` has it."
  @spec hash(Reader.t()) :: atom
  def hash(identifier) do
    {oid, parameters} = Identifier.parts(identifier)
    if parameters, do: Reader.null(parameters)
    Map.get(@hashes, oid, :unknown)
  end

  @doc "So many bytes of it."
  @spec derive(t, binary, pos_integer, pos_integer) :: {:ok, binary} | :error
  def derive(%{hash: hash, salt: salt}, password, count, size) do
    {:ok, :crypto.pbkdf2_hmac(hash, password, salt, count, size)}
  rescue
    # What :crypto raises has the password, or the key, in its stack trace.
    _no_such_hash -> :error
  end
end
