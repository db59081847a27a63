defmodule Cryptoki.Ecdsa do
  @moduledoc false
  # The two forms of an ECDSA signature: r and s one after the other, as PKCS #11 has it (v3.2,
  # section 6.3.1), and the DER that X.509, CMS and TLS want. And which tokens know ECDSA, but not together
  # with a hash.

  alias Cryptoki.{DER, Error, Names}
  alias Cryptoki.DER.Reader

  @combined for hash <- ~w(sha1 sha224 sha256 sha384 sha512 sha3_224 sha3_256 sha3_384 sha3_512),
                do: :"ecdsa_#{hash}"

  @doc "Of the mechanisms with a hash those that a token with these mechanisms lacks, but could do."
  @spec missing([non_neg_integer]) :: [atom]
  def missing(mechanisms) do
    has? = &(code(&1) in mechanisms)
    if has?.(:ecdsa), do: Enum.reject(@combined, has?), else: []
  end

  defp code(name) do
    {:ok, code} = Names.code(:mechanism, name)
    code
  end

  @doc "The DER form of what a token gave."
  @spec to_der(binary) :: binary
  def to_der(raw) do
    {r, s} = :erlang.split_binary(raw, div(byte_size(raw), 2))
    der(:binary.decode_unsigned(r), :binary.decode_unsigned(s))
  end

  @doc "The DER form of both numbers."
  @spec der(non_neg_integer, non_neg_integer) :: binary
  def der(r, s), do: DER.sequence([DER.integer(r), DER.integer(s)])

  @doc """
  What a token wants: `size` bytes each. Anybody's bytes can come here: bad ones are no signature, and
  neither is what says the same in another encoding, or has bytes behind it.
  """
  @spec from_der(binary, pos_integer) :: {:ok, binary} | {:error, Error.t()}
  def from_der(der, size) do
    with {:ok, {r, s}} <- Reader.read(der, "", &numbers(&1, size + 1)),
         true <- min(r, s) >= 0 and max(r, s) < Integer.pow(256, size) do
      {:ok, <<r::unit(8)-size(size), s::unit(8)-size(size)>>}
    else
      _not_der ->
        {:error, Error.new(:signature_invalid, "it is not the DER of r and s of this curve")}
    end
  end

  defp numbers(value, most) do
    [r, s] = Reader.fields(Reader.is!(value, 0x30), [2, 2])
    {Reader.integer(r, most), Reader.integer(s, most)}
  end
end
