defmodule Cryptoki.CMSTest do
  use ExUnit.Case, async: true

  # Signed data of the token, judged by `openssl cms`. It was seen to refuse attributes in another
  # order, another digest, another salt, and a signature over the attributes as they stand.

  alias Cryptoki.{CMS, DER, Error}
  alias Cryptoki.Test.{KeyPairs, MainToken, OpenSSL, Parts, Referee, SoftHSM, TLS}

  @nobody :no_such_instance
  @text "some text\r\n\0 that is signed"

  @keys ~w(rsa secp256r1 secp384r1 secp521r1 brainpoolP256r1 ed25519 ed448)a

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    root = TLS.authority(Path.join(SoftHSM.directory(), "cms"))
    directory = between(root)

    keys =
      for {name, private} <- KeyPairs.make(hsm, @keys), into: %{} do
        public = Cryptoki.public_key!(hsm, private)
        pem = TLS.certificate(directory, public, "#{name}")
        {name, %{private: private, public: public, pem: pem}}
      end

    chain = File.read!(Path.join(directory, "ca.pem"))
    File.write!(Path.join(directory, "content"), @text)
    File.write!(Path.join(directory, "another"), @text <> ".")
    %{hsm: hsm, keys: keys, directory: directory, chain: chain}
  end

  # An authority below another one, whose certificate has to go along.
  defp between(root) do
    directory = Path.join(root, "between")
    File.mkdir_p!(directory)
    File.cp!(Path.join(root, "ca.pem"), Path.join(directory, "root.pem"))
    File.write!(Path.join(directory, "ca.ext"), "basicConstraints=critical,CA:TRUE\n")
    request = ~w(req -newkey rsa:2048 -nodes -keyout #{directory}/ca.key -out #{directory}/ca.csr)
    {_, 0} = OpenSSL.openssl(request ++ ~w(-subj /CN=between))

    {_, 0} =
      OpenSSL.openssl(
        ~w(x509 -req -in #{directory}/ca.csr -CA #{root}/ca.pem -CAkey #{root}/ca.key) ++
          ~w(-CAcreateserial -days 2 -extfile #{directory}/ca.ext -out #{directory}/ca.pem)
      )

    both = for file <- ~w(root.pem ca.pem), do: File.read!(Path.join(directory, file))
    File.write!(Path.join(directory, "both.pem"), both)
    directory
  end

  defp sign(%{hsm: hsm, keys: keys, chain: chain}, name, data, opts) do
    CMS.sign!(hsm, keys[name].private, keys[name].pem, data, [chain: chain] ++ opts)
  end

  defp verify(%{directory: directory}, der, arguments \\ []),
    do: OpenSSL.cms(der, "#{directory}/root.pem", arguments)

  defp print(%{directory: directory}, der) do
    file = Path.join(directory, "#{System.unique_integer([:positive])}")
    File.write!(file, der)
    {text, 0} = OpenSSL.openssl(~w(cms -cmsout -print -inform DER -in #{file}))
    text
  end

  # 3.0 hands attributes of Ed25519 to a key that it has told a digest.
  @openssl OpenSSL.openssl(["version"]) |> elem(0)
  @edwards not String.starts_with?(@openssl, "OpenSSL 3.0")

  @signatures [
                {:rsa, [], "sha256", "sha256WithRSAEncryption"},
                {:rsa, [hash: :sha384], "sha384", "sha384WithRSAEncryption"},
                {:rsa, [hash: :sha512], "sha512", "sha512WithRSAEncryption"},
                {:rsa, [padding: :pss], "sha256", "rsassaPss"},
                {:rsa, [padding: :pss, hash: :sha384], "sha384", "rsassaPss"},
                {:rsa, [padding: :pss, hash: :sha512], "sha512", "rsassaPss"},
                {:secp256r1, [], "sha256", "ecdsa-with-SHA256"},
                {:secp256r1, [hash: :sha512], "sha512", "ecdsa-with-SHA512"},
                {:secp384r1, [], "sha384", "ecdsa-with-SHA384"},
                {:secp521r1, [], "sha512", "ecdsa-with-SHA512"},
                {:brainpoolP256r1, [], "sha256", "ecdsa-with-SHA256"}
              ] ++ if(@edwards, do: [{:ed25519, [], "sha512", "ED25519"}], else: [])

  for {key, opts, digest, algorithm} <- @signatures do
    @tag skip: MainToken.lacks_key(key)
    test "a signature of #{key} #{inspect(opts)} is taken by OpenSSL",
         %{directory: directory} = context do
      opts = unquote(opts)
      attached = sign(context, unquote(key), @text, opts)
      assert verify(context, attached, ["-cades"]) == @text
      assert verify(context, Referee.spoilt(attached)) == :refused

      stream =
        {:stream, [binary_part(@text, 0, 5), [binary_part(@text, 5, byte_size(@text) - 5)]]}

      for data <- [@text, [@text, []], stream] do
        detached = sign(context, unquote(key), data, [detached: true] ++ opts)
        assert byte_size(detached) < byte_size(attached) - byte_size(@text)
        assert verify(context, detached, ~w(-content #{directory}/content)) == @text
        assert verify(context, detached, ~w(-content #{directory}/another)) == :refused
      end

      text = print(context, attached)
      assert text =~ ~r/digestAlgorithm: \s+algorithm: #{unquote(digest)} \(/
      assert text =~ ~r/signatureAlgorithm: \s+algorithm: #{unquote(algorithm)} \(/
    end
  end

  test "Ed25519 signs the attributes, with the SHA-512 of the content (RFC 8419)", context do
    der = sign(context, :ed25519, @text, [])
    assert [info] = signer_infos(der)

    [
      _version,
      _id,
      {_, digest_algorithm, _},
      {0xA0, attributes, _},
      {_, algorithm, _},
      {4, signature, _}
    ] = info

    assert digest_algorithm == DER.oid({2, 16, 840, 1, 101, 3, 4, 2, 3})
    assert algorithm == DER.oid({1, 3, 101, 112})
    assert :binary.match(attributes, DER.octet_string(:crypto.hash(:sha512, @text))) != :nomatch
    public = context.keys.ed25519.public
    assert :public_key.verify(DER.value(0x31, attributes), :none, signature, public)
    refute :public_key.verify(DER.value(0xA0, attributes), :none, signature, public)
  end

  test "RSA keys that are for PSS only, maybe with one hash", context do
    sha384 =
      Enum.flat_map(
        ~w(keygen_md:sha384 keygen_mgf1_md:sha384 keygen_saltlen:48),
        &["-pkeyopt", "rsa_pss_" <> &1]
      )

    sha1 = Enum.map(sha384, &String.replace(&1, "sha384", "sha1"))

    for {arguments, hash} <- [{[], "sha256"}, {sha384, "sha384"}] do
      {key, pem} = KeyPairs.pss(context, arguments)
      der = CMS.sign!(context.hsm, key, pem, @text)
      File.write!(Path.join(context.directory, "pss.pem"), pem)
      assert verify(context, der, ~w(-CAfile #{context.directory}/pss.pem)) == @text
      assert print(context, der) =~ ~r/digestAlgorithm: \s+algorithm: #{hash} \(/

      assert {:error, %Error{reason: :unsupported}} =
               CMS.sign(context.hsm, key, pem, @text, padding: :pkcs1)
    end

    {key, pem} = KeyPairs.pss(context, sha384)
    assert {:error, error} = CMS.sign(context.hsm, key, pem, @text, hash: :sha256)
    assert Exception.message(error) =~ "this RSA key is for PSS with sha384 only"
    {key, pem} = KeyPairs.pss(context, sha1)
    assert {:error, %Error{reason: :unsupported}} = CMS.sign(context.hsm, key, pem, @text)
  end

  test "what goes along", context do
    %{hsm: hsm, directory: directory, keys: keys, chain: chain} = context
    [der] = TLS.der(keys.rsa.pem)
    [between] = TLS.der(chain)

    for {certificate, opts} <- [
          {keys.rsa.pem <> chain, []},
          {[der, between], []},
          {[keys.rsa.pem, chain], []},
          {der, [chain: [between]]},
          {der, [chain: between]},
          # Each once.
          {[der, between], [chain: chain <> keys.rsa.pem]}
        ] do
      signed = CMS.sign!(hsm, keys.rsa.private, certificate, @text, opts)
      assert verify(context, signed) == @text
      assert length(String.split(print(context, signed), "d.certificate:")) == 3
    end

    # Without the one between, OpenSSL does not know who has signed.
    lonely = CMS.sign!(hsm, keys.rsa.private, keys.rsa.pem, @text)
    assert verify(context, lonely) == :refused
    assert verify(context, lonely, ~w(-CAfile #{directory}/both.pem)) == @text

    # On the token.
    id = keys.rsa.private.id
    template = [class: :certificate, certificate_type: :x_509, subject: <<0x30, 0>>]
    Cryptoki.create!(hsm, [id: id, value: der] ++ template)

    for certificate <- [[id: id, class: :certificate], %{id: id, class: :certificate}] do
      on_token = CMS.sign!(hsm, [id: id, class: :private_key], certificate, @text)
      assert verify(context, on_token, ~w(-CAfile #{directory}/both.pem)) == @text
    end
  end

  test "several signers", context do
    %{hsm: hsm, keys: keys, chain: chain, directory: directory} = context
    signer = fn name -> {keys[name].private, keys[name].pem} end

    signers = [signer.(:secp384r1), {hsm, keys.secp521r1.private, keys.secp521r1.pem}]
    stream = {:stream, Stream.map([@text], & &1)}
    opts = [detached: true, signers: signers, padding: :pss, chain: chain]
    der = CMS.sign!(hsm, keys.rsa.private, keys.rsa.pem, stream, opts)
    assert verify(context, der, ~w(-content #{directory}/content)) == @text
    assert verify(context, der, ~w(-content #{directory}/another)) == :refused
    text = print(context, der)
    assert length(String.split(text, "d.issuerAndSerialNumber:")) == 4
    assert text =~ "rsassaPss"
    assert text =~ "ecdsa-with-SHA384"
    assert length(signer_infos(der)) == 3

    # A SET OF is in order, and each signature counts.
    for {_tag, _contents, whole} <- signer_infos(der) |> Enum.map(&List.last/1) do
      spoilt = :binary.replace(der, whole, Referee.spoilt(whole))
      assert spoilt != der
      assert verify(context, spoilt, ~w(-content #{directory}/content)) == :refused
    end
  end

  test "attributes", context do
    time = ~U[2031-02-03 04:05:06.789Z]
    extra = {{1, 3, 6, 1, 4, 1, 311, 2, 1, 12}, [DER.sequence([]), DER.integer(-129)]}
    der = sign(context, :secp256r1, @text, signing_time: time, attributes: [extra])
    assert verify(context, der, ["-cades"]) == @text
    text = print(context, der)
    assert text =~ "UTCTIME:Feb  3 04:05:06 2031 GMT"
    assert text =~ ~r/object: .*\(1\.3\.6\.1\.4\.1\.311\.2\.1\.12\)/
    assert text =~ "INTEGER:-129"

    der = sign(context, :secp256r1, @text, signing_time: ~U[2050-01-01 00:00:00Z])
    assert print(context, der) =~ "GENERALIZEDTIME:Jan  1 00:00:00 2050 GMT"

    der = sign(context, :secp256r1, @text, signing_time: false)
    refute print(context, der) =~ "signingTime"
    assert verify(context, der) == @text

    before = DateTime.utc_now() |> DateTime.truncate(:second)
    text = print(context, sign(context, :secp256r1, @text, []))
    [_, minute] = Regex.run(~r/UTCTIME:\w+ +\d+ (\d\d:\d\d):/, text)
    now = [before, DateTime.utc_now()] |> Enum.map(&Calendar.strftime(&1, "%H:%M"))
    assert minute in now
  end

  test "on a session of one's own", context do
    Cryptoki.with_session(context.hsm, fn session ->
      assert verify(context, sign(%{context | hsm: session}, :rsa, @text, [])) == @text
    end)
  end

  test "PEM", context do
    file = Path.join(context.directory, "signed.pem")
    File.write!(file, context |> sign(:rsa, @text, []) |> CMS.to_pem())

    assert {"", 0} =
             OpenSSL.openssl(
               ~w(cms -cmsout -inform PEM -outform DER -in #{file} -out #{file}.der)
             )

    assert verify(context, File.read!(file <> ".der")) == @text
  end

  describe "refused" do
    test "is what is wrong in the call, before anything is asked of the token", context do
      pem = context.keys.rsa.pem
      oid = {1, 2, 3}

      for {certificate, data, opts, text} <- [
            {pem, "", [detach: true], "did you mean :detached"},
            {pem, "", [detached: 1], "detached: must be true or false"},
            {pem, "", :none, "expected a keyword list or a map, got: an atom"},
            {pem, "", [timeout: 0], "timeout: must be milliseconds"},
            {pem, {:stream, []}, [], "a stream is signed with detached: true"},
            {pem, :text, [], "data is iodata"},
            {pem, "", [hash: :sha], "hash: must be :sha256"},
            {pem, "", [padding: :oaep], "padding: must be :pkcs1 or :pss"},
            {pem, "", [signing_time: true], "signing_time: must be a DateTime or false"},
            {pem, "", [signing_time: ~N[2026-01-01 00:00:00]],
             "signing_time: must be a DateTime"},
            {pem, "", [attributes: oid], "attributes: must be a list"},
            {pem, "", [attributes: [oid]], "attributes: must be pairs"},
            {pem, "", [attributes: [{oid, []}]], "attributes: must be pairs"},
            {pem, "", [attributes: [{{3, 1}, [DER.null()]}]], "object identifiers as tuples"},
            {pem, "", [attributes: [{oid, ["no DER"]}]], "attributes: must have values in DER"},
            {pem, "", [attributes: [{oid, [DER.null()]}, {oid, [DER.null()]}]],
             "must not have one that is there already"},
            {pem, "", [attributes: [{{1, 2, 840, 113_549, 1, 9, 4}, [DER.null()]}]],
             "must not have one that is there already"},
            {pem, "", [signers: {[label: "x"], pem}], "signers: must be a list"},
            {pem, "", [signers: [[label: "x"]]], "signers: must be a list of {key, certificate}"},
            {[], "", [], "certificate: is empty"},
            {:pem, "", [], "certificate: is PEM, DER, what names a certificate"}
          ] do
        error =
          assert_raise ArgumentError, fn ->
            CMS.sign(@nobody, [label: "x"], certificate, data, opts)
          end

        assert Exception.message(error) =~ text
      end
    end

    # A file, or an object of a token, may hold anything: that is no mistake of who writes the program.
    test "is what is no certificate, by an error", %{hsm: hsm, keys: keys} do
      %{pem: pem, private: key} = keys.rsa

      for {certificate, opts, text} <- [
            {"", [], "certificate: it is neither DER nor PEM"},
            {pem <> "-----BEGIN CERTIFICATE-----\n", [], "begins and does not end"},
            {hd(TLS.der(pem)) <> <<0>>, [], "certificate: this is no certificate: byte "},
            {pem, [signers: [{[label: "x"], "no certificate"}]], "signers: it is neither"},
            {pem, [chain: "-----BEGIN CERTIFICATE-----\nAA"], "chain: line 1: "}
          ] do
        assert {:error, %Cryptoki.Error{reason: :invalid_argument, detail: detail}} =
                 CMS.sign(hsm, key, certificate, "", opts)

        assert detail =~ text
      end
    end

    test "is a certificate with bytes by chance", %{hsm: hsm, keys: keys} do
      for name <- [:rsa, :secp256r1, :ed25519], [der] = TLS.der(keys[name].pem), _ <- 1..100 do
        at = :rand.uniform(byte_size(der)) - 1
        {head, <<_, rest::binary>>} = :erlang.split_binary(der, at)
        der = head <> :rand.bytes(1) <> rest

        # The same key is in most of them.
        assert {_ok_or_error, _} = CMS.sign(hsm, keys[name].private, der, "")
      end
    end

    test "is the certificate of another key, of any signer", %{hsm: hsm, keys: keys} do
      for {certificate, signers} <- [
            {keys.secp256r1.pem, []},
            {keys.rsa.pem, [{keys.secp256r1.private, keys.rsa.pem}]}
          ] do
        assert {:error, %Error{reason: :invalid_argument} = error} =
                 CMS.sign(hsm, keys.rsa.private, certificate, "", signers: signers)

        assert Exception.message(error) =~ "the first certificate is of another key"
      end
    end

    test "is what is not there", %{hsm: hsm, keys: keys} do
      rsa = keys.rsa

      for {key, certificate, opts} <- [
            {[label: "not there"], rsa.pem, []},
            {rsa.private, [label: "not there"], []},
            {rsa.private, rsa.pem, [chain: [label: "not there"]]},
            {rsa.private, rsa.pem, [signers: [{[label: "not there"], rsa.pem}]]}
          ],
          do:
            assert(
              {:error, %Error{reason: :key_not_found}} = CMS.sign(hsm, key, certificate, "", opts)
            )

      assert_raise Error, fn -> CMS.sign!(hsm, [label: "not there"], rsa.pem, "") end
    end

    test "is Ed448, whose content is hashed with SHAKE256", %{hsm: hsm, keys: keys} do
      assert {:error, %Error{reason: :unsupported} = error} =
               CMS.sign(hsm, keys.ed448.private, keys.ed448.pem, "")

      assert Exception.message(error) =~ "SHAKE256"
    end
  end

  # The fields of each SignerInfo.
  defp signer_infos(der) do
    {:ok, [{0x30, content_info, _}]} = Parts.split(der)
    {:ok, [_type, {0xA0, content, _}]} = Parts.split(content_info)
    {:ok, [{0x30, signed_data, _}]} = Parts.split(content)
    {:ok, fields} = Parts.split(signed_data)
    {0x31, infos, _} = List.last(fields)
    {:ok, infos} = Parts.split(infos)
    assert infos == Enum.sort_by(infos, &elem(&1, 2))

    for {0x30, info, _} <- infos do
      {:ok, fields} = Parts.split(info)
      fields
    end
  end
end
