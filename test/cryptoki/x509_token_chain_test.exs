defmodule Cryptoki.X509TokenChainTest do
  use ExUnit.Case, async: true

  # The certificates of a token, and the chain above a key, as CMS, time stamps and TLS send it; OpenSSL judges it
  # with the root alone.

  alias Cryptoki.{CMS, Error, SSL, Timestamp, X509}
  alias Cryptoki.Test.{KeyPairs, MainToken, OpenSSL, Scratch, TLS}

  @day 86_400

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    keys = KeyPairs.make(hsm, [:rsa, :secp256r1, :secp384r1, :secp521r1])
    root = X509.self_signed!(hsm, keys.secp256r1, subject: "/CN=root of a token", ca: true)
    context = %{hsm: hsm, keys: keys, root: root}
    between = certify(context, :secp256r1, root, :secp384r1, subject: "/CN=between", ca: true)
    Map.put(context, :between, between)
  end

  defp certify(%{hsm: hsm, keys: keys}, by, issuer, key, opts),
    do: X509.certify!(hsm, keys[by], issuer, keys[key], opts)

  defp leaf(context, opts \\ []),
    do: certify(context, :secp384r1, context.between, :rsa, [subject: "/CN=leaf"] ++ opts)

  # As an object of the session, until the test ends.
  defp store(%{hsm: hsm}, certificates) do
    for certificate <- certificates do
      object = X509.store!(hsm, certificate, token: false, label: "of a chain")
      on_exit(fn -> if Process.alive?(hsm), do: Cryptoki.destroy(hsm, object) end)
      object
    end
  end

  defp chain(%{hsm: hsm, keys: keys}), do: X509.chain(hsm, keys.rsa)

  test "all are listed, and what is none is not", %{hsm: hsm, root: root} = context do
    objects = store(context, [root, context.between])
    lies = [class: :certificate, certificate_type: :x_509, subject: <<0x30, 0>>, token: false]
    none = Cryptoki.create(hsm, lies ++ [label: "of a chain", value: "none"])
    assert {:ok, list} = X509.certificates(hsm, label: "of a chain")
    assert Enum.sort(list) == Enum.sort(Enum.zip(objects, [root, context.between]))
    assert X509.certificates!(hsm, %{label: "of a chain"}) == list
    with {:ok, object} <- none, do: Cryptoki.destroy(hsm, object)
    assert {:ok, all} = X509.certificates(hsm)
    assert list -- all == []
    assert X509.certificates(hsm, label: "no such") == {:ok, []}

    assert_raise ArgumentError, ~r/selector: must be attributes/, fn ->
      X509.certificates(hsm, "x")
    end
  end

  test "those above a key are found, whatever lies beside them", context do
    %{hsm: hsm, keys: keys, root: root, between: between} = context
    assert {:error, %Error{reason: :key_not_found, detail: text}} = chain(context)
    assert text =~ "no certificate of this key"

    leaf = leaf(context)
    twin = X509.self_signed!(hsm, keys.secp521r1, subject: "/CN=between", ca: true)
    store(context, [twin, leaf])
    assert chain(context) == {:ok, [leaf]}
    store(context, [root, between, between])
    assert chain(context) == {:ok, [leaf, between]}
    # A root alone is its own.
    assert X509.chain(hsm, keys.secp256r1) == {:ok, [root]}
    assert X509.chain(hsm, keys.secp521r1) == {:ok, [twin]}
    assert {:error, %Error{reason: :key_not_found}} = X509.chain(hsm, label: "no such key")
  end

  test "of several the one that begins latest of those that hold", context do
    now = DateTime.utc_now()
    at = &[not_before: DateTime.add(now, &1 * @day), not_after: DateTime.add(now, &2 * @day)]

    long =
      X509.self_signed!(
        context.hsm,
        context.keys.secp256r1,
        [subject: "/CN=root of a token", ca: true] ++ at.(-90, 90)
      )

    between =
      &certify(context, :secp256r1, long, :secp384r1, [subject: "/CN=between", ca: true] ++ &1)

    elder = between.(at.(-60, 60))
    renewed = between.(at.(-30, 60))
    leaf = &certify(context, :secp384r1, elder, :rsa, [subject: "/CN=leaf"] ++ &1)
    ended = leaf.(at.(-5, -1))
    early = leaf.(at.(-20, 20))
    late = leaf.(at.(-10, 20))
    later = leaf.(at.(1, 20))

    store(context, [ended])
    assert chain(context) == {:ok, [ended]}
    store(context, [early, later, elder])
    assert chain(context) == {:ok, [early, elder]}
    store(context, [late, renewed, elder])
    assert chain(context) == {:ok, [late, renewed]}

    store(context, [leaf.(at.(-10, 25))])
    assert {:error, %Error{reason: :key_ambiguous, detail: text}} = chain(context)
    assert text =~ "name one of them"
  end

  # The root has a new key, and the key before it has signed a certificate of it (RFC 4210, section 4.4): a root by its
  # names only, without which nobody who trusts the old one knows the new.
  test "at the rollover of a root's key, what the old one has signed of the new", context do
    %{hsm: hsm, keys: keys, root: root} = context

    rolled =
      certify(context, :secp256r1, root, :secp384r1, subject: "/CN=root of a token", ca: true)

    leaf = certify(context, :secp384r1, rolled, :rsa, subject: "/CN=rolled")
    objects = store(context, [rolled, leaf])
    assert chain(context) == {:ok, [leaf, rolled]}
    store(context, [root])
    assert chain(context) == {:ok, [leaf, rolled]}

    Scratch.within("rollover", fn directory ->
      file = Scratch.write(directory, "root.pem", X509.to_pem(root))
      assert OpenSSL.cms(CMS.sign!(hsm, keys.rsa, :token, "text"), file) == "text"
      assert OpenSSL.cms(CMS.sign!(hsm, keys.rsa, leaf, "text"), file) == :refused
    end)

    # The new root of its own is none to send.
    new = X509.self_signed!(hsm, keys.secp384r1, subject: "/CN=root of a token", ca: true)
    Cryptoki.destroy!(hsm, hd(objects))
    store(context, [new])
    assert chain(context) == {:ok, [leaf]}
  end

  test "signed data and stamps have it, and the root is enough", context do
    %{hsm: hsm, keys: keys, root: root, between: between} = context
    leaf = leaf(context)
    store(context, [leaf, between, root])

    Scratch.within("chain", fn directory ->
      file = Scratch.write(directory, "root.pem", X509.to_pem(root))
      assert OpenSSL.cms(CMS.sign!(hsm, keys.rsa, :token, "text"), file) == "text"
      assert OpenSSL.cms(CMS.sign!(hsm, keys.rsa, leaf, "text"), file) == :refused
      signers = [signers: [{keys.rsa, :token}]]
      assert OpenSSL.cms(CMS.sign!(hsm, keys.secp256r1, root, "text", signers), file) == "text"
    end)

    stamps = [subject: "/CN=stamps", extended_key_usage: [:time_stamping]]
    tsa = certify(context, :secp384r1, between, :secp521r1, stamps)
    store(context, [tsa])
    request = Timestamp.request("text")
    response = Timestamp.respond!(hsm, keys.secp521r1, :token, request, policy: {1, 2, 3})
    assert {:ok, %{certificate: ^tsa}} = Timestamp.verify(response, request, trusted: root)

    nobody = CMS.sign(hsm, [label: "no such key"], :token, "text")
    assert {:error, %Error{reason: :key_not_found}} = nobody

    # Of nobody's key.
    assert_raise ArgumentError, ~r/is PEM, DER/, fn ->
      CMS.sign(hsm, keys.rsa, leaf, "text", chain: :token)
    end

    assert_raise ArgumentError, ~r/is PEM, DER/, fn -> X509.crl(hsm, keys.rsa, :token, []) end
  end

  @tag skip: TLS.missing()
  test "TLS has it", %{hsm: hsm, keys: keys, root: root, between: between} = context do
    leaf = leaf(context)
    store(context, [root, between, leaf])
    assert {:ok, %{cert: [^leaf, ^between]} = entry} = SSL.certs_keys(hsm, keys.rsa)
    assert {:ok, %{cert: [^leaf, ^between]}} = SSL.certs_keys(hsm, keys.rsa, :token)
    assert is_binary(:public_key.sign("text", :sha256, entry.key, []))
  end
end
