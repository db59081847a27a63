defmodule Cryptoki.Test.CertificationRequest do
  @moduledoc false
  # Requests as strangers write them: each part is what the test says, and the signature is right unless
  # the test says otherwise. Keys are of OTP.

  alias Cryptoki.DER

  @ecdsa_sha256 {1, 2, 840, 10_045, 4, 3, 2}
  @extension_request {1, 2, 840, 113_549, 1, 9, 14}

  @doc "A key pair of OTP: `:rsa` or the name of a curve."
  @spec key(atom) :: term
  def key(:rsa), do: :public_key.generate_key({:rsa, 2048, 65_537})
  def key(curve), do: :public_key.generate_key({:namedCurve, curve})

  @doc """
  A request. Options: `key:`, `version:`, `subject:`, `info:`, `attributes:`, `algorithm:` (DER), and
  `sign:`, a function of what is signed.
  """
  @spec make(keyword) :: binary
  def make(options) do
    key = options[:key]

    signed =
      DER.sequence([
        Keyword.get(options, :version, DER.integer(0)),
        Keyword.get(options, :subject, subject("www")),
        Keyword.get_lazy(options, :info, fn -> info(key) end),
        Keyword.get(options, :attributes, DER.set_of([], 0xA0))
      ])

    sign = Keyword.get(options, :sign, &:public_key.sign(&1, :sha256, key))
    algorithm = Keyword.get(options, :algorithm, DER.sequence([DER.oid(@ecdsa_sha256)]))
    DER.sequence([signed, algorithm, DER.bit_string(sign.(signed))])
  end

  @doc "The `SubjectPublicKeyInfo` of a key pair."
  @spec info(term) :: binary
  def info(key), do: Cryptoki.X509.Extensions.public_key_info(public(key))

  @doc "Its public half."
  @spec public(term) :: term
  def public(key) when elem(key, 0) == :RSAPrivateKey,
    do: {:RSAPublicKey, elem(key, 2), elem(key, 3)}

  def public(key), do: {{:ECPoint, elem(key, 4)}, elem(key, 3)}

  @doc "A subject with one common name, of any type of string."
  @spec subject(binary, byte) :: binary
  def subject(text, tag \\ 12), do: name([[{{2, 5, 4, 3}, tag, text}]])

  @doc "A name of such attributes, those of a part in the order that they have."
  @spec name([[{tuple, byte, binary}]]) :: binary
  def name(parts) do
    DER.sequence(
      for part <- parts do
        DER.value(
          0x31,
          for({oid, tag, value} <- part, do: DER.sequence([DER.oid(oid), DER.value(tag, value)]))
        )
      end
    )
  end

  @doc "Attributes that ask for extensions, under one or several object identifiers."
  @spec asking([binary], [tuple]) :: binary
  def asking(extensions, oids \\ [@extension_request]),
    do: DER.value(0xA0, for(oid <- oids, do: attribute(oid, [DER.sequence(extensions)])))

  @doc "One attribute."
  @spec attribute(tuple, [binary]) :: binary
  def attribute(oid, values), do: DER.sequence([DER.oid(oid), DER.value(0x31, values)])

  @doc "One extension, with what stands between its type and its value."
  @spec extension(tuple, binary, [binary]) :: binary
  def extension(oid, der, flag \\ []),
    do: DER.sequence([DER.oid(oid)] ++ flag ++ [DER.octet_string(der)])

  @doc "The extension of alternative names."
  @spec alt_names([binary]) :: binary
  def alt_names(names), do: extension({2, 5, 29, 17}, DER.sequence(names))
end
