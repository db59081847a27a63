defmodule Cryptoki.PublicKey.Info do
  @moduledoc false
  # `SubjectPublicKeyInfo` of others (RFC 5280, section 4.1.2.7): which key it is, and whether a
  # certificate may be made of it. Not by OTP's reader, which takes and raises other things from one
  # release to the next. Pure.

  alias Cryptoki.Attribute.Curve
  alias Cryptoki.DER
  alias Cryptoki.DER.Reader
  alias Cryptoki.PublicKey.{Edwards, OID}
  alias Cryptoki.SignatureAlgorithm
  alias Cryptoki.SignatureAlgorithm.{Identifier, PostQuantum}

  @rsa OID.rsa()
  @rsa_pss OID.rsa_pss()
  @ec OID.ec()
  @edwards %{
    {1, 3, 101, 112} => {:ed25519, 32},
    {1, 3, 101, 113} => {:ed448, 57},
    {1, 3, 101, 110} => {:x25519, 32},
    {1, 3, 101, 111} => {:x448, 56}
  }
  @called %{{1, 2, 840, 10_040, 4, 1} => "DSA", {1, 2, 840, 113_549, 1, 3, 1} => "Diffie-Hellman"}

  @salts %{sha256: 32, sha384: 48, sha512: 64}
  @least_rsa 2048
  @most_rsa 16_384
  @least_curve 224

  # `key` as `Cryptoki.SignatureAlgorithm` takes it, `nil` when it is none of the kinds here; `der` is
  # written anew, in the one form that there is of each.
  @type t :: %{
          key: term,
          type:
            :rsa
            | :rsa_pss
            | :ec
            | :ed25519
            | :ed448
            | :x25519
            | :x448
            | PostQuantum.set()
            | DER.oid(),
          bits: pos_integer | nil,
          curve: atom | DER.oid() | nil,
          pss: Identifier.pss() | nil,
          der: DER.t()
        }

  @doc "The algorithm and the bits of one that was made here, or read."
  @spec parts(DER.t()) :: {DER.oid(), binary}
  def parts(der) do
    {:ok, parts} =
      Reader.read(der, "", fn info ->
        [algorithm, bits] = Reader.fields(Reader.is!(info, 0x30), [0x30, 3])
        {elem(Identifier.parts(algorithm), 0), Reader.bytes(bits)}
      end)

    parts
  end

  @doc "Which key it is."
  @spec read(Reader.t()) :: t
  def read(info) do
    [algorithm, bits] = Reader.fields(Reader.is!(info, 0x30), [0x30, 3])
    {oid, parameters} = Identifier.parts(algorithm)
    read(oid, parameters, bits, info)
  end

  defp read(@rsa, parameters, bits, _info) do
    if parameters, do: Reader.null(parameters)
    known(:rsa, rsa(bits), nil, DER.sequence([DER.oid(@rsa), DER.null()]), bits)
  end

  defp read(@rsa_pss, nil, bits, _info),
    do: known(:rsa_pss, {rsa(bits), {:pss, :any}}, nil, DER.sequence([DER.oid(@rsa_pss)]), bits)

  defp read(@rsa_pss, parameters, bits, _info) do
    pss = Identifier.pss(parameters)
    key = {rsa(bits), {:pss, only(pss)}}
    known(:rsa_pss, key, pss, DER.sequence([DER.oid(@rsa_pss), parameters.der]), bits)
  end

  defp read(@ec, parameters, bits, info) do
    curve = curve(parameters || Reader.wrong!(info, "it has no curve"))
    point = Reader.bytes(bits)
    key = {{:ECPoint, point}, {:namedCurve, curve}}
    name = with {:ok, name} <- Curve.decode(DER.oid(curve)), do: name, else: (:error -> curve)
    known(:ec, key, nil, DER.sequence([DER.oid(@ec), DER.oid(curve)]), bits, name)
  end

  defp read(oid, parameters, bits, _info) when is_map_key(@edwards, oid) do
    {type, size} = @edwards[oid]
    if parameters, do: Reader.wrong!(parameters, "there are no parameters of such a key")
    point = Reader.bytes(bits)
    if byte_size(point) != size, do: Reader.wrong!(bits, "it is no key of #{type}, #{size} bytes")
    known(type, {{:ECPoint, point}, {:namedCurve, oid}}, nil, DER.sequence([DER.oid(oid)]), bits)
  end

  defp read(oid, parameters, bits, info) do
    case PostQuantum.named(oid) do
      {:ok, set} -> post_quantum(set, parameters, bits)
      :error -> %{key: nil, type: oid, bits: nil, curve: nil, pss: nil, der: info.der}
    end
  end

  defp post_quantum(set, parameters, bits) do
    if parameters, do: Reader.wrong!(parameters, "there are no parameters of such a key")

    case PostQuantum.key(set, Reader.bytes(bits)) do
      {:ok, key} ->
        known(set, key, nil, DER.sequence([DER.oid(PostQuantum.oid(set))]), bits)

      :error ->
        Reader.wrong!(bits, "it is no key of #{set}, #{PostQuantum.key_size(set)} bytes")
    end
  end

  defp known(type, key, pss, algorithm, bits, curve \\ nil) do
    der = DER.sequence([algorithm, DER.bit_string(Reader.bytes(bits))])
    %{key: key, type: type, bits: bits(key, curve), curve: curve, pss: pss, der: der}
  end

  defp rsa(bits) do
    case Reader.read(Reader.bytes(bits), "", &rsa_numbers/1) do
      {:ok, key} -> key
      {:error, error} -> Reader.wrong!(bits, "it is no RSA key: #{error.detail}")
    end
  end

  defp rsa_numbers(key) do
    [modulus, exponent] = Reader.fields(Reader.is!(key, 0x30), [2, 2])
    # More than there may be, so that this can be said.
    {:RSAPublicKey, Reader.integer(modulus, @most_rsa), Reader.integer(exponent, @most_rsa)}
  end

  # Parameters that say all of a curve, or that it is known from elsewhere, are not for certificates
  # (RFC 5480, section 2.1.1).
  defp curve(%{tag: 6} = oid), do: Reader.oid(oid)

  defp curve(parameters),
    do: Reader.wrong!(parameters, "a curve by its parameters, not by its name", :unsupported)

  defp bits({rsa, {:pss, _hash}}, curve), do: bits(rsa, curve)
  defp bits({:RSAPublicKey, modulus, _exponent}, _curve), do: bit_length(modulus)
  defp bits({_point, {:namedCurve, {1, 3, 101, 110}}}, _curve), do: 255
  defp bits({_point, {:namedCurve, {1, 3, 101, 111}}}, _curve), do: 448
  defp bits({_point, {:namedCurve, {1, 3, 101, 112}}}, _curve), do: 255
  defp bits({_point, {:namedCurve, {1, 3, 101, 113}}}, _curve), do: 448

  # Its length says nothing of its strength.
  defp bits({_record, _name, bytes}, _curve) when is_binary(bytes), do: nil

  # It stands in the name: secp521r1.
  defp bits(_ec, curve) when is_atom(curve) do
    [bits] = Regex.run(~r/[0-9]+/, Atom.to_string(curve))
    String.to_integer(bits)
  end

  defp bits(_ec, _oid), do: nil

  @doc "How many bits a number has; not digit by digit, which takes seconds of a long one."
  @spec bit_length(integer) :: non_neg_integer
  def bit_length(number) when number > 0 do
    <<first, rest::binary>> = :binary.encode_unsigned(number)
    length(Integer.digits(first, 2)) + 8 * byte_size(rest)
  end

  def bit_length(_number), do: 0

  # What is signed here has one hash for both, and a salt as long as it; a key asks for so much at least
  # (RFC 4055, section 3.3).
  defp only(%{hash: hash, mgf: hash, salt: salt}) when is_map_key(@salts, hash) do
    if salt <= @salts[hash], do: DER.oid(Identifier.hash_oid(hash)), else: :others
  end

  defp only(_others), do: :others

  @doc "The key as `:public_key` has it, and which one it is."
  @spec shown(t) :: %{public_key: term, key: map}
  def shown(%{key: key, type: type, bits: bits, curve: curve}) do
    known = for {name, value} <- [bits: bits, curve: curve], value != nil, do: {name, value}
    public_key = key |> SignatureAlgorithm.bare() |> PostQuantum.shown()
    %{public_key: public_key, key: Map.new([{:type, type} | known])}
  end

  ## What may be certified

  @doc "Whether a certificate may be made of a key; if not, a sentence that says why."
  @spec check(t) :: :ok | {:error, :invalid_argument | :unsupported, String.t()}
  def check(%{key: nil, type: oid}),
    do: {:error, :unsupported, "public key: #{called(oid)} is not known here"}

  def check(%{key: {{:RSAPublicKey, _, _} = key, _pss}, bits: bits}), do: check_rsa(key, bits)
  def check(%{key: {:RSAPublicKey, _, _} = key, bits: bits}), do: check_rsa(key, bits)

  def check(%{type: :ec, curve: curve}) when is_tuple(curve),
    do: {:error, :unsupported, "public key: the curve #{DER.dotted(curve)} is not known here"}

  def check(%{type: :ec, curve: curve, bits: bits}) when bits < @least_curve,
    do: wrong("#{curve} is too weak a curve, #{@least_curve} bits at least")

  def check(%{type: :ec, curve: curve, key: {{:ECPoint, point}, _}}) do
    case point(point, curve) do
      :ok ->
        :ok

      :error ->
        wrong("its point is none of the curve #{curve}")

      :unknown ->
        {:error, :unsupported, "public key: the curve #{curve} is not known to this OTP"}
    end
  end

  def check(%{type: type, key: {{:ECPoint, point}, _}}) when type in [:ed25519, :ed448] do
    case Edwards.check(type, point) do
      :ok -> :ok
      :error -> wrong("its point is none of the curve of #{type}")
      :small -> wrong("its point is one of the few of #{type} whose signatures prove nothing")
    end
  end

  # Of these any bytes are one.
  def check(%{key: {_record, _name, bytes}}) when is_binary(bytes), do: :ok

  def check(%{type: type}), do: {:error, :unsupported, "public key: #{type} keys do not sign"}

  defp called(oid), do: Map.get(@called, oid, "a key of the kind " <> DER.dotted(oid))

  defp wrong(text), do: {:error, :invalid_argument, "public key: " <> text}

  # FIPS 186-5, section 5.1, and what certificate programs ask of a modulus: no factor that is found at once.
  @small for n <- 2..751, Enum.all?(2..n, &(&1 == n or rem(n, &1) != 0)), do: n

  defp check_rsa({:RSAPublicKey, modulus, exponent}, bits) do
    cond do
      modulus <= 0 ->
        wrong("the modulus of RSA is not positive")

      bits < @least_rsa ->
        wrong("RSA of #{bits} bits is too weak, #{@least_rsa} at least")

      bits > @most_rsa ->
        wrong("RSA of #{bits} bits is too long, #{@most_rsa} at most")

      exponent < 3 ->
        wrong("the exponent of RSA is less than 3")

      rem(exponent, 2) == 0 ->
        wrong("the exponent of RSA is even")

      exponent >= Integer.pow(2, 256) ->
        wrong("the exponent of RSA has more than 256 bits")

      Enum.any?(@small, &(rem(modulus, &1) == 0)) ->
        wrong("the modulus of RSA has a small factor")

      true ->
        :ok
    end
  end

  @doc "Whether bytes are a point of a curve, in one of the forms of RFC 5480, section 2.2."
  @spec point(binary, atom) :: :ok | :error | :unknown
  # By agreeing on something with it: OpenSSL looks at points before it works with them.
  def point(<<form, _::binary>> = point, curve) when form in [2, 3, 4] do
    with true <- curve in :crypto.supports(:curves),
         true <- is_binary(:crypto.compute_key(:ecdh, point, <<2>>, curve)),
         do: :ok,
         else: (false -> :unknown)
  rescue
    _no_point -> :error
  end

  def point(_other, _curve), do: :error
end
