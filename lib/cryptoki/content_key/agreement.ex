defmodule Cryptoki.ContentKey.Agreement do
  @moduledoc false
  # What a key of the token agrees on with another's public key (PKCS #11 v3.2, section 6.3.20), as bytes: the
  # functions that make keys of it are of CMS and JOSE, and few tokens have them.

  alias Cryptoki.ContentKey.Holder
  alias Cryptoki.{Error, HSM, KeyTransport, Options}
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
  def secret(%Holder{hsm: hsm, key: key, curve: curve} = holder, point) do
    call = Keyword.take(holder.call, [:timeout, :metadata])
    size = size(curve, point)
    kind = [class: :secret_key, key_type: :generic_secret, token: false, private: false]
    readable = [sensitive: false, extractable: true, value_len: size]

    derive = {:ecdh1_derive, kdf: :null, public: point}

    template = kind ++ readable

    # One session for the whole life of what is readable.
    HSM.with_session(
      hsm,
      Options.call!(Keyword.take(call, [:timeout]), [:timeout]),
      fn session ->
        with {:ok, derived} <- Cryptoki.derive_key(session, key, derive, template, call),
             read = Cryptoki.attributes(session, derived, [:value], call),
             _ = Cryptoki.destroy(session, derived, call),
             {:ok, %{value: value}} <- read,
             do: value(value, size)
      end,
      {KeyTransport, :derive_key, [hsm, key, derive, template, call]}
    )
  end

  defp value(value, size) when is_binary(value) and byte_size(value) == size, do: {:ok, value}

  defp value({:error, reason}, _size) do
    text = "what this key agrees on cannot be read: the token answers #{reason}"
    {:error, Error.new(:unsupported, text)}
  end

  defp value(_other, _size) do
    text = "what the key agreed on has another length than the curve"
    {:error, Error.new(:module_misbehaved, text, function: :C_DeriveKey)}
  end

  defp size(curve, _point) when is_map_key(@montgomery, curve), do: @montgomery[curve]
  defp size(_curve, <<4, both::binary>>), do: div(byte_size(both), 2)
  defp size(_curve, <<_compressed, x::binary>>), do: byte_size(x)
end
