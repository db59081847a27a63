defmodule Cryptoki.TransferTest do
  # Keys from one token to another, as texts; OpenSSL opens them, and nobody changes them.
  use ExUnit.Case, async: false

  alias Cryptoki.{DER, Error, JSON, Key, KeyWrap, PEM, PrivateKey, Transfer}
  alias Cryptoki.Test.{KeyFiles, OpenSSL, PostQuantum, SoftHSM, Token}

  @unbuilt !Token.library(:kryoptic) && "Kryoptic is not built: bin/test --tokens kryoptic"
  @kek :crypto.strong_rand_bytes(32)

  setup_all do
    softhsm = start_supervised!({Cryptoki, SoftHSM.options(softhsm())}, id: :softhsm)

    kryoptic =
      unless @unbuilt do
        library = Path.join(SoftHSM.directory(), "transfer-kryoptic.so")
        Token.copy_kryoptic(library)
        token = Token.kryoptic(library, "transfer")

        start_supervised!({Cryptoki, Token.options(token, sessions: 2, timeout: 20_000)},
          id: :kryoptic
        )
      end

    tokens =
      for {name, hsm} <- [softhsm: softhsm, kryoptic: kryoptic], hsm, into: %{}, do: {name, hsm}

    for {_name, hsm} <- tokens, do: kek(hsm, "kek", @kek)
    %{tokens: tokens}
  end

  defp softhsm do
    label = "transfer-#{System.unique_integer([:positive])}"
    SoftHSM.create(label)
    [label: label, library: SoftHSM.library_copy(), sessions: 2, timeout: 20_000]
  end

  defp kek(hsm, label, value) do
    template = [label: label, token: true, wrap: true, unwrap: true, encrypt: true, decrypt: true]
    {:ok, key} = Cryptoki.import_key(hsm, {:aes, value}, template)
    key
  end

  @names [label: "kek"]

  for {from, to} <- [softhsm: :kryoptic, kryoptic: :softhsm, softhsm: :softhsm] do
    describe "from #{from} to #{to}:" do
      @describetag skip: :kryoptic in [from, to] and @unbuilt

      for {kind, mechanism, template, scheme} <- [
            {:rsa, :rsa_pkcs_key_pair_gen, [modulus_bits: 2048],
             {:sha256_rsa_pkcs, {:rsa_pkcs1, :sha256}}},
            {:ec, :ec_key_pair_gen, [curve: :secp256r1], {:ecdsa_sha256, {:ecdsa, :sha256}}},
            {:p521, :ec_key_pair_gen, [curve: :secp521r1], {:ecdsa_sha512, {:ecdsa, :sha512}}}
          ] do
        test "#{kind}", %{tokens: tokens} do
          {from, to} = {tokens[unquote(from)], tokens[unquote(to)]}
          label = "key #{System.unique_integer([:positive])}"
          private = [extractable: true]
          template = [label: label, id: <<0, 255>>, token: true, private: private]

          {:ok, {_public, key}} =
            Cryptoki.generate_key_pair(from, unquote(mechanism), unquote(template) ++ template)

          {:ok, public} = Cryptoki.public_key(from, key)
          assert {:ok, text} = Transfer.export(from, [label: label], @names)

          assert {:ok,
                  %{class: :private_key, attributes: %{label: ^label, id: <<0, 255>>}} = told} =
                   Transfer.describe(text)

          assert PEM.encode(told.public_key, "PUBLIC KEY") ==
                   String.trim(OpenSSL.pem(public)) <> "\n"

          before = Cryptoki.find!(to, token: false)
          more = [label: label <> " moved", token: true]

          assert {:ok, %Key{token: true, id: <<0, 255>>} = moved} =
                   Transfer.import(to, text, @names, template: more)

          {mechanism, scheme} = unquote(Macro.escape(scheme))
          signature = Cryptoki.sign!(to, moved, mechanism, "a text")
          assert OpenSSL.valid?(public, signature, scheme, "a text")
          names = [:sensitive, :extractable, :private, :sign]
          read = Cryptoki.attributes!(to, moved, names)
          assert read == Cryptoki.attributes!(from, key, names)
          assert read.sensitive

          twin =
            Cryptoki.find_one!(to, class: :public_key, label: label <> " moved", id: <<0, 255>>)

          assert Cryptoki.verify(to, twin, mechanism, "a text", signature) == :ok
          assert length(Cryptoki.find!(to, token: false)) == length(before)
        end
      end

      test "secret keys", %{tokens: tokens} do
        {from, to} = {tokens[unquote(from)], tokens[unquote(to)]}

        for {kind, value} <- [aes: <<7::256>>, hmac: "a secret of thirty-two bytes, ok"] do
          {:ok, key} = Cryptoki.import_key(from, {kind, value}, extractable: true, label: "")
          assert {:ok, text} = Transfer.export(from, key, @names)
          refute text =~ Base.encode64(value)
          assert {:ok, moved} = Transfer.import(to, text, @names)
          assert Cryptoki.check_value!(to, moved) == Cryptoki.check_value!(from, key)
          assert moved.token == false, inspect(kind)

          if kind == :hmac,
            do:
              assert(
                Cryptoki.sign!(to, moved, :sha256_hmac, "x") ==
                  :crypto.mac(:hmac, :sha256, value, "x")
              )
        end
      end
    end
  end

  # Kryoptic 1.5.4 wraps and unwraps no such key; opencryptoki 3.27 does.
  describe "post-quantum keys:" do
    @describetag skip: @unbuilt

    for {kind, set, seed, mechanism} <- [
          {:ml_dsa, :ml_dsa_65, 32, :ml_dsa_key_pair_gen},
          {:ml_kem, :ml_kem_768, 64, :ml_kem_key_pair_gen}
        ] do
      test "#{kind}, where the token does not wrap it", %{tokens: %{kryoptic: hsm}} do
        label = "key #{System.unique_integer([:positive])}"
        text = written(unquote(kind), unquote(set), unquote(seed), label)
        assert {:ok, %{key_type: unquote(kind)}} = Transfer.describe(text)
        before = Cryptoki.find!(hsm, token: false)

        assert {:error, %Error{reason: :function_not_supported, function: :C_UnwrapKey}} =
                 Transfer.import(hsm, text, @names)

        template = [parameter_set: unquote(set), private: [extractable: true]]
        {:ok, {public, key}} = Cryptoki.generate_key_pair(hsm, unquote(mechanism), template)

        assert {:error, %Error{reason: :function_not_supported, function: :C_WrapKey}} =
                 Transfer.export(hsm, key, @names)

        for key <- [key, public], do: :ok = Cryptoki.destroy(hsm, key)
        assert length(Cryptoki.find!(hsm, token: false)) == length(before)

        for {from, to} <- [
              {"ml_dsa", "ml_kem"},
              {"ml_kem", "ml_dsa"},
              {"ml_", "slh_"},
              {"ml_dsa", "ec"}
            ] do
          changed = String.replace(text, ~s("key_type":"#{from}), ~s("key_type":"#{to}))
          if changed != text, do: assert({:error, %Error{}} = Transfer.describe(changed))
        end
      end
    end
  end

  # As who has the wrapping key can write it.
  defp written(kind, set, size, label) do
    seed = :crypto.strong_rand_bytes(size)
    {public, _private} = PostQuantum.keygen(set, seed)
    {:ok, key} = PrivateKey.PostQuantum.of_parts(set, [seed: seed], public)
    algorithm = DER.sequence([DER.oid(PrivateKey.PostQuantum.oid(set))])
    info = DER.sequence([algorithm, DER.bit_string(public)])
    use = if kind == :ml_kem, do: [decapsulate: true], else: [sign: true]
    {mac_key_size, _sealed} = Transfer.File.mac_key_size()
    mac_key = :crypto.strong_rand_bytes(mac_key_size)

    body =
      Transfer.File.body(%{
        class: :private_key,
        key_type: kind,
        attributes: [label: label, id: <<5>>, extractable: true] ++ use,
        check_value: nil,
        public_key: IO.iodata_to_binary(info),
        wrapped_key: KeyWrap.wrap_padded(@kek, PrivateKey.Written.pkcs8(key)),
        transport_key: nil,
        mac_key: KeyWrap.wrap_padded(@kek, mac_key)
      })

    mac = :crypto.mac(:hmac, :sha256, mac_key, body)
    Transfer.File.text(body, mac)
  end

  describe "what limits a key" do
    for token <- [:softhsm, :kryoptic] do
      @tag skip: token == :kryoptic and @unbuilt
      test "travels, or keeps it where it is: #{token}", %{tokens: tokens} do
        hsm = tokens[unquote(token)]
        bound = [modifiable: false, allowed_mechanisms: [:aes_cbc, :aes_ecb]]
        template = [value_len: 32, extractable: true, encrypt: true, decrypt: true]
        {:ok, key} = Cryptoki.generate_key(hsm, :aes_key_gen, template ++ bound)
        assert {:ok, text} = Transfer.export(hsm, key, @names)
        assert {:ok, %{attributes: %{modifiable: false}}} = Transfer.describe(text)
        names = [:modifiable, :allowed_mechanisms, :extractable, :sensitive]
        # SoftHSM 2.6.1 unwraps no key that is not modifiable: whoever says so gets one that is.
        unbound = if unquote(token) == :softhsm, do: [modifiable: true], else: []

        if unbound != [] do
          assert {:error, %Error{reason: :attribute_read_only, function: :C_UnwrapKey}} =
                   Transfer.import(hsm, text, @names)
        end

        assert {:ok, moved} = Transfer.import(hsm, text, @names, template: unbound)
        read = Cryptoki.attributes!(hsm, key, names)
        assert Cryptoki.attributes!(hsm, moved, names) == Map.merge(read, Map.new(unbound))
        if unbound == [], do: assert({:error, %Error{}} = Cryptoki.update(hsm, moved, label: "x"))

        # What goes without saying is not told: a token of before may have no word for it.
        {:ok, key} = Cryptoki.generate_key(hsm, :aes_key_gen, template)
        assert {:ok, text} = Transfer.export(hsm, key, @names)
        refute text =~ "modifiable"
        refute text =~ "copyable"

        for {limit, says} <- [
              {[destroyable: false], "destroyable: false"},
              {[wrap: true, wrap_template: [extractable: true]], "wrap_template:"},
              {[unwrap: true, unwrap_template: [sensitive: true]], "unwrap_template:"},
              {[derive: true, derive_template: [sensitive: true]], "derive_template:"}
            ] do
          case Cryptoki.generate_key(hsm, :aes_key_gen, template ++ limit) do
            {:ok, key} ->
              assert {:error, %Error{reason: :unsupported, detail: text}} =
                       Transfer.export(hsm, key, @names)

              assert text =~ says
              assert text =~ "is a limit, and does not travel"

            # Not every token has such keys.
            {:error, error} ->
              assert error.function == :C_GenerateKey
          end
        end
      end
    end
  end

  # SoftHSM 2.6.1 wraps a secret with zeros behind it, up to whole blocks of eight bytes, as if they were of it.
  @tag skip: @unbuilt
  test "a key that a token wraps as another one is told", %{tokens: tokens} do
    {:ok, key} = Cryptoki.import_key(tokens.softhsm, {:hmac, <<7::248>>}, extractable: true)
    {:ok, text} = Transfer.export(tokens.softhsm, key, @names)

    for {_name, hsm} <- tokens do
      before = length(Cryptoki.find!(hsm, []))
      assert {:error, %Error{reason: :module_misbehaved}} = Transfer.import(hsm, text, @names)
      assert length(Cryptoki.find!(hsm, [])) == before
    end
  end

  describe "the text" do
    setup %{tokens: %{softhsm: hsm}} do
      {:ok, key} =
        Cryptoki.import_key(hsm, KeyFiles.make("openssl ecparam").file,
          label: "t",
          private: [extractable: true]
        )

      {:ok, text} = Transfer.export(hsm, key, @names)
      %{hsm: hsm, key: key, text: text}
    end

    test "is what its documentation says: OpenSSL opens it", %{hsm: hsm, key: key, text: text} do
      assert ["cryptoki key transfer 1", json, mac, ""] = String.split(text, "\n")
      {:ok, members} = JSON.decode(json)

      unwrap =
        "openssl enc -d -id-aes256-wrap-pad -K #{Base.encode16(@kek)} -iv A65959A6 -in $IN -out $OUT"

      mac_key = KeyFiles.changed(Base.decode64!(members["mac_key"]), unwrap)

      hmac =
        "openssl dgst -sha256 -mac HMAC -macopt hexkey:#{Base.encode16(mac_key)} -binary $IN > $OUT"

      assert KeyFiles.changed("cryptoki key transfer 1\n" <> json <> "\n", hmac) ==
               Base.decode64!(mac)

      pkcs8 = KeyFiles.changed(Base.decode64!(members["wrapped_key"]), unwrap)

      public =
        KeyFiles.changed(pkcs8, "openssl pkey -inform DER -in $IN -pubout -outform DER -out $OUT")

      assert public == Base.decode64!(members["public_key"])
      {:ok, told} = Cryptoki.public_key(hsm, key)
      assert PEM.encode(public, "PUBLIC KEY") == String.trim(OpenSSL.pem(told)) <> "\n"
    end

    test "that somebody has changed is refused before the key is unwrapped", %{
      hsm: hsm,
      text: text
    } do
      before = length(Cryptoki.find!(hsm, []))
      size = byte_size(text)

      for at <- Enum.take_every(0..(size - 1), 17) ++ Enum.to_list((size - 50)..(size - 1)) do
        {head, <<byte, tail::binary>>} = :erlang.split_binary(text, at)
        changed = <<head::binary, Bitwise.bxor(byte, 1), tail::binary>>
        assert {:error, %Error{executed: false} = error} = Transfer.import(hsm, changed, @names)

        assert error.reason in [
                 :invalid_argument,
                 :signature_invalid,
                 :wrapped_key_invalid,
                 :general_error,
                 :function_failed
               ]

        assert {:error, %Error{}} = Transfer.import(hsm, head, @names)
      end

      # Of what is read, too.
      for {member, value} <- [
            {~s("sensitive":true), ~s("sensitive":false)},
            {~s("sign":true), ~s("sign":false)},
            {~s("label":"t"), ~s("label":"u")}
          ] do
        assert text =~ member
        changed = String.replace(text, member, value)
        assert {:ok, _} = Transfer.describe(changed)

        assert {:error, %Error{reason: :signature_invalid}} =
                 Transfer.import(hsm, changed, @names)
      end

      assert length(Cryptoki.find!(hsm, [])) == before
      assert {:ok, _key} = Transfer.import(hsm, text, @names, public_key: false)
    end

    test "with a part of another one is refused", %{hsm: hsm, text: text} do
      {:ok, other} =
        Cryptoki.import_key(hsm, KeyFiles.make("openssl ecparam").file,
          label: "t",
          private: [extractable: true]
        )

      {:ok, other} = Transfer.export(hsm, other, @names)

      [[first, json, mac, _], [_, json2, mac2, _]] =
        for t <- [text, other], do: String.split(t, "\n")

      {:ok, one} = JSON.decode(json)
      {:ok, two} = JSON.decode(json2)
      {:ok, {_, _, _}} = Transfer.File.read(text)

      for {body, mac} <- [
            {json, mac2},
            {IO.iodata_to_binary(JSON.encode!(Map.put(one, "wrapped_key", two["wrapped_key"]))),
             mac},
            {IO.iodata_to_binary(JSON.encode!(Map.put(one, "mac_key", two["mac_key"]))), mac},
            {IO.iodata_to_binary(JSON.encode!(Map.put(one, "mac_key", two["mac_key"]))), mac2}
          ] do
        mixed = Enum.join([first, body, mac, ""], "\n")

        assert {:error, %Error{reason: :signature_invalid, executed: false}} =
                 Transfer.import(hsm, mixed, @names)
      end
    end

    test "that is none says so", %{text: text} do
      ["cryptoki key transfer 1", json, mac, ""] = String.split(text, "\n")
      {:ok, members} = JSON.decode(json)

      for {member, value} <- [
            {"class", "public_key"},
            {"key_type", "ml_dsa"},
            {"key_type", "aes"},
            {"attributes", %{"token" => true}},
            {"attributes", %{"sign" => 1}},
            {"attributes", %{"id" => "0g"}},
            {"attributes", %{"label" => 5}},
            {"attributes", %{"start_date" => "2026-02-30"}},
            {"attributes", %{"allowed_mechanisms" => [-1]}},
            {"attributes", []},
            {"check_value", "66E94"},
            {"public_key", nil},
            {"public_key", "AAAA"},
            {"wrapped_key", "AAAA"},
            {"mac_key", nil},
            # A key that somebody knows, wrapped by the same key, is none of a MAC; nor is that of a MAC a key.
            {"mac_key", members["wrapped_key"]},
            {"wrapped_key", members["mac_key"]},
            {"more", 1}
          ] do
        body = members |> Map.put(member, value) |> JSON.encode!() |> IO.iodata_to_binary()
        text = Enum.join(["cryptoki key transfer 1", body, mac, ""], "\n")

        assert {:error, %Error{reason: :invalid_argument, detail: sentence}} =
                 Transfer.describe(text)

        assert sentence =~ "transfer: "
      end

      for text <- [
            "",
            "x",
            "cryptoki key transfer 2\n",
            String.duplicate("x", 200_000),
            text <> "\n",
            String.replace(text, "\n", "\r\n")
          ],
          do: assert({:error, %Error{reason: :invalid_argument}} = Transfer.describe(text))

      assert_raise ArgumentError, fn -> Transfer.describe(nil) end
    end

    test "is for its wrapping key", %{hsm: hsm, text: text} do
      other = kek(hsm, "another kek", :crypto.strong_rand_bytes(32))

      assert {:error, %Error{executed: false, function: :C_UnwrapKey}} =
               Transfer.import(hsm, text, other)

      assert {:ok, again} = Transfer.rewrap(hsm, text, @names, other)
      assert {:error, %Error{}} = Transfer.import(hsm, again, @names)
      assert {:ok, _key} = Transfer.import(hsm, again, other, public_key: false)
      assert Transfer.describe(again) == Transfer.describe(text)

      assert {:error, %Error{reason: :signature_invalid}} =
               Transfer.rewrap(
                 hsm,
                 String.replace(text, ~s("label":"t"), ~s("label":"u")),
                 @names,
                 other
               )

      :ok = Cryptoki.destroy(hsm, other)
    end
  end

  describe "what a token does not allow is not done:" do
    test "keys that are not extractable, keys for trusted ones, other wrapping keys", %{
      tokens: %{softhsm: hsm}
    } do
      {:ok, key} = Cryptoki.generate_key(hsm, :aes_key_gen, value_len: 32)
      assert {:error, %Error{reason: :key_unextractable}} = Transfer.export(hsm, key, @names)
      template = [value_len: 32, extractable: true, wrap_with_trusted: true]
      {:ok, key} = Cryptoki.generate_key(hsm, :aes_key_gen, template)
      assert {:error, %Error{reason: :key_not_wrappable}} = Transfer.export(hsm, key, @names)

      {:ok, {public, private}} =
        Cryptoki.generate_key_pair(hsm, :rsa_pkcs_key_pair_gen,
          modulus_bits: 2048,
          label: "rsa kek",
          wrap: true,
          unwrap: true
        )

      assert {:error, %Error{reason: :unsupported}} = Transfer.export(hsm, key, public)
      assert {:error, %Error{}} = Transfer.export(hsm, public, @names)
      :ok = Cryptoki.destroy(hsm, public)
      :ok = Cryptoki.destroy(hsm, private)

      for {wrong, says} <- [
            {[template: [lable: "x"]], "did you mean :label"},
            {[template: [class: :data]], ":class"},
            {[template: [value: "a secret"]], ":value"},
            {[template: :token], "a template is"},
            {[templat: []], "did you mean :template"},
            {[public_key: 1], "public_key"}
          ] do
        error = assert_raise ArgumentError, fn -> Transfer.import(hsm, "x", @names, wrong) end
        assert error.message =~ says
        refute error.message =~ "a secret"
      end
    end
  end
end
