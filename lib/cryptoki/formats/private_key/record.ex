defmodule Cryptoki.PrivateKey.Record do
  @moduledoc false
  # Keys as `:public_key` has them. Pure.

  alias Cryptoki.{DER, Error, PrivateKey, PublicKey}
  alias Cryptoki.Attribute.Curve
  alias Cryptoki.DER.Reader
  alias Cryptoki.PrivateKey.{Parts, PostQuantum}
  alias Cryptoki.PublicKey.OID

  @what "private key: "
  @rsa OID.rsa()
  @ec OID.ec()
  @edwards PrivateKey.Elliptic.edwards_oids()

  # Those of OTP 29; public ones of OTP that has none for them are of no kind, as `Cryptoki.public_key/3` answers them.
  @private %{
    "ML-DSAPrivateKey": :ml_dsa,
    "ML-KEMPrivateKey": :ml_kem,
    "SLH-DSAPrivateKey": :slh_dsa
  }
  @public %{"ML-DSAPublicKey": :ml_dsa, "ML-KEMPublicKey": :ml_kem, "SLH-DSAPublicKey": :slh_dsa}

  @doc "Whether it is a record that could be a key, by its name and how many fields it has."
  @spec record?(term) :: boolean
  def record?(record) when is_tuple(record) and tuple_size(record) > 1 do
    case {elem(record, 0), tuple_size(record)} do
      {:RSAPrivateKey, 11} -> true
      # The sixth field is one of OTP 25 and newer.
      {:ECPrivateKey, size} -> size in [5, 6]
      {:RSAPublicKey, 3} -> true
      {{:ECPoint, point}, 2} -> is_binary(point)
      {:"SLH-DSAPrivateKey", size} -> size == 3
      {record, 4} -> is_map_key(@private, record)
      {record, 3} -> is_map_key(@public, record) or record == :SubjectPublicKeyInfo
      _other -> false
    end
  end

  def record?(_other), do: false

  @doc "The key."
  @spec read(tuple) :: {:ok, PrivateKey.t() | PublicKey.Given.t()} | {:error, Error.t()}
  def read({:RSAPrivateKey, version, n, e, d, p, q, dp, dq, qi, others}) do
    numbers = [n, e, d, p, q, dp, dq, qi]

    cond do
      not Enum.all?(numbers, &(is_integer(&1) and &1 >= 0)) -> wrong("its fields are no numbers")
      version not in [:"two-prime", 0] or others != :asn1_NOVALUE -> more_primes()
      true -> Parts.read({:rsa, numbers}, @what)
    end
  end

  def read(record) when elem(record, 0) == :ECPrivateKey do
    [:ECPrivateKey, _version, secret, curve, public | _attributes] = Tuple.to_list(record)
    point = if public != :asn1_NOVALUE, do: public

    with true <- is_binary(secret) and (is_binary(point) or point == nil),
         {:ok, oid} <- curve(curve) do
      if type = @edwards[oid],
        do: Parts.read({:edwards, type, secret, point}, @what),
        else: Parts.read({:ec, oid, secret, point}, @what)
    else
      false -> wrong("its fields are no bytes")
      error -> error
    end
  end

  def read({:RSAPublicKey, n, e}) when is_integer(n) and is_integer(e),
    do: public([DER.oid(@rsa), DER.null()], DER.sequence([DER.integer(n), DER.integer(e)]))

  def read({{:ECPoint, point}, curve}) do
    with {:ok, oid} <- curve(curve) do
      if is_map_key(@edwards, oid),
        do: public([DER.oid(oid)], point),
        else: public([DER.oid(@ec), DER.oid(oid)], point)
    end
  end

  def read({record, name, seed, value})
      when is_map_key(@private, record) and is_binary(seed) and is_binary(value) do
    post_quantum(
      record,
      name,
      for({part, <<_, _::binary>> = bytes} <- [seed: seed, value: value], do: {part, bytes})
    )
  end

  def read({:"SLH-DSAPrivateKey" = record, name, value}) when is_binary(value),
    do: post_quantum(record, name, value: value)

  def read({record, name, bytes}) when is_map_key(@public, record) and is_binary(bytes) do
    case PostQuantum.called(name, @public[record]) do
      {:ok, set} -> public([DER.oid(PostQuantum.oid(set))], bytes)
      :error -> no_set()
    end
  end

  def read({:SubjectPublicKeyInfo, {:AlgorithmIdentifier, oid, :asn1_NOVALUE}, bytes})
      when is_binary(bytes),
      do:
        if(DER.oid?(oid), do: public([DER.oid(oid)], bytes), else: wrong("its algorithm is none"))

  def read(_other), do: wrong("its fields are not those of such a record")

  defp post_quantum(record, name, parts) do
    with {:ok, set} <- PostQuantum.called(name, @private[record]),
         {:error, error} <- PostQuantum.of_parts(set, parts) do
      {:error, %{error | detail: @what <> error.detail}}
    else
      {:ok, key} -> {:ok, key}
      :error -> no_set()
    end
  end

  defp no_set, do: unsupported("its parameter set is not known here")

  defp curve({:namedCurve, name}) when is_atom(name) do
    case Curve.oid(name) do
      {:ok, oid} -> {:ok, oid}
      :error -> unsupported("its curve is not known here")
    end
  end

  defp curve({:namedCurve, oid}),
    do: if(DER.oid?(oid), do: {:ok, oid}, else: wrong("its curve is none"))

  defp curve(_parameters), do: unsupported("a curve by its parameters, not by its name")

  defp public(algorithm, bits) do
    info = PrivateKey.public_info(algorithm, bits)
    Reader.read(info, "public key: ", &PublicKey.Given.read/1)
  end

  defp more_primes,
    do: unsupported("it has more than two primes, and PKCS #11 has no place for them")

  defp wrong(text), do: {:error, Error.new(:invalid_argument, @what <> text)}
  defp unsupported(text), do: {:error, Error.new(:unsupported, @what <> text)}
end
