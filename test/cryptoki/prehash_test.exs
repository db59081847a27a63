defmodule Cryptoki.PrehashTest do
  # Tokens that do not hash what they sign, or not so much of it, or do no PSS: the digest is made here.
  use ExUnit.Case, async: false

  alias Cryptoki.{CMS, Error, JWS, SSH, SSL, X509}
  alias Cryptoki.Prehash.RSA
  alias Cryptoki.Test.{FaultyModule, KeyPairs, SoftHSM}

  @hashes [sha_1: :sha, sha224: :sha224, sha256: :sha256, sha384: :sha384, sha512: :sha512]
  @pkcs1 [sha_1: 0x06, sha224: 0x46, sha256: 0x40, sha384: 0x41, sha512: 0x42]
  @pss [sha_1: 0x0E, sha224: 0x47, sha256: 0x43, sha384: 0x44, sha512: 0x45]
  @ecdsa [sha_1: 0x1042, sha224: 0x1043, sha256: 0x1044, sha384: 0x1045, sha512: 0x1046]
  @plain_pss 0x0D
  @long String.duplicate("text", 256)

  setup_all do
    %{faulty: FaultyModule.new()}
  end

  # New keys for each: what a token has refused for a key is remembered. New sessions for each: one in
  # which a call has failed is still in its operation, and its next C_SignInit comes twice.
  setup %{faulty: module} do
    FaultyModule.control(module, "")
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 2)})
    on_exit(fn -> FaultyModule.control(module, "") end)
    keys = KeyPairs.make(hsm, [:rsa, :secp256r1])
    keys = Map.new(keys, fn {kind, private} -> {kind, pair(hsm, private)} end)
    %{hsm: hsm, keys: keys}
  end

  describe "a token without the hashed forms" do
    # The codes that mean refused, from where they have been seen.
    for {function, code} <- [Init: 0x70, "": 0x70, "": 0x21, Init: 0x21] do
      test "PKCS #1, refused with #{code} by C_Sign#{function}", context do
        %{faulty: module, hsm: hsm, keys: %{rsa: %{private: private} = rsa}} = context
        where = "#{unquote(function)} rv=#{unquote(code)}"

        # Of C_Sign the rule cannot tell the mechanism: the first one is refused.
        if unquote(function) == :Init,
          do: refuse(module, @pkcs1, where),
          else: FaultyModule.control(module, "C_Sign#{where} count=1\nC_Verify#{where} count=1")

        for {hash, name} <- if(unquote(function) == :Init, do: @hashes, else: [sha256: :sha256]) do
          mechanism = :"#{String.replace("#{hash}", "_", "")}_rsa_pkcs"
          signature = Cryptoki.sign!(hsm, private, mechanism, @long)
          assert :public_key.verify(@long, name, signature, rsa.key)
          assert Cryptoki.valid?(hsm, rsa.public, mechanism, @long, signature)
          refute Cryptoki.valid?(hsm, rsa.public, mechanism, @long <> "x", signature)
        end
      end
    end

    test "a digest that plain PSS does not take is a mistake, and nothing comes in its place",
         context do
      %{faulty: module, hsm: hsm, keys: %{rsa: %{private: private}}} = context
      FaultyModule.control(module, "C_Sign rv=0x21 count=1")
      mechanism = {:rsa_pkcs_pss, hash: :sha256, salt_len: 32}

      assert {:error, %Error{reason: :data_len_range, function: :C_Sign}} =
               Cryptoki.sign(hsm, private, mechanism, :crypto.hash(:sha256, @long))
    end

    test "PSS by plain PSS, with its parameters", context do
      %{faulty: module, hsm: hsm, keys: %{rsa: %{private: private} = rsa}} = context
      refuse(module, @pss, "Init rv=0x70")

      for {hash, name} <- @hashes, salt <- [0, 17, nil] do
        mechanism = :"#{String.replace("#{hash}", "_", "")}_rsa_pkcs_pss"
        mechanism = if salt, do: {mechanism, salt_len: salt}, else: mechanism
        signature = Cryptoki.sign!(hsm, private, mechanism, @long)
        assert pss?(@long, name, signature, rsa.key, salt || :crypto.hash_info(name).size)
        assert Cryptoki.valid?(hsm, rsa.public, mechanism, @long, signature)
      end
    end

    test "PSS by raw RSA, where there is no PSS", context do
      %{faulty: module, hsm: hsm, keys: %{rsa: %{private: private} = rsa}} = context
      refuse(module, @pss ++ [plain: @plain_pss], "Init rv=0x70")

      for {hash, name} <- @hashes, salt <- [0, 17, nil] do
        arguments = if salt, do: [salt_len: salt], else: []
        mechanism = {:"#{String.replace("#{hash}", "_", "")}_rsa_pkcs_pss", arguments}
        size = salt || :crypto.hash_info(name).size
        signature = Cryptoki.sign!(hsm, private, mechanism, @long)
        assert pss?(@long, name, signature, rsa.key, size)
        digest = :crypto.hash(name, @long)
        plain = {:rsa_pkcs_pss, [hash: hash] ++ arguments}
        assert pss?(@long, name, Cryptoki.sign!(hsm, private, plain, digest), rsa.key, size)
      end

      # A digest of another length is a mistake, and a public key is not used raw.
      assert {:error, %Error{code: 0x70, function: :C_SignInit}} =
               Cryptoki.sign(hsm, private, {:rsa_pkcs_pss, hash: :sha256}, <<0::160>>)

      assert {:error, %Error{code: 0x70}} =
               Cryptoki.verify(hsm, rsa.public, :sha256_rsa_pkcs_pss, "", <<0::2048>>)
    end

    test "ECDSA, whatever its list says", context do
      %{faulty: module, hsm: hsm, keys: %{secp256r1: %{private: private} = ec}} = context
      refuse(module, @ecdsa, "Init rv=0x70")

      for {hash, name} <- @hashes, data <- [@long, {:stream, [@long]}] do
        mechanism = :"ecdsa_#{String.replace("#{hash}", "_", "")}"
        signature = Cryptoki.sign!(hsm, private, mechanism, data, format: :der)
        assert :public_key.verify(@long, name, signature, ec.key)
        assert Cryptoki.valid?(hsm, ec.public, mechanism, data, signature, format: :der)
      end
    end

    test "streams, JWS, requests, CMS, SSH and TLS", context do
      %{faulty: module, hsm: hsm, keys: %{rsa: %{private: private} = rsa}} = context
      root = X509.self_signed!(hsm, private, subject: "/CN=a", ca: true)
      refuse(module, @pkcs1 ++ @pss ++ @ecdsa, "Init rv=0x70")

      for mechanism <- [:sha256_rsa_pkcs, :sha256_rsa_pkcs_pss], _again <- 1..2 do
        stream = {:stream, Stream.map(1..300, fn _n -> @long end)}
        signature = Cryptoki.sign!(hsm, private, mechanism, stream)
        assert Cryptoki.valid?(hsm, rsa.public, mechanism, stream, signature)
        whole = String.duplicate(@long, 300)
        assert Cryptoki.valid?(hsm, rsa.public, mechanism, whole, signature)
        refute Cryptoki.valid?(hsm, rsa.public, mechanism, {:stream, ["x"]}, signature)
      end

      for alg <- ~w(RS256 RS384 RS512 PS256 PS384 PS512) do
        {:ok, jws} = JWS.sign(hsm, private, "text", alg: alg)
        assert {:ok, %{payload: "text"}} = JWS.verify(hsm, rsa.public, jws)
      end

      for padding <- [:pkcs1, :pss] do
        csr = X509.csr!(hsm, private, subject: "/CN=a", padding: padding)
        assert X509.request!(csr).public_key == rsa.key
        assert {:ok, _der} = CMS.sign(hsm, private, root, "text", padding: padding)
        assert {:ok, _der} = X509.issue(hsm, private, root, csr, padding: padding)
      end

      for hash <- [:sha256, :sha512],
          do: assert({:ok, _} = SSH.sign(hsm, private, "text", hash: hash))

      if System.otp_release() >= "27" do
        {:ok, %{key: key}} = SSL.certs_keys(hsm, private, root)
        pss = [rsa_padding: :rsa_pkcs1_pss_padding, rsa_pss_saltlen: -1]

        for options <- [[], pss] do
          signature = :public_key.sign("text", :sha256, key, options)
          assert :public_key.verify("text", :sha256, signature, rsa.key, options)
        end
      end
    end
  end

  test "TLS without any PSS is an error that names it", context do
    %{faulty: module, hsm: hsm, keys: %{rsa: %{private: private}}} = context
    root = X509.self_signed!(hsm, private, subject: "/CN=a", ca: true)
    refuse(module, @pss ++ [plain: @plain_pss, raw: 3], "Init rv=0x70")

    if System.otp_release() >= "27" do
      assert {:error, %Error{reason: :unsupported} = error} = SSL.certs_keys(hsm, private, root)

      assert Exception.message(error) =~ "CKM_RSA_PKCS_PSS"
      refuse(module, @pss ++ [plain: @plain_pss], "Init rv=0x70")
      assert {:ok, _entry} = SSL.certs_keys(hsm, private, root)
    end
  end

  describe "a token that hashes so many bytes only" do
    test "signs and verifies more", context do
      %{faulty: module, hsm: hsm, keys: %{rsa: rsa}} = context
      FaultyModule.control(module, "combined max=512")
      stream = {:stream, [@long, @long]}
      twice = @long <> @long

      for {mechanism, options} <- [
            sha256_rsa_pkcs: [],
            sha512_rsa_pkcs: [],
            sha256_rsa_pkcs_pss: [rsa_padding: :rsa_pkcs1_pss_padding]
          ] do
        hash = Cryptoki.Mechanism.hash(mechanism)

        # The key learns at each way, with a key that has learned nothing first.
        for data <- [stream, twice, stream] do
          signature = Cryptoki.sign!(hsm, rsa.private, mechanism, data)
          assert :public_key.verify(twice, hash, signature, rsa.key, options)
          assert Cryptoki.valid?(hsm, rsa.public, mechanism, data, signature)
        end
      end

      # Within the limit it hashes itself, with a key that nothing is known of.
      %{rsa: private} = KeyPairs.make(hsm, [:rsa])

      {_signature, calls} =
        FaultyModule.calls(module, fn ->
          Cryptoki.sign!(hsm, private, :sha256_rsa_pkcs, "text")
        end)

      assert 1 == count(calls, "C_SignInit")
    end

    test "has taken some of a stream already: then it is an error", context do
      %{faulty: module, hsm: hsm, keys: %{rsa: rsa}} = context
      FaultyModule.control(module, "combined max=70000")
      stream = {:stream, List.duplicate(String.duplicate("x", 66_000), 3)}

      assert {:error, %Error{reason: :data_len_range, function: :C_SignUpdate}} =
               Cryptoki.sign(hsm, rsa.private, :sha256_rsa_pkcs, stream)
    end
  end

  describe "what a token has refused" do
    test "is not asked of it again for this key", context do
      %{faulty: module, hsm: hsm, keys: %{rsa: %{private: private}}} = context
      refuse(module, @pkcs1, "Init rv=0x70")
      sign = fn -> Cryptoki.sign!(hsm, private, :sha256_rsa_pkcs, "text") end
      {_signature, calls} = FaultyModule.calls(module, sign)
      assert {2, 1} = {count(calls, "C_SignInit"), count(calls, "C_Sign")}
      {_signature, calls} = FaultyModule.calls(module, sign)
      assert for({function, _, _} <- calls, do: function) == ["C_SignInit", "C_Sign"]
    end

    test "in every way is an error, by its first answer", context do
      %{faulty: module, hsm: hsm, keys: %{rsa: %{private: private}}} = context
      FaultyModule.control(module, "C_SignInit rv=0x70")

      for mechanism <- [:sha256_rsa_pkcs, :sha256_rsa_pkcs_pss],
          data <- ["x", {:stream, ["x"]}] do
        assert {:error, %Error{code: 0x70, function: :C_SignInit, executed: false}} =
                 Cryptoki.sign(hsm, private, mechanism, data)
      end

      FaultyModule.control(module, "")
      assert {:ok, _signature} = Cryptoki.sign(hsm, private, :sha256_rsa_pkcs, "x")
    end

    test "is no other failure: what may have run is not run again", context do
      %{faulty: module, hsm: hsm, keys: %{rsa: %{private: private}}} = context
      {:ok, _known} = Cryptoki.sign(hsm, private, :sha256_rsa_pkcs, "text")

      for code <- [0x05, 0x30, 0x20, 0x68, 0x80000001],
          {function, ran} <- [{"C_SignInit", ""}, {"C_Sign", "after_forward"}] do
        FaultyModule.control(module, "#{function} rv=#{code} #{ran}")
        sign = fn -> Cryptoki.sign(hsm, private, :sha256_rsa_pkcs, "text") end
        {{:error, %Error{code: ^code}}, calls} = FaultyModule.calls(module, sign)
        assert {code, function, 1} == {code, function, count(calls, function)}
      end
    end

    test "costs no PIN", %{faulty: module, hsm: hsm} do
      template = [modulus_bits: 2048, private: [always_authenticate: true]]
      {_, private} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, template)
      asked = :counters.new(1, [])

      pin = fn ->
        :counters.add(asked, 1, 1)
        SoftHSM.pin()
      end

      refuse(module, @pkcs1, "Init rv=0x70")
      sign = fn -> Cryptoki.sign!(hsm, private, :sha256_rsa_pkcs, "text", pin: pin) end
      {_signature, calls} = FaultyModule.calls(module, sign)
      assert {1, 1} = {count(calls, "C_Login"), :counters.get(asked, 1)}

      # One that is refused is not tried with the other mechanism.
      sign = fn -> Cryptoki.sign(hsm, private, :sha512_rsa_pkcs, "text", pin: "wrong pin") end
      {{:error, %Error{reason: :pin_incorrect}}, calls} = FaultyModule.calls(module, sign)
      assert 1 == count(calls, "C_Login")
    end
  end

  describe "the encoded message of PSS" do
    test "goes with a modulus of any length" do
      for bits <- [1024, 1025, 1026, 1031, 1032], salt <- [0, 20, 32] do
        {:RSAPrivateKey, _, n, e, d, _, _, _, _, _, _} = key = rsa(bits)
        digest = :crypto.hash(:sha256, "text")
        assert {:ok, encoded} = RSA.encode_pss(digest, [ulong: 0x250, ulong: 2, ulong: salt], n)
        assert byte_size(encoded) == div(bits + 7, 8)
        signature = :crypto.mod_pow(encoded, d, n)
        size = div(bits + 7, 8) - byte_size(signature)
        signature = <<0::unit(8)-size(size), signature::binary>>
        assert pss?("text", :sha256, signature, {:RSAPublicKey, n, e}, salt)
        assert elem(key, 2) == n
        parameter = [ulong: 0x250, ulong: 2, ulong: 0]
        assert RSA.salt_size(signature, parameter, n, e) == {:ok, salt}
      end
    end

    test "needs room, and a hash that is known" do
      n = elem(rsa(1024), 2)
      digest = :crypto.hash(:sha512, "text")
      assert RSA.encode_pss(digest, [ulong: 0x270, ulong: 4, ulong: 64], n) == :error
      assert {:ok, _} = RSA.encode_pss(digest, [ulong: 0x270, ulong: 4, ulong: 62], n)
      assert RSA.encode_pss(digest, [ulong: 0x250, ulong: 2, ulong: 0], n) == :error
      assert RSA.encode_pss(digest, [ulong: 0x80000001, ulong: 2, ulong: 0], n) == :error
      assert RSA.encode_pss(digest, <<1, 2, 3>>, n) == :error
    end

    test "DigestInfo is that of RFC 8017" do
      for {hash, prefix} <- [
            sha: "3021300906052B0E03021A05000414",
            sha224: "302D300D06096086480165030402040500041C",
            sha256: "3031300D060960864801650304020105000420",
            sha384: "3041300D060960864801650304020205000430",
            sha512: "3051300D060960864801650304020305000440"
          ] do
        digest = :crypto.hash(hash, "text")
        assert RSA.digest_info(hash, digest) == Base.decode16!(prefix) <> digest
      end
    end
  end

  defp rsa(bits), do: :public_key.generate_key({:rsa, bits, 65_537})

  defp pair(hsm, private) do
    public = Cryptoki.find_one!(hsm, class: :public_key, id: private.id)
    %{private: private, public: public, key: Cryptoki.public_key!(hsm, public)}
  end

  defp refuse(module, mechanisms, what) do
    lines =
      for {_name, code} <- mechanisms, verb <- ["C_Sign", "C_Verify"] do
        "#{verb}#{what} mechanism=#{code}"
      end

    FaultyModule.control(module, Enum.join(lines, "\n"))
  end

  defp pss?(text, hash, signature, key, salt) do
    options = [
      rsa_padding: :rsa_pkcs1_pss_padding,
      rsa_mgf1_md: hash,
      rsa_pss_saltlen: salt
    ]

    :public_key.verify(text, hash, signature, key, options)
  end

  # What was denied has a line more.
  defp count(calls, name),
    do: Enum.count(calls, fn {function, event, _rv} -> function == name and event != "denied" end)
end
