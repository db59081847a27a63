defmodule Cryptoki.CMSVerifyTest do
  use ExUnit.Case, async: true

  # Signed data of `openssl cms -sign` and of our own, and what is not signed.

  alias Cryptoki.{CMS, DER, Error}
  alias Cryptoki.Test.{OpenSSL, Scratch, SoftHSM}

  @text "some text\r\n\0 that is signed"
  # 3.0 hands attributes of Ed25519 to a key that it has told a digest.
  @openssl OpenSSL.openssl(["version"]) |> elem(0)
  @edwards not String.starts_with?(@openssl, "OpenSSL 3.0")

  setup_all do
    directory = Path.join(SoftHSM.directory(), "cms-verify")
    File.mkdir_p!(directory)
    run = &({_, 0} = System.cmd("openssl", &1, cd: directory, stderr_to_stdout: true))
    authority = ~w(-addext basicConstraints=critical,CA:TRUE -nodes -days 2)

    run.(
      ~w(req -x509 -newkey rsa:2048 -keyout root.key -out root.pem -subj /CN=root) ++ authority
    )

    run.(
      ~w(req -x509 -newkey rsa:2048 -keyout other.key -out other.pem -subj /CN=other) ++ authority
    )

    issue = fn name, key, issuer, extensions ->
      run.(~w(genpkey -out #{name}.key) ++ key)
      run.(~w(req -new -key #{name}.key -subj /CN=#{name} -out #{name}.csr))
      File.write!(Path.join(directory, "ext"), extensions)

      run.(
        ~w(x509 -req -in #{name}.csr -CA #{issuer}.pem -CAkey #{issuer}.key -CAcreateserial -days 2) ++
          ~w(-extfile ext -out #{name}.pem)
      )
    end

    rsa = ~w(-algorithm RSA -pkeyopt rsa_keygen_bits:2048)

    ec =
      &(~w(-algorithm EC -pkeyopt ec_paramgen_curve:) |> List.update_at(-1, fn o -> o <> &1 end))

    issue.(
      "between",
      rsa,
      "root",
      "basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n"
    )

    identified = "subjectKeyIdentifier=hash\n"

    for {name, key} <- [
          rsa: rsa,
          p256: ec.("P-256"),
          p521: ec.("P-521"),
          ed25519: ~w(-algorithm ED25519)
        ],
        do: issue.("#{name}", key, "between", identified)

    issue.("sealer", rsa, "between", "keyUsage=critical,keyEncipherment\n")
    File.write!(Path.join(directory, "text"), @text)
    read = &File.read!(Path.join(directory, &1))

    %{
      directory: directory,
      root: read.("root.pem"),
      between: read.("between.pem"),
      other: read.("other.pem")
    }
  end

  defp sign(%{directory: directory}, names, arguments) do
    signers = Enum.flat_map(List.wrap(names), &~w(-signer #{&1}.pem -inkey #{&1}.key))
    out = "signed-#{System.unique_integer([:positive])}"
    command = ~w(cms -sign -binary -in text -outform DER -out #{out}) ++ signers ++ arguments
    {_, 0} = System.cmd("openssl", command, cd: directory, stderr_to_stdout: true)
    File.read!(Path.join(directory, out))
  end

  @attached ~w(-nodetach)
  @along ~w(-certfile between.pem)
  @ways [
          {"rsa", []},
          {"rsa", ~w(-md sha384)},
          {"rsa", ~w(-md sha512 -keyopt rsa_padding_mode:pss)},
          {"p256", []},
          {"p521", ~w(-md sha512)}
        ] ++ if(@edwards, do: [{"ed25519", ~w(-md sha512)}], else: [])

  for {name, options} <- @ways do
    test "by OpenSSL: #{name} #{Enum.join(options, " ")}", %{root: root} = context do
      for more <- [[], ["-keyid"], ["-stream"], ["-noattr"]],
          # Which it signs as it is.
          not (unquote(name) == "ed25519" and more == ["-noattr"]),
          # OpenSSL 3.0 writes no such.
          not (length(unquote(options)) > 2 and more in [["-stream"], ["-noattr"]]) do
        options = unquote(options)

        arguments = options ++ more ++ @along
        attached = sign(context, unquote(name), @attached ++ arguments)
        assert {:ok, %{content: @text, signers: [signer]}} = CMS.verify(attached, root)
        assert is_struct(signer.signing_time, DateTime) == (more != ["-noattr"])
        assert {:ok, %{content: @text}} = CMS.verify(CMS.to_pem(attached), [context.other, root])
        refused(spoilt(attached, @text, "some other text\0 that is signed."), root, [])

        # With -stream the content is in it all the same.
        detached = sign(context, unquote(name), arguments -- ["-stream"])

        assert {:ok, %{content: nil, signers: [^signer]}} =
                 same_time(CMS.verify(detached, root, content: @text), signer)

        assert {:ok, _} = CMS.verify(detached, root, content: [@text, ""])
        refused(detached, root, content: @text <> ".")

        stream =
          {:stream, [binary_part(@text, 0, 7), binary_part(@text, 7, byte_size(@text) - 7)]}

        streamed = CMS.verify(detached, root, content: stream)

        if more == ["-noattr"],
          do: assert({:error, %Error{reason: :unsupported}} = streamed),
          else: assert({:ok, _} = streamed)
      end
    end
  end

  # Signed in another second, with another nonce.
  defp same_time({:ok, %{signers: [found]} = verified}, signer) do
    keep = Map.take(signer, [:signing_time, :attributes])
    {:ok, %{verified | signers: [Map.merge(found, keep)]}}
  end

  defp spoilt(der, text, other) when byte_size(text) <= byte_size(other) do
    :binary.replace(der, text, binary_part(other, 0, byte_size(text)))
  end

  defp refused(signed, trusted, opts) do
    assert {:error, %Error{reason: :signature_invalid}} = CMS.verify(signed, trusted, opts)
  end

  test "whom it leads to", %{root: root, between: between, other: other} = context do
    whole = sign(context, "rsa", @attached ++ @along)
    lonely = sign(context, "rsa", @attached)
    bare = sign(context, "rsa", @attached ++ ~w(-nocerts))
    own = File.read!(Path.join(context.directory, "rsa.pem"))

    assert {:ok, _} = CMS.verify(whole, root)
    assert {:ok, _} = CMS.verify(whole, between)
    assert {:ok, _} = CMS.verify(whole, own)
    refused(whole, other, [])
    refused(whole, [], [])
    refused(lonely, root, [])
    assert {:ok, _} = CMS.verify(lonely, root, certificates: between)
    refused(bare, root, certificates: between)

    assert {:ok, %{signers: [%{certificate: der}]}} =
             CMS.verify(bare, root, certificates: [between, own])

    assert [{:Certificate, ^der, _}] = :public_key.pem_decode(own)

    # Whose it is is left to the caller.
    assert {:ok, %{signers: [%{certificate: ^der}]}} = CMS.verify(lonely, :any)
    refused(bare, :any, [])
  end

  test "each of several signers", %{root: root} = context do
    both = sign(context, ["rsa", "p256"], @attached ++ @along)
    assert {:ok, %{signers: [_, _] = signers}} = CMS.verify(both, root)

    assert Enum.sort(for signer <- signers, do: signer.algorithm) == [
             :ecdsa_sha256,
             :sha256_rsa_pkcs
           ]

    # The last bytes are a signature.
    {before, <<byte>>} = :erlang.split_binary(both, byte_size(both) - 1)
    refused(before <> <<Bitwise.bxor(byte, 1)>>, root, [])
  end

  test "a key that is not for signatures, a hash that is broken", %{root: root} = context do
    assert {:error, error} = CMS.verify(sign(context, "sealer", @attached ++ @along), root)

    assert {error.reason, error.detail} ==
             {:signature_invalid, "the key of a signer is not for signatures (key usage)"}

    assert {:error, %Error{reason: :unsupported}} =
             CMS.verify(sign(context, "rsa", @attached ++ @along ++ ~w(-md sha1)), root)
  end

  # RFC 5652, section 5.4: what is signed are attributes, or the content. Who has a signature of the one kind could
  # show it as one of the other.
  test "attributes are not content", %{root: root} = context do
    signed = sign(context, "rsa", @along)
    {:ok, %{signers: [signer]}} = CMS.verify(signed, root, content: @text)

    list =
      for {oid, values} <- signer.attributes,
          do: DER.sequence([DER.oid(oid), DER.set_of(values)])

    attributes = DER.set_of(list)
    implicit = DER.set_of(list, 0xA0)
    assert {at, size} = :binary.match(signed, implicit)

    # The same without them, made anew from what is inside of it.
    without = remade(signed, at, size)
    assert {:error, error} = CMS.verify(without, root, content: attributes)
    assert error.detail == "a signer signs no attributes, and its content would be some"
  end

  # DER again after some of its bytes are taken out.
  defp remade(der, at, size), do: der |> remade(0, at, size) |> elem(0)

  defp remade(<<tag, rest::binary>> = der, from, at, size) do
    {head, contents} = contents(rest)
    inside = from + 1 + head

    if Bitwise.band(tag, 0x20) != 0 and at >= inside and at + size <= inside + byte_size(contents) do
      {DER.value(tag, parts(contents, inside, at, size, [])), 1 + head + byte_size(contents)}
    else
      whole = 1 + head + byte_size(contents)
      {binary_part(der, 0, whole), whole}
    end
  end

  defp parts("", _from, _at, _size, done), do: Enum.reverse(done)

  defp parts(bytes, from, at, size, done) when from == at do
    rest = binary_part(bytes, size, byte_size(bytes) - size)
    parts(rest, from + size, at, size, done)
  end

  defp parts(bytes, from, at, size, done) do
    {value, whole} = remade(bytes, from, at, size)
    rest = binary_part(bytes, whole, byte_size(bytes) - whole)
    parts(rest, from + whole, at, size, [value | done])
  end

  defp contents(<<0x82, size::16, rest::binary>>), do: {3, binary_part(rest, 0, size)}
  defp contents(<<0x81, size, rest::binary>>), do: {2, binary_part(rest, 0, size)}
  defp contents(<<size, rest::binary>>), do: {1, binary_part(rest, 0, size)}

  test "what is no signed data, and what is wrong in the call", %{root: root} = context do
    signed = sign(context, "rsa", @attached ++ @along)
    only = Scratch.directory("certs")

    {_, 0} =
      OpenSSL.openssl(
        ~w(crl2pkcs7 -nocrl -certfile #{context.directory}/root.pem -outform DER -out #{only}/c)
      )

    for {message, opts, reason, text} <- [
          {"", [], :invalid_argument, "nothing is there"},
          {root, [], :invalid_argument, "it has no \"CMS\", but \"CERTIFICATE\""},
          {binary_part(signed, 0, 400), [], :invalid_argument, "cut off"},
          {CMS.encrypt!(root, "x"), [], :invalid_argument,
           "it is data that is encrypted for a key"},
          {File.read!(only <> "/c"), [content: ""], :signature_invalid, "it has no signer"},
          {signed, [content: @text], :invalid_argument, "this one has its content"},
          {sign(context, "rsa", @along), [], :invalid_argument, "its content is needed"},
          {signed, [certificates: "none"], :invalid_argument, "certificates: it is neither"}
        ] do
      assert {:error, %Error{reason: ^reason} = error} = CMS.verify(message, root, opts)
      assert error.detail =~ text
    end

    for {arguments, text} <- [
          {[:der, root], "signed: must be DER or PEM"},
          {[signed, :none], "trusted: must be DER or PEM, or a list of these"},
          {[signed, root, [contents: ""]], "did you mean :content"},
          {[signed, root, [content: 1]], "content: must be iodata"}
        ] do
      error = assert_raise ArgumentError, fn -> apply(CMS, :verify, arguments) end
      assert Exception.message(error) =~ text
    end
  end

  test "every part of it that is changed is an error", %{root: root} = context do
    for name <- ["rsa", "p256"], signed = sign(context, name, @attached ++ @along), _ <- 1..300 do
      at = :rand.uniform(byte_size(signed)) - 1
      {head, <<byte, rest::binary>>} = :erlang.split_binary(signed, at)
      changed = <<head::binary, Bitwise.bxor(byte, :rand.uniform(255)), rest::binary>>

      # Versions, a certificate that is not needed, what is not signed of it.
      case CMS.verify(changed, root) do
        {:ok, verified} -> assert verified.content == @text
        {:error, %Error{} = error} -> assert error.detail != nil
      end
    end
  end
end
