defmodule Cryptoki.PrivateKey.RSA do
  @moduledoc false
  # RSAPrivateKey (RFC 8017, appendix A.1.2): eight numbers, of which six follow from the other two. One that
  # does not is told by its name: a token may sign with it, and such a signature can give away the key. Pure.

  alias Cryptoki.DER
  alias Cryptoki.DER.Reader
  alias Cryptoki.PrivateKey
  alias Cryptoki.PublicKey.{Info, OID}

  @rsa OID.rsa()

  # As the standards for files and for tokens call them.
  @numbers [
    modulus: "modulus",
    public_exponent: "publicExponent",
    private_exponent: "privateExponent",
    prime_1: "prime1",
    prime_2: "prime2",
    exponent_1: "exponent1",
    exponent_2: "exponent2",
    coefficient: "coefficient"
  ]
  # More than there may be, so that this can be said.
  @most 4096

  @spec read(Reader.t()) :: PrivateKey.t()
  def read(value) do
    fields = [{"version", 2}] ++ for({_, name} <- @numbers, do: {name, 2})
    all = Reader.fields(Reader.is!(value, 0x30), fields ++ [{:maybe, "otherPrimeInfos", 0x30}])
    [version | fields] = all
    {fields, [others]} = Enum.split(fields, length(@numbers))
    :ok = two_primes(Reader.integer(version), version, others)

    parts = Enum.zip(Keyword.keys(@numbers), fields)
    numbers = Map.new(parts, fn {name, field} -> {name, number(field)} end)
    public = public(numbers, value)
    with {name, text} <- fault(numbers), do: Reader.wrong!(Keyword.fetch!(parts, name), text)

    attributes = for {name, number} <- numbers, do: {name, :binary.encode_unsigned(number)}

    %PrivateKey{
      type: :rsa,
      public: public,
      public_attributes:
        [key_type: :rsa] ++ Keyword.take(attributes, [:modulus, :public_exponent]),
      attributes: [key_type: :rsa] ++ attributes
    }
  end

  defp two_primes(0, _version, nil), do: :ok

  defp two_primes(1, _version, others) when others != nil do
    text = "private key: it has more than two primes, and PKCS #11 has no place for them"
    Reader.refuse!(:unsupported, text)
  end

  defp two_primes(_no, version, _others),
    do: Reader.wrong!(version, "there is no such version of PKCS #1")

  defp number(field) do
    number = Reader.integer(field, @most)
    if number < 1, do: Reader.wrong!(field, "it is not positive"), else: number
  end

  # Held to what is asked of the key of a certificate.
  defp public(%{modulus: modulus, public_exponent: exponent}, value) do
    bits = DER.sequence([DER.integer(modulus), DER.integer(exponent)])
    info = PrivateKey.public_info([DER.oid(@rsa), DER.null()], bits)
    {:ok, public} = Reader.read(info, "", &Info.read/1)

    with {:error, reason, text} <- Info.check(public),
         do: Reader.wrong!(value, text, reason),
         else: (:ok -> public.key)
  end

  @doc "The key, when the public key that stands beside it is its own."
  @spec same!(PrivateKey.t(), Reader.t() | nil) :: PrivateKey.t()
  def same!(key, nil), do: key

  def same!(%{public: {:RSAPublicKey, modulus, exponent}} = key, public) do
    if Reader.bytes(public) == DER.sequence([DER.integer(modulus), DER.integer(exponent)]),
      do: key,
      else: Reader.wrong!(public, "it is the public key of another")
  end

  defp fault(%{modulus: n, public_exponent: e, private_exponent: d, prime_1: p, prime_2: q} = key) do
    cond do
      p * q != n -> {:modulus, "it is not the product of the two primes"}
      p < 3 -> {:prime_1, "it is no prime of such a key"}
      q < 3 -> {:prime_2, "it is no prime of such a key"}
      p == q -> {:prime_2, "it is the first prime again"}
      d >= n -> {:private_exponent, "it is not less than the modulus"}
      not inverse?(d, e, p - 1, q - 1) -> {:private_exponent, "it is not that of the public one"}
      key.exponent_1 != rem(d, p - 1) -> {:exponent_1, "it does not follow from the others"}
      key.exponent_2 != rem(d, q - 1) -> {:exponent_2, "it does not follow from the others"}
      key.coefficient >= p -> {:coefficient, "it is not less than the first prime"}
      rem(key.coefficient * q, p) != 1 -> {:coefficient, "it does not follow from the others"}
      not prime?(p) -> {:prime_1, "it is no prime"}
      not prime?(q) -> {:prime_2, "it is no prime"}
      true -> nil
    end
  end

  defp inverse?(d, e, p1, q1), do: rem(d * e, p1) == 1 and rem(d * e, q1) == 1

  # Fermat's test, with one base: who makes a number that passes it harms nobody but himself.
  defp prime?(p), do: :crypto.mod_pow(2, p - 1, p) == <<1>>
end
