defmodule Cryptoki.VerbsTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  # Verbs that not every token has, on those that have them.

  alias Cryptoki.{Error, Operation}
  alias Cryptoki.Test.Token

  # NSS without a database: session objects, no login; it saves the state of digests, and does two
  # operations at once.
  @nss [
         "/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
         "/usr/lib/aarch64-linux-gnu/libsoftokn3.so",
         "/usr/lib64/libsoftokn3.so"
       ]
       |> Enum.find(&File.exists?/1)

  setup_all do
    hsms =
      for token <- Token.all(), into: %{} do
        child = {Cryptoki, Token.options(token, sessions: 2)}
        {token.name, start_supervised!(child, id: token.name)}
      end

    %{hsms: if(@nss, do: Map.put(hsms, :nss, start_supervised!(nss(), id: :nss)), else: hsms)}
  end

  defp nss do
    arguments = "configdir='' flags=noCertDB,noModDB,forceOpen,optimizeSpace"
    token = [label: "NSS Generic Crypto Services"]
    {Cryptoki, library: @nss, init_args: arguments, token: token, sessions: 2, read_only: true}
  end

  setup %{on: name, hsms: hsms}, do: %{hsm: hsms[name]}

  for token <- Token.all() do
    describe token.title do
      @describetag on: token.name, skip: token.skip

      test "size, session_info", %{hsm: hsm} do
        object = Cryptoki.create!(hsm, class: :data, label: "size", value: "some bytes")
        size = Cryptoki.size!(hsm, object)
        assert size == :unavailable or size >= 10

        assert {:error, %Error{reason: :key_not_found}} = Cryptoki.size(hsm, label: "none such")

        info = Cryptoki.session_info!(hsm)
        assert info.state == :rw_user_functions
        assert info.flags == [:rw_session, :serial_session]
        assert info.device_error == 0
        assert info.slot == Cryptoki.status!(hsm).token.slot
      end

      test "the digest of a key", %{hsm: hsm} do
        template = [class: :secret_key, key_type: :generic_secret, value: "the secret"]
        key = Cryptoki.create!(hsm, template ++ [extractable: true, sensitive: false])

        Cryptoki.with_session(hsm, fn session ->
          op = Cryptoki.start!(session, :digest, nil, :sha256)
          :ok = Operation.update(op, "before ")
          assert :ok = Operation.update(op, {:key, key})
          :ok = Operation.update(op, " after")
          assert Operation.finish(op) == {:ok, :crypto.hash(:sha256, "before the secret after")}

          hmac = %{op | kind: :sign}
          assert_raise ArgumentError, fn -> Operation.update(hmac, {:key, key}) end
        end)
      end

      test "cancel leaves other operations of the session alone", %{hsm: hsm} do
        Cryptoki.with_session(hsm, fn session ->
          op = Cryptoki.start!(session, :digest, nil, :sha256)
          :ok = Operation.update(op, "abc")
          other = %{op | kind: :sign}
          assert {:error, %Error{reason: :operation_not_initialized}} = Operation.cancel(other)
          assert Operation.finish(op) == {:ok, :crypto.hash(:sha256, "abc")}
        end)
      end
    end
  end

  for token <- Token.having(:ml_kem, :encapsulate) do
    describe "encapsulation on #{token.title}" do
      @describetag on: token.name, skip: token.skip

      test "both sides have the same key", %{hsm: hsm} do
        secret = [class: :secret_key, key_type: :generic_secret, sensitive: false]
        secret = secret ++ [extractable: true]

        for set <- [:ml_kem_512, :ml_kem_768, :ml_kem_1024] do
          {public, private} =
            Cryptoki.generate_key_pair!(hsm, :ml_kem_key_pair_gen, parameter_set: set)

          {ciphertext, key} = Cryptoki.encapsulate_key!(hsm, public, :ml_kem, secret)
          sizes = %{ml_kem_512: 768, ml_kem_768: 1088, ml_kem_1024: 1568}
          assert byte_size(ciphertext) == sizes[set]

          again = Cryptoki.decapsulate_key!(hsm, private, :ml_kem, [ciphertext], secret)
          %{value: value} = Cryptoki.attributes!(hsm, key, [:value])
          assert byte_size(value) == 32
          assert Cryptoki.attributes!(hsm, again, [:value]) == %{value: value}

          # Implicit rejection: another key, not an error.
          <<bit::1, rest::bitstring>> = ciphertext
          wrong = <<1 - bit::1, rest::bitstring>>
          other = Cryptoki.decapsulate_key!(hsm, private, :ml_kem, wrong, secret)
          assert Cryptoki.attributes!(hsm, other, [:value]) != %{value: value}

          assert {:error, %Error{}} =
                   Cryptoki.decapsulate_key(hsm, private, :ml_kem, "too short", secret)
        end
      end

      test "the key works where it is", %{hsm: hsm} do
        aes = [class: :secret_key, key_type: :aes, value_len: 32, encrypt: true, decrypt: true]
        pair = [parameter_set: :ml_kem_768, label: "kem"]
        {_, _} = Cryptoki.generate_key_pair!(hsm, :ml_kem_key_pair_gen, pair)
        gcm = {:aes_gcm, iv: <<7::96>>}
        {ciphertext, key} = Cryptoki.encapsulate_key!(hsm, [label: "kem"], :ml_kem, aes)
        sealed = Cryptoki.encrypt!(hsm, key, gcm, "text")
        again = Cryptoki.decapsulate_key!(hsm, [label: "kem"], :ml_kem, ciphertext, aes)
        assert Cryptoki.decrypt!(hsm, again, gcm, sealed) == "text"
      end
    end

    describe "a signature before the data, #{token.title}" do
      @describetag on: token.name, skip: token.skip

      test "of RSA, made by :public_key", %{hsm: hsm} do
        {:RSAPrivateKey, _, n, e, _, _, _, _, _, _, _} =
          rsa = :public_key.generate_key({:rsa, 2048, 65_537})

        template = [class: :public_key, key_type: :rsa, modulus: n, public_exponent: e]
        public = Cryptoki.create!(hsm, template ++ [verify: true])
        chunks = for n <- 1..30, do: :binary.copy(<<n>>, 9_000)
        data = IO.iodata_to_binary(chunks)
        signature = :public_key.sign(data, :sha256, rsa)
        first = [signature_first: true]
        verify = &Cryptoki.verify(hsm, public, :sha256_rsa_pkcs, &1, &2, first)

        assert verify.(data, signature) == :ok
        assert verify.({:stream, chunks}, signature) == :ok
        assert {:error, %Error{reason: :signature_invalid}} = verify.("x" <> data, signature)

        assert {:error, %Error{reason: :signature_invalid}} =
                 verify.({:stream, ["x" | chunks]}, signature)

        refute Cryptoki.valid?(hsm, public, :sha256_rsa_pkcs, "x", signature, first)

        Cryptoki.with_session(hsm, fn session ->
          op = Cryptoki.start!(session, :verify, public, :sha256_rsa_pkcs, signature: signature)
          for chunk <- chunks, do: :ok = Operation.update(op, chunk)
          assert :ok = Operation.finish(op)

          op = Cryptoki.start!(session, :verify, public, :sha256_rsa_pkcs, signature: signature)
          :ok = Operation.update(op, "x")
          assert {:error, %Error{reason: :signature_invalid}} = Operation.finish(op)

          op = Cryptoki.start!(session, :verify, public, :sha256_rsa_pkcs, signature: signature)
          assert :ok = Operation.cancel(op)
          assert {:ok, _} = Cryptoki.start(session, :verify, public, :sha256_rsa_pkcs)
        end)
      end

      test "of ECDSA, raw and DER", %{hsm: hsm} do
        pair = [curve: :secp256r1]
        {public, private} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, pair)
        raw = Cryptoki.sign!(hsm, private, :ecdsa_sha256, "text")
        der = Cryptoki.sign!(hsm, private, :ecdsa_sha256, "text", format: :der)
        text = {:stream, ["te", "xt"]}

        for {signature, format} <- [{raw, :raw}, {der, :der}], data <- ["text", text] do
          opts = [signature_first: true, format: format]
          assert Cryptoki.verify(hsm, public, :ecdsa_sha256, data, signature, opts) == :ok
          refute Cryptoki.valid?(hsm, public, :ecdsa_sha256, "test", signature, opts)
        end

        Cryptoki.with_session(hsm, fn session ->
          opts = [signature: der, format: :der]
          op = Cryptoki.start!(session, :verify, public, :ecdsa_sha256, opts)
          :ok = Operation.update(op, "text")
          assert Operation.finish(op) == :ok
        end)
      end

      test "of post-quantum keys", %{hsm: hsm} do
        pair = [parameter_set: :ml_dsa_65]
        {public, private} = Cryptoki.generate_key_pair!(hsm, :ml_dsa_key_pair_gen, pair)
        signature = Cryptoki.sign!(hsm, private, :ml_dsa, "text")
        first = [signature_first: true]
        assert Cryptoki.valid?(hsm, public, :ml_dsa, "text", signature, first)
        refute Cryptoki.valid?(hsm, public, :ml_dsa, "test", signature, first)
      end
    end

    describe "validation, #{token.title}" do
      @describetag on: token.name, skip: token.skip

      test "validation flags are a number", %{hsm: hsm} do
        assert {:ok, flags} = Cryptoki.validation_flags(hsm)
        assert is_integer(flags)
      end
    end
  end

  if @nss do
    describe "operation state, NSS" do
      @describetag on: :nss

      test "of a digest goes on elsewhere", %{hsm: hsm} do
        state =
          Cryptoki.with_session(hsm, fn session ->
            op = Cryptoki.start!(session, :digest, nil, :sha256)
            :ok = Operation.update(op, "some ")
            {:ok, state} = Operation.save(op)
            :ok = Operation.update(op, "other text")
            assert Operation.finish(op) == {:ok, :crypto.hash(:sha256, "some other text")}
            state
          end)

        Cryptoki.with_session(hsm, fn session ->
          {:ok, op} = Operation.restore(session, :digest, state)
          :ok = Operation.update(op, "text")
          assert Operation.finish(op) == {:ok, :crypto.hash(:sha256, "some text")}

          assert {:error, %Error{code: code}} = Operation.restore(session, :digest, "nonsense")
          assert code != nil
          assert_raise ArgumentError, fn -> Operation.restore(session, :message_sign, state) end
        end)
      end
    end
  end

  for {name, can} <- [softhsm2: false, kryoptic: true, nss: true],
      name in Enum.map(Token.all(), & &1.name) or (name == :nss and @nss != nil) do
    describe "dual-function operations, #{name}" do
      @describetag on: name, able: can

      setup %{hsm: hsm} do
        key = :binary.copy("d", 32)
        template = [class: :secret_key, encrypt: true, decrypt: true, sign: true, verify: true]
        aes = Cryptoki.create!(hsm, template ++ [key_type: :aes, value: key])

        mac =
          Cryptoki.create!(
            hsm,
            template
            |> Keyword.drop([:encrypt, :decrypt])
            |> Keyword.merge(key_type: :generic_secret, value: key)
          )

        chunks = for n <- 1..30, do: :binary.copy(<<n>>, 9_001)

        %{
          aes: aes,
          mac: mac,
          key: key,
          chunks: chunks
        }
      end

      test "what :crypto makes of it in two passes, or an error that says why", context do
        %{hsm: hsm, aes: aes, mac: mac, key: key, chunks: chunks} = context
        cbc = {:aes_cbc, iv: <<5::128>>}
        text = chunks |> IO.iodata_to_binary() |> binary_part(0, 270_016)

        chunks =
          {:stream,
           for(<<chunk::binary-272 <- text>>, do: chunk) ++
             [binary_part(text, 270_016 - rem(270_016, 272), rem(270_016, 272))]}

        ciphertext = :crypto.crypto_one_time(:aes_256_cbc, key, <<5::128>>, text, true)
        digest = :crypto.hash(:sha256, text)
        tag = :crypto.mac(:hmac, :sha256, key, text)
        hmac = {mac, :sha256_hmac}
        wrong = {mac, :sha256_hmac, :binary.copy("x", 32)}

        if context.able do
          assert Cryptoki.encrypt(hsm, aes, cbc, chunks, digest: :sha256) ==
                   {:ok, {ciphertext, digest}}

          assert Cryptoki.encrypt(hsm, aes, cbc, text, digest: :sha256) ==
                   {:ok, {ciphertext, digest}}

          assert Cryptoki.decrypt(hsm, aes, cbc, ciphertext, digest: :sha256) ==
                   {:ok, {text, digest}}

          assert Cryptoki.encrypt(hsm, aes, cbc, chunks, sign: hmac) == {:ok, {ciphertext, tag}}
          verify = {mac, :sha256_hmac, tag}
          assert Cryptoki.decrypt(hsm, aes, cbc, ciphertext, verify: verify) == {:ok, text}

          # NSS says device error.
          assert {:error, %Error{function: :C_VerifyFinal}} =
                   Cryptoki.decrypt(hsm, aes, cbc, ciphertext, verify: wrong)

          bad = Stream.map(1..3, fn n -> if n == 3, do: raise("stop"), else: "#{n}" end)

          assert_raise RuntimeError, "stop", fn ->
            Cryptoki.encrypt(hsm, aes, cbc, {:stream, bad}, digest: :sha256)
          end
        else
          for opts <- [[digest: :sha256], [sign: hmac]] do
            assert {:error, %Error{reason: :unsupported, detail: detail}} =
                     Cryptoki.encrypt(hsm, aes, cbc, chunks, opts)

            assert detail =~ "run one by one"
          end

          assert {:error, %Error{reason: :unsupported}} =
                   Cryptoki.decrypt(hsm, aes, cbc, ciphertext, verify: wrong)
        end

        assert Cryptoki.encrypt(hsm, aes, cbc, text) == {:ok, ciphertext}
      end

      test "are checked", %{hsm: hsm, aes: aes, mac: mac} do
        cbc = {:aes_cbc_pad, iv: <<5::128>>}
        encrypt = &Cryptoki.encrypt(hsm, aes, cbc, "text", &1)

        assert_raise ArgumentError, ~r/give one/, fn ->
          encrypt.(digest: :sha256, sign: {mac, :sha256_hmac})
        end

        assert_raise ArgumentError, ~r/sign: must be/, fn -> encrypt.(sign: :sha256_hmac) end
        assert_raise ArgumentError, ~r/no mechanism :sha257/, fn -> encrypt.(digest: :sha257) end
        assert_raise ArgumentError, ~r/unknown option :verify/, fn -> encrypt.(verify: mac) end
      end
    end
  end

  for token <- Token.all() do
    describe "authenticated wrapping, #{token.title}" do
      @describetag on: token.name, skip: token.skip

      test "is asked of the token", %{hsm: hsm} do
        kek = Cryptoki.generate_key!(hsm, :aes_key_gen, value_len: 32, wrap: true, unwrap: true)
        key = Cryptoki.generate_key!(hsm, :aes_key_gen, value_len: 32, extractable: true)
        gcm = {:aes_gcm, iv: <<1::96>>, tag_bits: 128}
        aes = [class: :secret_key, key_type: :aes, encrypt: true]

        # No token here has it.
        assert {:error,
                %Error{reason: :function_not_supported, function: :C_WrapKeyAuthenticated}} =
                 Cryptoki.wrap_key(hsm, kek, gcm, key, associated_data: "header")

        assert {:error,
                %Error{reason: :function_not_supported, function: :C_UnwrapKeyAuthenticated}} =
                 Cryptoki.unwrap_key(hsm, kek, gcm, <<0::256>>, aes,
                   associated_data: ["head", "er"]
                 )

        assert_raise ArgumentError, ~r/associated_data: must be iodata/, fn ->
          Cryptoki.wrap_key(hsm, kek, gcm, key, associated_data: :header)
        end
      end
    end
  end
end
