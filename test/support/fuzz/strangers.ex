defmodule Cryptoki.Test.Fuzz.Strangers do
  @moduledoc false
  # What anybody may send: requests, certificates, texts, tokens of the web, keys of OpenSSH. It is read, and
  # what was read can be written, or there is an error with a sentence; nothing else.

  alias Cryptoki.{
    Attribute,
    CBOR,
    Certificates,
    CMS,
    COSE,
    DER,
    Error,
    JSON,
    JWE,
    JWK,
    JWS,
    PEM,
    PrivateKey
  }

  alias Cryptoki.{PKCS12, PublicKey, SecretKey, SignatureAlgorithm, SSH, Transfer, X509}
  alias Cryptoki.CMS.{Cipher, Enveloped}
  alias Cryptoki.ContentKey.Holder
  alias Cryptoki.DER.Reader
  alias Cryptoki.Envelope.Box
  alias Cryptoki.Options.Table
  alias Cryptoki.Timestamp
  alias Cryptoki.X509.{Authority, Chain, Extensions, Name, OCSP, RevocationList}

  @targets [
    x509: :der,
    asked: :der,
    crl: :der,
    ocsp: :der,
    timestamp: :der,
    pkcs8: :der,
    openssh: :bytes,
    pkcs12: :der,
    jwk: :bytes,
    transfer: :bytes,
    envelope: :bytes,
    text: :bytes,
    jws: :bytes,
    json: :bytes,
    cose: :bytes,
    ssh: :bytes,
    sshsig: :bytes,
    cms: :der,
    jwe: :bytes
  ]

  @doc "The targets, each with what its inputs are."
  @spec all :: [{atom, :bytes | :der}]
  def all, do: @targets

  @doc "Makes the key that verifies tokens, in an instance."
  @spec on(GenServer.server()) :: :ok
  def on(hsm) do
    {public, _private} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, curve: :secp256r1)
    :persistent_term.put(__MODULE__, {hsm, public})
    :persistent_term.put({__MODULE__, :jwks}, [JWK.public!(hsm, public)])
  end

  defp key_set, do: :persistent_term.get({__MODULE__, :jwks})

  defp verifier, do: :persistent_term.get(__MODULE__)

  @spec run(atom, binary) :: :ok
  # Requests and certificates of strangers.
  def run(:x509, bytes) do
    asked(X509.request(bytes))

    with {:ok, %{subject: subject}} <- answer(X509.certificate(bytes)),
         do: true = String.valid?(subject)

    answer(Certificates.public_key(bytes, "certificate"))

    with {:ok, fields} <- answer(X509.Fields.read(bytes, "certificate")),
         {:ok, extensions} <- Extensions.Read.read(fields.extensions) do
      _ = Extensions.Read.authority(extensions)
      _ = Extensions.Read.identifier(extensions)
      true = is_boolean(Extensions.Read.revokes?(extensions))
    end

    :ok
  end

  # What is signed of a request, with the signature that it should have: so it is read to its end. Only where
  # nothing else is wrong, since most of the time would go by with signing.
  @scalar <<1234::256>>
  @ecdsa_sha256 DER.sequence([DER.oid({1, 2, 840, 10_045, 4, 3, 2})])
  def run(:asked, info) do
    case request(info, "none") do
      {:error, %Error{reason: :signature_invalid}} ->
        request(info, :crypto.sign(:ecdsa, :sha256, info, [@scalar, :secp256r1]))

      _read_or_refused ->
        :ok
    end

    :ok
  end

  # What is asked is answered in its own words.
  def run(:ocsp, bytes) do
    with {:ok, request} <- answer(OCSP.Request.read(bytes)) do
      now = DateTime.utc_now()
      times = %{produced_at: now, this_update: now, next_update: nil}
      answers = for id <- request.ids, do: {id, :good}
      signed = OCSP.Response.to_be_signed(answers, request.nonce, <<0::160>>, times)
      true = Reader.one?(signed) and is_map(OCSP.Request.shown(request))
      false = Enum.any?(request.ids, &OCSP.Request.of?(&1, "name", "key"))
    end

    :ok
  end

  # A request for a time stamp, and a stamp, alone or in an answer.
  def run(:timestamp, bytes) do
    with {:ok, request} <- answer(Timestamp.Request.read(bytes)) do
      %{hash: hash, digest: digest, policy: policy, nonce: nonce} = request
      if is_atom(hash), do: true = Reader.one?(encoded(hash, digest, policy, nonce))
    end

    with {:ok, token} <- answer(Timestamp.Token.read(bytes)),
         {:ok, certificate} <- answer(Timestamp.Token.signed(token, [])) do
      true = is_map(Timestamp.Token.shown(token, certificate))
      {:error, _none} = Chain.trusted(certificate, token.certificates, [])
    end

    :ok
  end

  # A list, and as the one before another of the same name: of what is written a list can be made again.
  def run(:crl, bytes) do
    with {:ok, list} <- answer(X509.revocation_list(bytes)) do
      true = String.valid?(list.issuer)
      {:ok, previous} = RevocationList.given(bytes, "previous")
      {:ok, next} = RevocationList.new([], [], previous)

      elsewhere = &SignatureAlgorithm.nowhere/3

      next
      |> RevocationList.after_previous(previous, authority(previous.issuer), nil, elsewhere)
      |> follows(list)

      given =
        for {n, at, reason} when n >= 0 and reason != :remove_from_crl <- list.revoked,
            do: {n, at, reason}

      given!(Enum.uniq_by(given, &elem(&1, 0)), next.this_update)

      with {:error, error} <- RevocationList.new(list.revoked, [], previous),
           do: answer({:error, error})
    end

    :ok
  end

  # Signed data, and encrypted messages; of what is read the sizes are those that are worked with.
  def run(:cms, bytes) do
    with {:ok, message} <- answer(Enveloped.read(bytes)) do
      true = is_list(message.recipients) and length(message.recipients) <= 1_000_000
      :error = Cipher.open(message.cipher, <<0::unit(8)-size(message.cipher.key)>>, {"", nil, ""})
    end

    with {:ok, signed} <- answer(CMS.verify(bytes, :any)), do: [_ | _] = signed.signers

    :ok
  end

  # A JWE, or the header of one; what it says of its key is read as for keys on a curve and of AES.
  def run(:jwe, <<0, jwe::binary>>), do: jwe(jwe)

  def run(:jwe, <<_, header::binary>>) do
    parts = [header, "", <<1::96>>, "text", <<1::128>>]
    jwe(Enum.map_join(parts, ".", &Base.url_encode64(&1, padding: false)))
  end

  def run(:jwe, ""), do: :ok

  # Private keys in each of their forms.
  def run(:pkcs8, bytes) do
    private(PrivateKey.File.read(bytes))
    # As many iterations as OpenSSL has: others may be seconds of work.
    if :binary.match(bytes, <<2, 2, 2048::16>>) != :nomatch,
      do: private(PrivateKey.File.read(bytes, "abcdef"))

    :ok
  end

  # The bytes in a file of OpenSSH's own, behind what all of them begin with.
  def run(:openssh, bytes) do
    private(PrivateKey.OpenSSH.read(bytes, nil))
    private(PrivateKey.OpenSSH.read("openssh-key-v1" <> <<0>> <> bytes, nil))

    # With its password one in 20 that has one round: each is a twentieth of a second.
    if bytes =~ ~r/bcrypt\0\0\0.\0\0\0\x10.{16}\0\0\0\x01/s and :erlang.phash2(bytes, 20) == 0,
      do: private(PrivateKey.OpenSSH.read(bytes, "abcdef"))

    :ok
  end

  # What the token opens is nobody's, here: with the data key that the corpus has, whole and in pieces, it is the
  # same text or none.
  def run(:envelope, bytes) do
    key = <<7::256>>

    with {:ok, _sealed_key, rest} <- Box.read(bytes) do
      whole = answer(Box.open(rest, key, "aad"))

      pieces =
        with {:ok, out, state} <- Box.more(:open, Box.start(), rest, key, "aad"),
             {:ok, last} <- Box.last(:open, state, key, "aad"),
             do: {:ok, IO.iodata_to_binary([out, last])}

      ^whole = pieces
    end

    :ok
  end

  # As it stands, and as the JSON in one.
  def run(:transfer, text) do
    for text <- [
          text,
          "cryptoki key transfer 1\n" <> text <> "\n" <> Base.encode64(<<7::256>>) <> "\n"
        ] do
      with {:ok, %{attributes: attributes}} <- answer(Transfer.describe(text)),
           do: true = is_list(Attribute.encode!(attributes))
    end

    :ok
  end

  # As it stands, and what is protected by the MAC with the MAC that it should have: so it is read to its end. As
  # many rounds as OpenSSL has: others may be seconds of work.
  def run(:pkcs12, bytes) do
    few = :binary.match(bytes, <<2, 3, 0x1E, 0x84, 0x80>>) == :nomatch
    if few and byte_size(bytes) < 8_000, do: pkcs12(PKCS12.read(bytes, "geheim"))
    pkcs12(PKCS12.read(authentic(bytes), "geheim"))
    :ok
  end

  def run(:jwk, text) do
    private(PrivateKey.File.read(text))
    :ok
  end

  def run(:text, text) do
    asked(X509.request(text))
    answer(X509.revocation_list(text))
    answer(X509.certificate(text))
    private(PrivateKey.File.read(text))
    # Of one round.
    if text =~ "DEK-Info", do: private(PrivateKey.File.read(text, "abcdef"))

    case PEM.decode(text, :all) do
      # What is encrypted has a label only.
      {:ok, entries} ->
        true =
          Enum.all?(entries, fn {label, der} ->
            is_binary(label) and (der == nil or is_binary(der))
          end)

      {:error, sentence} ->
        true = String.valid?(sentence)
    end

    :ok
  end

  # A whole token, or the header of one.
  def run(:jws, <<0, jws::binary>>), do: jws(jws)

  def run(:jws, <<_, header::binary>>) do
    signature = Base.url_encode64(<<1::512>>, padding: false)
    jws(Base.url_encode64(header, padding: false) <> ".dGV4dA." <> signature)
  end

  def run(:jws, ""), do: :ok

  def run(:json, text) do
    with {:ok, term} <- JSON.decode(text) do
      {:ok, ^term} = JSON.decode(JSON.encode!(term))
      if is_map(term), do: thumbprint(term)
      jws = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImEifQ.e30.AA"
      {:error, _error} = answer(JWS.verify({:jwks, text}, jws))
      if is_map(term), do: answer(JWK.to_public_key(term))
    end

    :ok
  end

  # A message, and what it is made of.
  def run(:cose, bytes) do
    {hsm, key} = verifier()
    answer(COSE.verify1(hsm, key, bytes, crit: [99]))

    case CBOR.Reader.decode(bytes, 65_536) do
      {:ok, term} -> {:ok, ^term} = CBOR.Reader.decode(CBOR.encode!(term), 65_536)
      {:error, text} -> true = String.valid?(text)
    end

    :ok
  end

  # A line, or the fields of a key in one of a type that there is.
  def run(:ssh, <<0, line::binary>>), do: fingerprint(line)

  def run(:ssh, <<size, type::binary-size(size), _::binary>> = blob),
    do: fingerprint(type <> " " <> Base.encode64(<<0, 0, 0, blob::binary>>))

  def run(:ssh, _short), do: :ok

  # The text of a signature, or its bytes, for the key and the purpose that stand in it.
  def run(:sshsig, <<0, text::binary>>), do: signature(text)
  def run(:sshsig, <<_, blob::binary>>), do: signature(PEM.encode(blob, "SSH SIGNATURE", 70))
  def run(:sshsig, ""), do: :ok

  # Most of the time would go by with the arithmetic of verifying.
  defp signature(text) do
    read = answer(SSH.Signature.read(text))
    if :erlang.phash2(text, 16) == 0, do: verify(read, text)
    :ok
  end

  defp verify(read, text) do
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    verified(SSH.verify(line, "text", text))

    with {:ok, %{key: key, namespace: namespace}} <- read do
      namespace = if Table.cast(:line, namespace), do: namespace, else: "file"
      line = SSH.Wire.line(key.type, key.blob, "")
      verified(SSH.verify(line, "text", text, namespace: namespace))
    end
  end

  defp verified(:ok), do: :ok
  defp verified(error), do: answer(error)

  defp encoded(hash, digest, policy, nonce),
    do: Timestamp.Request.encode(hash, digest, policy, nonce, true)

  defp follows(answer, list) do
    with {:ok, next} <- answer(answer), do: true = next.number > (list.number || -1)
  end

  # The time of an entry may be after all that is now.
  defp given!(revoked, this) do
    revoked = for {_, at, _} = entry <- revoked, DateTime.compare(at, this) == :lt, do: entry
    {:ok, %{entries: entries}} = RevocationList.new(revoked, [])
    true = length(entries) == length(revoked)
  end

  defp authority(issuer) do
    {public, _private} = :crypto.generate_key(:ecdh, :secp256r1, @scalar)
    key = {{:ECPoint, public}, {:namedCurve, {1, 2, 840, 10_045, 3, 1, 7}}}
    now = DateTime.utc_now()

    %Authority{
      subject: issuer,
      root?: true,
      public: key,
      public_key_info: Extensions.public_key_info(key),
      identifier: "",
      extensions: %{},
      not_before: now,
      not_after: now
    }
  end

  defp request(info, signature) do
    asked(X509.request(DER.sequence([info, @ecdsa_sha256, DER.bit_string(signature)])))
  end

  defp asked(read) do
    with {:ok, %{subject: subject, subject_alt_name: names}} <- answer(read) do
      true = is_list(Extensions.alt_names!(names))
      true = is_binary(Name.encode!(subject, "subject"))
      read
    end
  end

  # A token could be given it, and nothing shows it.
  defp private(read) do
    case answer(read) do
      {:ok, %PrivateKey{} = key} ->
        "#Cryptoki.PrivateKey<" <> _ = inspect(key)
        true = is_list(Attribute.encode!(key.attributes))

      {:ok, %SecretKey{} = key} ->
        "#Cryptoki.SecretKey<" <> _ = inspect(key)

      {:ok, %PublicKey.Given{} = key} ->
        true = is_list(Attribute.encode!(key.public_attributes))

      {:error, %Error{reason: reason}} ->
        true = reason in [:invalid_argument, :unsupported]
    end
  end

  defp pkcs12(read) do
    with {:ok, {key, certificates}} <- answer(read) do
      private({:ok, key})
      true = Enum.all?(certificates, &is_binary/1)
    end
  end

  @data DER.oid({1, 2, 840, 113_549, 1, 7, 1})
  @sha1 DER.sequence([DER.oid({1, 3, 14, 3, 2, 26}), DER.null()])
  # The key of a MAC by one round, with this salt and the password "geheim" (RFC 7292, appendix B).
  @mac_key :crypto.hash(:sha, [
             :binary.copy(<<3>>, 64),
             :binary.copy("12345678", 8),
             binary_part(
               :binary.copy(<<0, ?g, 0, ?e, 0, ?h, 0, ?e, 0, ?i, 0, ?m, 0, 0>>, 5),
               0,
               64
             )
           ])
  defp authentic(bytes) do
    mac = :crypto.mac(:hmac, :sha, @mac_key, bytes)
    info = DER.sequence([@sha1, DER.octet_string(mac)])
    safe = DER.sequence([@data, DER.explicit(0, DER.octet_string(bytes))])
    DER.sequence([DER.integer(3), safe, DER.sequence([info, DER.octet_string("12345678")])])
  end

  @holder %{hsm: nil, key: nil, call: [], class: :private_key, key_type: :ec, curve: :secp256r1}
  @holders [
    struct!(Holder, @holder),
    struct!(Holder, %{@holder | class: :secret_key, key_type: :aes, curve: nil}),
    struct!(Holder, %{@holder | key_type: :ec_montgomery, curve: :x25519})
  ]

  defp jwe(jwe) do
    with {:ok, message} <- answer(JWE.Message.read(jwe, [], nil)) do
      for %{header: %{"alg" => alg} = header} <- message.recipients,
          holder <- @holders,
          is_binary(alg) and JWE.Algorithm.for?(alg, holder) do
        with {:error, text} <- JWE.Algorithm.way(header, message.encryption, holder),
             do: true = String.valid?(text) and byte_size(text) < 200
      end
    end

    :ok
  end

  defp jws(jws) do
    {hsm, key} = verifier()
    answer(JWS.verify({:jwks, key_set()}, jws))

    with {:ok, %{header: %{"alg" => _}}} <- answer(JWS.verify(hsm, key, jws, crit: ["b64"])),
         do: :ok

    :ok
  end

  # A key that is none is the mistake of who has it made.
  defp thumbprint(map) do
    true = is_binary(JWK.thumbprint(map))
  rescue
    error in ArgumentError -> true = String.valid?(Exception.message(error))
  end

  defp fingerprint(line) do
    with {:ok, text} <- answer(SSH.fingerprint(line)), do: "SHA256:" <> _ = text
    :ok
  end

  defp answer({:error, %Error{} = error} = answer) do
    text = Exception.message(error)
    true = String.valid?(text) and byte_size(text) < 4_000
    answer
  end

  defp answer({:ok, _value} = answer), do: answer
end
