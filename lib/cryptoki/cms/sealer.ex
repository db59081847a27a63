defmodule Cryptoki.CMS.Sealer do
  @moduledoc false
  # EnvelopedData and AuthEnvelopedData, encrypted here for public keys. Pure, but for what is random.

  alias Cryptoki.{Certificates, DER, Each, Error, KeyWrap}
  alias Cryptoki.Attribute.Curve
  alias Cryptoki.CMS.{Cipher, Recipient}
  alias Cryptoki.ContentKey.{Agreement, Derivation}
  alias Cryptoki.X509.Fields

  @enveloped {1, 2, 840, 113_549, 1, 7, 3}
  @auth_enveloped {1, 2, 840, 113_549, 1, 9, 16, 1, 23}
  @data {1, 2, 840, 113_549, 1, 7, 1}

  @curves ~w[secp256r1 secp384r1 secp521r1 brainpoolP256r1 brainpoolP384r1 brainpoolP512r1 x25519 x448]a

  @doc "The type of content, and the content."
  @spec seal([DER.t()], binary, keyword) :: {:ok, {DER.oid(), DER.t()}} | {:error, Error.t()}
  def seal(certificates, data, options) do
    {cipher, key} = Cipher.new(options[:cipher])

    recipients = Each.of(Enum.uniq(certificates), &recipient(&1, key, options[:padding]))

    with {:ok, recipients} <- recipients do
      {ciphertext, tag} = Cipher.seal(cipher, key, data)

      content =
        DER.sequence([DER.oid(@data), Cipher.identifier(cipher), DER.value(0x80, ciphertext)])

      {:ok, content(recipients, content, tag)}
    end
  end

  # RFC 5652, section 6.1: 0 where all recipients are of the oldest kind.
  defp content(recipients, content, nil) do
    version = if Enum.all?(recipients, &match?(<<0x30, _::binary>>, &1)), do: 0, else: 2
    {@enveloped, DER.sequence([DER.integer(version), DER.set_of(recipients), content])}
  end

  defp content(recipients, content, tag) do
    parts = [DER.integer(0), DER.set_of(recipients), content, DER.octet_string(tag)]
    {@auth_enveloped, DER.sequence(parts)}
  end

  defp recipient(certificate, key, padding) do
    with {:ok, fields} <- Fields.read(certificate, "certificates"),
         {:ok, public} <- Certificates.public_key(certificate, "certificates"),
         do: encrypt(public, DER.sequence([fields.issuer, fields.serial]), key, padding)
  end

  defp encrypt({:RSAPublicKey, _modulus, _exponent} = public, id, key, padding) do
    {padding, options} = padding(padding)
    {:ok, Recipient.transport(id, padding, :public_key.encrypt_public(key, public, options))}
  rescue
    # A modulus that is none, or has no room for it.
    ErlangError -> unsupported("nothing can be encrypted with the RSA key of a certificate")
  end

  defp encrypt({{:ECPoint, point}, {:namedCurve, oid}}, id, key, _padding) do
    with {:ok, curve} when curve in @curves <- Curve.decode(DER.oid(oid)),
         true <- curve in :crypto.supports(:curves),
         true <- Agreement.point?(point, curve) do
      {own, secret} = :crypto.generate_key(:ecdh, curve)
      agreed = :crypto.compute_key(:ecdh, point, secret, curve)
      {scheme, identifier, info} = Recipient.agree(curve)
      kek = Derivation.derive(scheme.kdf, agreed, info, scheme.size)
      {:ok, Recipient.agreement(id, curve, own, identifier, KeyWrap.wrap(kek, key))}
    else
      _no_such_curve_or_point -> no_key()
    end
  end

  defp encrypt(_other, _id, _key, _padding), do: no_key()

  defp padding(:pkcs1), do: {:pkcs1, [rsa_padding: :rsa_pkcs1_padding]}

  defp padding(:oaep) do
    options = [rsa_padding: :rsa_pkcs1_oaep_padding, rsa_oaep_md: :sha256, rsa_mgf1_md: :sha256]
    {{:oaep, %{hash: :sha256, mgf: :sha256, label: ""}}, options}
  end

  defp no_key, do: unsupported("the key of a certificate is none that something is encrypted for")
  defp unsupported(text), do: {:error, Error.new(:unsupported, "certificates: " <> text)}
end
