defmodule Cryptoki.PublicKey.Decode do
  @moduledoc false
  # Public keys as `:public_key` has them, from what objects show of them. Pure.

  alias Cryptoki.Attribute
  alias Cryptoki.Attribute.Curve
  alias Cryptoki.DER.Reader
  alias Cryptoki.PublicKey.Info
  alias Cryptoki.SignatureAlgorithm.PostQuantum

  # `{key, parameters}` as well for RSA keys that are for PSS only, which OTP's type leaves out.
  @doc "The public key in attributes, as they are after `Attribute.decode/2`."
  @spec attributes(map) :: {:ok, Cryptoki.PublicKey.otp_key() | {tuple, term}} | :error
  def attributes(%{class: :certificate, value: der}), do: certificate(der)

  def attributes(%{key_type: :rsa, modulus: modulus, public_exponent: exponent}) do
    {:ok, {:RSAPublicKey, :binary.decode_unsigned(modulus), :binary.decode_unsigned(exponent)}}
  end

  def attributes(%{key_type: type, ec_params: params, ec_point: point} = attributes)
      when type in [:ec, :ec_edwards, :ec_montgomery] do
    curve = if is_atom(attributes[:curve]), do: attributes[:curve]

    with {:ok, point} <- Attribute.ec_point(point, curve),
         {:ok, parameters} <- parameters(curve, params),
         do: {:ok, {{:ECPoint, point}, parameters}}
  end

  def attributes(%{key_type: :dsa, prime: p, subprime: q, base: g, value: y, class: :public_key}) do
    [p, q, g, y] = Enum.map([p, q, g, y], &:binary.decode_unsigned/1)
    {:ok, {y, {:"Dss-Parms", p, q, g}}}
  end

  # Not every OTP reads it.
  def attributes(%{key_type: type, public_key_info: der}) when type in [:ml_dsa, :slh_dsa],
    do: post_quantum(der)

  def attributes(%{public_key_info: der}), do: info(der)
  def attributes(_attributes), do: :error

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
    with :error <- post_quantum(der), do: of_otp(der)
  end

  defp post_quantum(der) do
    with {:ok, %{key: key}} <- Reader.read(der, "", &Info.read/1),
         {:ok, _set, _bytes} <- PostQuantum.parts(key),
         do: {:ok, key},
         else: (_another -> :error)
  end

  defp of_otp(der) do
    {:ok, :public_key.pem_entry_decode({:SubjectPublicKeyInfo, der, :not_encrypted})}
  rescue
    _no_key_that_otp_knows -> :error
  end
end
