defmodule Cryptoki.PublicKey do
  @moduledoc false
  # Public keys as `:public_key` has them: from the public key object, else the public half of the
  # private key (`Cryptoki.PublicHalf`), else from a certificate.

  alias Cryptoki.{Attribute, Error, HSM, Key, Keys, Options, PublicHalf, Selector, Target}
  alias Cryptoki.Attribute.Curve

  # Of what may be anything: CKA_VALUE of other classes is a secret.
  @attributes [
    :class,
    :key_type,
    :modulus,
    :public_exponent,
    :ec_params,
    :curve,
    :ec_point,
    :prime,
    :subprime,
    :base,
    :public_key_info
  ]
  @public_value [:public_key, :certificate]

  @type otp_key :: :public_key.public_key()
  @type search :: [{:half | :sole_half | :object, Keys.wanted()}]

  @doc "Where to look, in this order; raises `ArgumentError` for a selector that is none."
  @spec search!(Selector.selector()) :: search
  def search!(selector) do
    case class(selector) do
      # What signs under this name comes first.
      nil ->
        objects = for class <- @public_value, do: {:object, Keys.wanted!(selector, class)}
        [{:sole_half, Keys.wanted!(selector, :private_key)} | objects]

      :private_key ->
        [half: Keys.wanted!(selector, :private_key)]

      _other ->
        [object: Keys.wanted!(selector, :public_key)]
    end
  end

  defp class(%Key{class: class}), do: class

  defp class(selector) do
    case Selector.normalize!(selector, :any) do
      {:search, _template, nil} -> nil
      {:search, _template, [class]} -> class
    end
  end

  @doc "The public key, from the first place that has it."
  @spec fetch(Target.t(), search) :: {:ok, otp_key} | {:error, Error.t()}
  def fetch(target, search), do: fetch(target, search, nil)

  defp fetch(_target, [], error), do: error

  defp fetch(target, [{how, wanted} | rest], error) do
    case read(how, target, wanted) do
      {:ok, key} ->
        {:ok, key}

      # Keys without a public part that can be read: somebody else may have it.
      {:error, %Error{reason: reason}} = next when reason in [:key_not_found, :unsupported] ->
        fetch(target, rest, worse(error, next))

      {:error, %Error{reason: :key_ambiguous}} = next when how == :sole_half ->
        fetch(target, rest, next)

      {:error, _error} = error ->
        error
    end
  end

  defp worse({:error, %Error{reason: :key_not_found}}, next), do: next
  defp worse(nil, next), do: next
  defp worse(told, _next), do: told

  defp read(:object, target, wanted) do
    with {:ok, attributes} <- attributes(target, wanted, @attributes),
         {:ok, attributes} <- with_value(target, wanted, attributes),
         :error <- decode(Attribute.readable(attributes)) do
      unsupported("no public key can be made of #{kind(attributes)}")
    end
  end

  defp read(_half, target, wanted) do
    case PublicHalf.fetch(target, wanted) do
      {:ok, {:proven, key}} -> {:ok, key}
      {:ok, {:unproven, _keys, why}} -> unproven(why)
      {:error, _error} = error -> error
    end
  end

  defp attributes(target, wanted, names) do
    with {:ok, answer} <-
           Keys.run(target, :attributes, [wanted], fn [handle], nil ->
             {:attributes, handle, Attribute.types!(names)}
           end),
         do: {:ok, Attribute.decode(answer, names)}
  end

  defp with_value(target, wanted, %{class: class} = attributes) when class in @public_value do
    with {:ok, value} <- attributes(target, wanted, [:value]),
         do: {:ok, Map.merge(attributes, value)}
  end

  defp with_value(_target, _wanted, attributes), do: {:ok, attributes}

  defp kind(attributes) do
    case Attribute.readable(attributes) do
      %{key_type: type} -> "a #{type}"
      %{class: class} -> "a #{class}"
      _nothing -> "it"
    end
  end

  @doc """
  The public half of a key for something that it signs and that is verified with it then: a key that
  nothing can be proven of is taken by id and label, when there is one.
  """
  @spec to_sign(Cryptoki.hsm(), Selector.selector(), keyword) ::
          {:ok, otp_key} | {:error, Error.t()}
  def to_sign(hsm, selector, opts) do
    options = Options.call!(opts, [:timeout, :metadata])
    search = search!(selector)
    half = Enum.find_value(search, fn {how, wanted} -> how != :object && wanted end)

    with {:ok, target} <- HSM.target(hsm, options) do
      case half && PublicHalf.fetch(target, half) do
        nil -> fetch(target, search)
        {:ok, {:proven, key}} -> {:ok, key}
        {:ok, {:unproven, [key], _why}} -> {:ok, key}
        {:ok, {:unproven, _none_or_several, why}} -> unproven(why)
        {:error, _error} = error -> error
      end
    end
  end

  defp unproven(why),
    do: unsupported("which public key is that of the private key cannot be proven: #{why}")

  defp unsupported(detail), do: {:error, Error.new(:unsupported, detail)}

  # `{key, parameters}` as well for RSA keys that are for PSS only, which OTP's type leaves out.
  @doc "The public key in attributes, as they are after `Attribute.decode/2`."
  @spec decode(map) :: {:ok, otp_key | {tuple, term}} | :error
  def decode(%{class: :certificate, value: der}), do: certificate(der)

  def decode(%{key_type: :rsa, modulus: modulus, public_exponent: exponent}) do
    {:ok, {:RSAPublicKey, :binary.decode_unsigned(modulus), :binary.decode_unsigned(exponent)}}
  end

  def decode(%{key_type: type, ec_params: params, ec_point: point} = attributes)
      when type in [:ec, :ec_edwards, :ec_montgomery] do
    curve = if is_atom(attributes[:curve]), do: attributes[:curve]

    with {:ok, point} <- Attribute.ec_point(point, curve),
         {:ok, parameters} <- parameters(curve, params),
         do: {:ok, {{:ECPoint, point}, parameters}}
  end

  def decode(%{key_type: :dsa, prime: p, subprime: q, base: g, value: y, class: :public_key}) do
    [p, q, g, y] = Enum.map([p, q, g, y], &:binary.decode_unsigned/1)
    {:ok, {y, {:"Dss-Parms", p, q, g}}}
  end

  def decode(%{public_key_info: der}), do: info(der)
  def decode(_attributes), do: :error

  @doc "The parameters of a curve by its name, or by their DER when it has none."
  @spec parameters(Curve.name() | nil, binary) :: {:ok, term} | :error
  def parameters(nil, der) do
    {:ok, :public_key.der_decode(:EcpkParameters, der)}
  rescue
    _no_parameters -> :error
  end

  def parameters(curve, _der),
    do: with({:ok, oid} <- Curve.oid(curve), do: {:ok, {:namedCurve, oid}})

  # Certificate, tbsCertificate, subjectPublicKeyInfo: by position, which is the same in all of OTP.
  defp certificate(der) do
    certificate = :public_key.pkix_decode_cert(der, :plain)
    info = certificate |> elem(1) |> elem(7)
    info(:public_key.der_encode(:SubjectPublicKeyInfo, info))
  rescue
    _no_certificate -> :error
  end

  # The curves of RFC 8410, which OTP 25 does not read: there is one form of them.
  defp info(<<0x30, _, 0x30, 5, 6, 3, 43, 101, curve, 3, size, 0, point::binary>>)
       when curve in 110..113 and byte_size(point) == size - 1,
       do: {:ok, {{:ECPoint, point}, {:namedCurve, {1, 3, 101, curve}}}}

  defp info(der) do
    {:ok, :public_key.pem_entry_decode({:SubjectPublicKeyInfo, der, :not_encrypted})}
  rescue
    _no_key_that_otp_knows -> :error
  end
end
