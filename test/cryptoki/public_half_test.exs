defmodule Cryptoki.PublicHalfTest do
  # Which public key is that of a private key, when an id, a label or nothing at all joins them.
  use ExUnit.Case, async: false

  alias Cryptoki.{CMS, Error, JWK, SSH, SSL, X509}
  alias Cryptoki.Test.{FaultyModule, MainToken}

  # Private keys that show nothing of their public half, as those on curves of SoftHSM.
  @silent "attribute 0x181 class=3\nattribute 0x129 class=3"

  setup_all do
    module = FaultyModule.new()
    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module, sessions: 2))
    %{faulty: module, hsm: hsm}
  end

  setup %{faulty: module} do
    FaultyModule.control(module, @silent)
    on_exit(fn -> FaultyModule.control(module, "") end)
    %{label: "pair-#{System.unique_integer([:positive])}", id: :crypto.strong_rand_bytes(8)}
  end

  describe "two pairs with one id" do
    for kind <- [:secp256r1, :rsa, :ed25519] do
      @tag kind: kind
      test "#{kind}, of which one has lost its public half", context do
        %{hsm: hsm, label: label, id: id, kind: kind} = context
        {public, a} = pair(hsm, kind, label: label <> "a", id: id)
        {other, b} = pair(hsm, kind, label: label <> "b", id: id)
        of_a = Cryptoki.public_key!(hsm, public)
        of_b = Cryptoki.public_key!(hsm, other)
        Cryptoki.destroy!(hsm, public)

        assert Cryptoki.public_key!(hsm, b) == of_b
        assert Cryptoki.public_key!(hsm, class: :private_key, label: b.label) == of_b

        for selector <- [a, [label: a.label], %{label: a.label, class: :private_key}] do
          answers = [
            Cryptoki.public_key(hsm, selector),
            JWK.public(hsm, selector),
            SSH.public_key(hsm, selector),
            X509.csr(hsm, selector, subject: "/CN=a"),
            X509.self_signed(hsm, selector, subject: "/CN=a")
          ]

          if kind == :rsa do
            # Its private half shows it.
            assert [{:ok, ^of_a}, {:ok, jwk}, {:ok, _line}, {:ok, csr}, {:ok, _root}] = answers
            assert {:ok, ^jwk} = JWK.from_public_key(of_a)
            assert X509.request!(csr).public_key == of_a
          else
            for answer <- answers do
              assert {:error, %Error{reason: :unsupported} = error} = answer
              assert Exception.message(error) =~ "proven"
            end
          end
        end
      end
    end

    test "do not lend each other a certificate", context do
      %{hsm: hsm, label: label, id: id} = context
      {_public, a} = pair(hsm, :secp256r1, label: label <> "a", id: id)
      {_public, b} = pair(hsm, :secp256r1, label: label <> "b", id: id)
      of_b = X509.self_signed!(hsm, b, subject: "/CN=b", ca: true)
      csr = X509.csr!(hsm, b, subject: "/CN=leaf")

      for answer <- [
            CMS.sign(hsm, a, of_b, "text"),
            CMS.sign(hsm, b, of_b, "text", signers: [{a, of_b}]),
            X509.issue(hsm, a, of_b, csr),
            X509.crl(hsm, a, of_b, [])
          ] do
        assert {:error, %Error{reason: :invalid_argument} = error} = answer
        assert Exception.message(error) =~ "of another key"
      end

      if System.otp_release() >= "27" do
        assert {:error, %Error{reason: :invalid_argument}} = SSL.certs_keys(hsm, a, of_b)
      end

      assert {:ok, _der} = CMS.sign(hsm, b, of_b, "text")
      assert {:ok, _der} = X509.issue(hsm, b, of_b, csr)
    end
  end

  describe "a pair that nothing joins" do
    for kind <- [:secp256r1, :rsa, :ed25519] do
      test "#{kind} without id works by key as by label", %{hsm: hsm, label: label} do
        {public, private} = pair(hsm, unquote(kind), label: label)
        key = Cryptoki.public_key!(hsm, public)
        assert Cryptoki.public_key!(hsm, private) == key
        assert Cryptoki.public_key!(hsm, label: label) == key
        assert {:ok, csr} = X509.csr(hsm, private, subject: "/CN=a")
        assert X509.request!(csr).public_key == key
      end

      test "#{kind} without a name in common", %{hsm: hsm, label: label} do
        for n <- 1..3, do: pair(hsm, unquote(kind), public: [label: label <> "other #{n}"])
        {public, private} = pair(hsm, unquote(kind), public: [label: label <> "x", id: "x"])
        assert Cryptoki.public_key!(hsm, private) == Cryptoki.public_key!(hsm, public)
      end
    end

    test "a selector names what signs, not what has its label besides", context do
      %{hsm: hsm, label: label} = context
      {old, _private} = pair(hsm, :secp256r1, public: [label: label])
      {public, private} = pair(hsm, :secp256r1, private: [label: label], id: "new " <> label)
      key = Cryptoki.public_key!(hsm, public)
      assert Cryptoki.public_key!(hsm, label: label) == key
      assert Cryptoki.public_key!(hsm, private) == key
      assert Cryptoki.public_key!(hsm, class: :public_key, label: label) != key
      assert Cryptoki.public_key!(hsm, old) != key
      assert X509.request!(X509.csr!(hsm, [label: label], subject: "/CN=a")).public_key == key
    end
  end

  describe "certificates" do
    test "are found by their public key", %{hsm: hsm, label: label, id: id} do
      {public, private} = pair(hsm, :secp256r1, label: label, id: id)
      der = X509.self_signed!(hsm, private, subject: "/CN=a")
      key = Cryptoki.public_key!(hsm, public)
      X509.store!(hsm, der, id: "another " <> id, label: "other", token: false)
      assert Cryptoki.certificate!(hsm, private) == der
      assert Cryptoki.certificate!(hsm, public) == der

      # By a fresh instance, which knows nothing yet.
      Cryptoki.destroy!(hsm, public)
      assert Cryptoki.public_key!(hsm, private) == key
    end

    test "of another key drop out", %{hsm: hsm, label: label, id: id} do
      {public, private} = pair(hsm, :secp256r1, label: label, id: id)
      {_public, other} = pair(hsm, :secp256r1, label: label <> "x", id: id)

      [mine, not_mine] =
        for k <- [private, other], do: X509.self_signed!(hsm, k, subject: "/CN=a")

      for der <- [not_mine, mine],
          do: X509.store!(hsm, der, id: id, label: label, token: false)

      assert Cryptoki.certificate!(hsm, private) == mine
      assert Cryptoki.certificate!(hsm, public) == mine
      assert Cryptoki.certificate!(hsm, other) == not_mine
      Cryptoki.destroy!(hsm, public)
      assert {:ok, {{:ECPoint, _}, _}} = Cryptoki.public_key(hsm, private)

      again = X509.self_signed!(hsm, private, subject: "/CN=again")
      X509.store!(hsm, again, id: id, label: label, token: false)
      assert {:error, %Error{reason: :key_ambiguous}} = Cryptoki.certificate(hsm, private)
    end

    test "with the id of a key are not those of it", %{hsm: hsm, label: label, id: id} do
      {_public, private} = pair(hsm, :secp256r1, label: label)
      {_public, other} = pair(hsm, :secp256r1, label: label <> "x", id: id)
      der = X509.self_signed!(hsm, other, subject: "/CN=a")
      X509.store!(hsm, der, id: id, label: label, token: false)
      assert {:error, %Error{reason: :key_not_found}} = Cryptoki.certificate(hsm, private)
    end
  end

  describe "the proof" do
    test "is made once", %{faulty: module, hsm: hsm, label: label, id: id} do
      {_public, private} = pair(hsm, :secp256r1, label: label, id: id)
      {key, calls} = FaultyModule.calls(module, fn -> Cryptoki.public_key!(hsm, private) end)
      assert 1 == Enum.count(calls, &match?({"C_Sign", _, _}, &1))
      der = X509.self_signed!(hsm, private, subject: "/CN=a", ca: true)
      assert {^key, []} = FaultyModule.calls(module, fn -> Cryptoki.public_key!(hsm, private) end)

      # Another pair is no reason to ask again.
      pair(hsm, :secp256r1, label: label <> "x")

      {{:ok, _list}, calls} =
        FaultyModule.calls(module, fn -> X509.crl(hsm, private, der, []) end)

      assert 2 >= Enum.count(calls, &match?({"C_Sign", _, _}, &1))
    end

    test "is another one for keys that do not sign", %{hsm: hsm, label: label, id: id} do
      for curve <- [:secp256r1, :secp384r1] do
        names = [label: label <> "#{curve}", id: id, sign: false, derive: true]
        {public, private} = pair(hsm, curve, names)
        pair(hsm, curve, names)
        assert Cryptoki.public_key!(hsm, private) == Cryptoki.public_key!(hsm, public)
        count = length(Cryptoki.find!(hsm, class: :secret_key))
        assert {:ok, _der} = Cryptoki.public_key(hsm, private)
        assert length(Cryptoki.find!(hsm, class: :secret_key)) == count
      end
    end

    test "is not there when a key neither signs nor agrees", context do
      %{hsm: hsm, label: label, id: id} = context
      names = [label: label, id: id, sign: false, derive: false]
      {public, private} = pair(hsm, :secp256r1, names)
      assert {:error, %Error{reason: :unsupported} = error} = Cryptoki.public_key(hsm, private)
      assert Exception.message(error) =~ "cannot be proven"
      # Who names the public key gets it.
      assert Cryptoki.public_key!(hsm, label: label) == Cryptoki.public_key!(hsm, public)
    end

    test "is a modulus that is shown without its exponent", context do
      %{faulty: module, hsm: hsm, label: label} = context
      FaultyModule.control(module, @silent <> "\nattribute 0x122 class=3")
      pair(hsm, :rsa, label: label)
      {public, private} = pair(hsm, :rsa, label: label)
      {key, calls} = FaultyModule.calls(module, fn -> Cryptoki.public_key!(hsm, private) end)
      assert key == Cryptoki.public_key!(hsm, public)
      assert 0 == Enum.count(calls, &match?({"C_Sign", _, _}, &1))
    end

    test "waits for a token that cannot answer just now", context do
      %{faulty: module, hsm: hsm, label: label} = context
      {public, private} = pair(hsm, :secp256r1, label: label)
      FaultyModule.control(module, @silent <> "\nC_Sign rv=0x30 count=1")
      assert {:error, %Error{reason: :device_error}} = Cryptoki.public_key(hsm, private)
      assert Cryptoki.public_key!(hsm, private) == Cryptoki.public_key!(hsm, public)
    end

    test "is the same in a session", %{hsm: hsm, label: label} do
      {public, private} = pair(hsm, :secp256r1, label: label)

      Cryptoki.with_session(hsm, fn session ->
        assert Cryptoki.public_key!(session, private) == Cryptoki.public_key!(session, public)
        assert {:ok, _csr} = X509.csr(session, private, subject: "/CN=a")
      end)
    end

    @tag skip: MainToken.lacks(:kryoptic, "it has no DSA")
    test "of DSA", %{hsm: hsm, label: label, id: id} do
      sizes = [prime_bits: 1024]
      parameters = Cryptoki.generate_key!(hsm, :dsa_parameter_gen, sizes ++ [token: false])
      domain = [:prime, :subprime, :base]
      domain = hsm |> Cryptoki.attributes!(parameters, domain) |> Map.to_list()
      names = [label: label, id: id]

      [{public, private}, _other] =
        for _ <- 1..2,
            do: Cryptoki.generate_key_pair!(hsm, :dsa_key_pair_gen, names ++ [public: domain])

      assert {y, {:"Dss-Parms", _p, _q, _g}} = key = Cryptoki.public_key!(hsm, private)
      assert is_integer(y)
      assert key == Cryptoki.public_key!(hsm, public)
      signature = Cryptoki.sign!(hsm, private, :dsa_sha1, "text")
      assert :public_key.verify("text", :sha, Cryptoki.Ecdsa.to_der(signature), key)
    end
  end

  describe "a key that wants its PIN at each use" do
    setup %{hsm: hsm, label: label, id: id} do
      names = [label: label, id: id, private: [always_authenticate: true]]
      {public, private} = pair(hsm, :secp256r1, names)
      %{public: public, private: private}
    end

    test "spends none on a proof", context do
      %{faulty: module, hsm: hsm, label: label, public: public, private: private} = context

      {answer, calls} =
        FaultyModule.calls(module, fn ->
          [Cryptoki.public_key(hsm, private), Cryptoki.public_key(hsm, label: label)]
        end)

      key = Cryptoki.public_key!(hsm, public)
      assert [{:error, %Error{reason: :unsupported} = error}, {:ok, ^key}] = answer
      assert Exception.message(error) =~ "PIN"

      assert [] ==
               for({function, _, _} <- calls, function in ~w(C_Login C_SignInit), do: function)
    end

    test "signs requests and certificates, which are the proof", context do
      %{hsm: hsm, public: public, private: private} = context
      key = Cryptoki.public_key!(hsm, public)
      assert X509.request!(X509.csr!(hsm, private, subject: "/CN=a")).public_key == key
      root = X509.self_signed!(hsm, private, subject: "/CN=a", ca: true)
      assert {:ok, _list} = X509.crl(hsm, private, root, [])
      assert {:ok, _signed} = CMS.sign(hsm, private, root, "text")
      assert {:ok, _signed} = SSH.sign(hsm, private, "text")
    end

    test "is found out with the public key of another", context do
      %{hsm: hsm, label: label, id: id, public: public, private: private} = context
      Cryptoki.destroy!(hsm, public)
      {_public, other} = pair(hsm, :secp256r1, label: label, id: id)
      foreign = X509.self_signed!(hsm, other, subject: "/CN=a", ca: true)

      for answer <- [
            X509.csr(hsm, private, subject: "/CN=a"),
            X509.self_signed(hsm, private, subject: "/CN=a"),
            X509.crl(hsm, private, foreign, []),
            CMS.sign(hsm, private, foreign, "text"),
            SSH.sign(hsm, private, "text")
          ] do
        assert {:error, %Error{reason: :module_misbehaved} = error} = answer
        assert Exception.message(error) =~ "does not verify with the public key"
      end
    end
  end

  describe "what is signed verifies with the public key that goes along, or is an error" do
    test "a salt of another length", %{faulty: module, hsm: hsm, label: label} do
      {_public, private} = pair(hsm, :rsa, label: label)
      root = X509.self_signed!(hsm, private, subject: "/CN=a", ca: true)
      csr = X509.csr!(hsm, private, subject: "/CN=a")
      FaultyModule.control(module, "salt length=20")

      for answer <- [
            X509.csr(hsm, private, subject: "/CN=a", padding: :pss),
            X509.self_signed(hsm, private, subject: "/CN=a", padding: :pss),
            X509.issue(hsm, private, root, csr, padding: :pss),
            X509.crl(hsm, private, root, [], padding: :pss),
            CMS.sign(hsm, private, root, "text", padding: :pss)
          ] do
        assert {:error, %Error{reason: :module_misbehaved} = error} = answer
        assert Exception.message(error) =~ "salt has 20 bytes, not the 32"
      end

      FaultyModule.control(module, "")
      assert {:ok, _csr} = X509.csr(hsm, private, subject: "/CN=a", padding: :pss)
    end

    # Whatever was searched for: what is found says what it is.
    test "an object that calls itself a secret key", %{faulty: module, hsm: hsm, label: label} do
      {public, private} = pair(hsm, :secp256r1, label: label)
      FaultyModule.control(module, @silent <> "\nattribute 0x0 class=2 value=0400000000000000")
      assert {:error, %Error{}} = Cryptoki.public_key(hsm, private)
      FaultyModule.control(module, @silent)
      assert Cryptoki.public_key!(hsm, private) == Cryptoki.public_key!(hsm, public)
    end

    test "a signature over something else", %{faulty: module, hsm: hsm, label: label} do
      {_public, private} = pair(hsm, :secp256r1, label: label)
      {:ok, _line} = SSH.public_key(hsm, private)
      FaultyModule.control(module, @silent <> "\nlie C_Sign garbage")
      assert {:error, %Error{reason: :module_misbehaved}} = SSH.sign(hsm, private, "text")

      assert {:error, %Error{reason: :module_misbehaved}} =
               X509.csr(hsm, private, subject: "/CN=a")
    end
  end

  defp pair(hsm, kind, template) do
    {mechanism, own} =
      case kind do
        :rsa -> {:rsa_pkcs_key_pair_gen, [modulus_bits: 2048]}
        :ed25519 -> {:ec_edwards_key_pair_gen, [curve: :ed25519]}
        curve -> {:ec_key_pair_gen, [curve: curve]}
      end

    Cryptoki.generate_key_pair!(hsm, mechanism, template ++ own)
  end
end
