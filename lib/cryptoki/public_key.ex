defmodule Cryptoki.PublicKey do
  @moduledoc false
  # Public keys as `:public_key` has them: from the public key object, else from what the private
  # key shows of it, else from a certificate with the same id.

  alias Cryptoki.{Attribute, Error, Key, Keys, Selector, Target}
  alias Cryptoki.Attribute.Curve

  @attributes [
    :class,
    :key_type,
    :id,
    :modulus,
    :public_exponent,
    :ec_params,
    :curve,
    :ec_point,
    :public_key_info,
    :value
  ]

  @type otp_key :: :public_key.public_key()
  @type search :: [{:public_key | :private_key | :certificate, Keys.wanted()}]

  @doc "Where to look, in this order; raises `ArgumentError` for a selector that is none."
  @spec search!(Selector.selector()) :: search
  def search!(%Key{class: :private_key} = key) do
    for {class, selector} <- halves(key) ++ [private_key: key],
        do: {class, Keys.wanted!(selector, class)}
  end

  def search!(%Key{class: class} = key), do: [{class, Keys.wanted!(key, class)}]

  def search!(selector) do
    case Selector.normalize!(selector, :public_key) do
      {:search, _template, [class]} when class in [:private_key, :certificate] ->
        [{class, Keys.wanted!(selector, class)}]

      _public_or_any ->
        for class <- [:public_key, :private_key, :certificate],
            do: {class, Keys.wanted!(selector, class)}
    end
  end

  # By id and label, where several pairs have one id; else by the id that joins the halves.
  defp halves(%Key{id: id}) when id in [nil, ""], do: []

  defp halves(%Key{id: id, label: label}) do
    half = [class: :public_key, id: id]

    if label in [nil, ""],
      do: [public_key: half],
      else: [public_key: half ++ [label: label], public_key: half]
  end

  @doc "The public key, from the first place that has it."
  @spec fetch(Target.t(), search) :: {:ok, otp_key} | {:error, Error.t()}
  def fetch(target, search), do: fetch(target, search, nil)

  defp fetch(_target, [], error), do: error

  defp fetch(target, [{_class, wanted} | rest], error) do
    case read(target, wanted) do
      {:ok, key} ->
        {:ok, key}

      # Keys without a public part that can be read: somebody else may have it.
      {:error, %Error{reason: reason}} = next when reason in [:key_not_found, :unsupported] ->
        fetch(target, rest, worse(error, next))

      {:error, _error} = error ->
        error
    end
  end

  defp worse({:error, %Error{reason: :unsupported}} = told, _next), do: told
  defp worse(_error, next), do: next

  defp read(target, wanted) do
    with {:ok, answer} <-
           Keys.run(target, :attributes, [wanted], fn [handle], nil ->
             {:attributes, handle, Attribute.types!(@attributes)}
           end) do
      attributes = answer |> Attribute.decode(@attributes) |> Map.reject(&unreadable?/1)

      with :error <- decode(attributes), do: from_other_half(target, attributes)
    end
  end

  defp unreadable?({_name, {:error, _reason}}), do: true
  defp unreadable?({_name, value}), do: value in ["", nil]

  # A private key that shows nothing of its public half, which has the same id, or a certificate has.
  defp from_other_half(target, attributes) do
    what = "a #{attributes[:key_type] || attributes[:class]}"
    none = {:error, Error.new(:unsupported, "no public key can be made of #{what}")}

    case fetch(target, other_halves(attributes), none) do
      # Several certificates, of which none can be said to be the one.
      {:error, %Error{reason: :key_ambiguous}} -> none
      answer -> answer
    end
  end

  defp other_halves(%{class: :private_key, id: id}) do
    for class <- [:public_key, :certificate],
        do: {class, Keys.wanted!([class: class, id: id], class)}
  end

  defp other_halves(_attributes), do: []

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

  def decode(%{public_key_info: der}), do: info(der)
  def decode(_attributes), do: :error

  defp parameters(nil, der) do
    {:ok, :public_key.der_decode(:EcpkParameters, der)}
  rescue
    _no_parameters -> :error
  end

  defp parameters(curve, _der),
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
