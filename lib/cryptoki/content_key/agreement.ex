defmodule Cryptoki.ContentKey.Agreement do
  @moduledoc false
  # What a key of the token agrees on with another's public key (PKCS #11 v3.2, section 6.3.20), as bytes: the
  # functions that make keys of it are of CMS and JOSE, and few tokens have them.

  alias Cryptoki.ContentKey.Holder
  alias Cryptoki.Error
  alias Cryptoki.PublicKey.Info

  @montgomery %{x25519: 32, x448: 56}

  @doc "Whether bytes are a public key that one may agree with on this curve."
  @spec point?(binary, atom) :: boolean
  def point?(point, curve) when is_map_key(@montgomery, curve),
    do: byte_size(point) == @montgomery[curve] and agrees?(point, curve)

  def point?(point, curve) when is_atom(curve) and curve != nil,
    do: Info.point(point, curve) == :ok

  def point?(_point, _unknown), do: false

  # With the points of small order everybody has the secret: OpenSSL does not agree with them (RFC 7748,
  # section 6).
  defp agrees?(point, curve) do
    {_public, private} = :crypto.generate_key(:ecdh, curve)
    is_binary(:crypto.compute_key(:ecdh, point, private, curve))
  rescue
    _no_point -> false
  end

  @doc "The secret; the point is one of the curve."
  @spec secret(Holder.t(), binary) :: {:ok, binary} | {:error, Error.t()}
  def secret(%Holder{curve: curve} = holder, point) do
    size = size(curve, point)
    derive = {:ecdh1_derive, kdf: :null, public: point}

    with {:ok, secret} when byte_size(secret) != size <-
           Holder.made(holder, :derive_key, [derive], value_len: size) do
      text = "what the key agreed on has another length than the curve"
      {:error, Error.new(:module_misbehaved, text, function: :C_DeriveKey)}
    end
  end

  defp size(curve, _point) when is_map_key(@montgomery, curve), do: @montgomery[curve]
  defp size(_curve, <<4, both::binary>>), do: div(byte_size(both), 2)
  defp size(_curve, <<_compressed, x::binary>>), do: byte_size(x)
end
