defmodule Cryptoki.SignatureFormTest do
  # Signatures that a library gives in another form than the standard's, and forms that others give to
  # signatures which are to be verified.
  use ExUnit.Case, async: false

  alias Cryptoki.{DER, Ecdsa, Error, JWS, Operation, SignatureForm, SSH, X509}
  alias Cryptoki.Attribute.Curve
  alias Cryptoki.Test.{FaultyModule, KeyPairs, MainToken, OpenSSL}

  @p256 {:numbers, 32}
  @edwards [:ed25519, :ed448, :x25519, :x448]

  setup_all do
    module = FaultyModule.new()
    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module, sessions: 2))
    keys = KeyPairs.make(hsm, [:secp256r1, :secp521r1, :rsa, :ed25519])
    publics = Map.new(keys, fn {kind, key} -> {kind, Cryptoki.public_key!(hsm, key)} end)
    %{faulty: module, hsm: hsm, keys: keys, publics: publics}
  end

  setup %{faulty: module} do
    FaultyModule.control(module, "")
    on_exit(fn -> FaultyModule.control(module, "") end)
  end

  describe "what a library gives" do
    test "DER of ECDSA becomes r and s again, on every way to a signature", context do
      %{faulty: module, hsm: hsm, keys: keys, publics: publics} = context
      FaultyModule.control(module, "signature der")

      for {kind, size} <- [secp256r1: 64, secp521r1: 132] do
        %{^kind => key} = keys
        %{^kind => public} = publics
        raw = Cryptoki.sign!(hsm, key, :ecdsa_sha256, "text")
        assert byte_size(raw) == size
        assert verified?(public, "text", raw)

        der = Cryptoki.sign!(hsm, key, :ecdsa_sha256, "text", format: :der)
        assert :public_key.verify("text", :sha256, der, public)

        stream = {:stream, ["te", "xt"]}
        assert verified?(public, "text", Cryptoki.sign!(hsm, key, :ecdsa_sha256, stream))
      end

      %{secp256r1: key} = keys
      %{secp256r1: public} = publics
      digest = :crypto.hash(:sha256, "text")

      for format <- [:raw, :der] do
        Cryptoki.with_session(hsm, fn session ->
          {:ok, op} = Cryptoki.start(session, :sign, key, :ecdsa, format: format)

          with :ok <- Operation.update(op, digest) do
            {:ok, signature} = Operation.finish(op)
            der = if format == :raw, do: Ecdsa.to_der(signature), else: signature
            assert :public_key.verify("text", :sha256, der, public)
          end
        end)
      end

      {:ok, jws} = JWS.sign(hsm, key, "text")
      FaultyModule.control(module, "")
      public_half = Cryptoki.find_one!(hsm, class: :public_key, id: key.id)
      assert {:ok, %{payload: "text"}} = JWS.verify(hsm, public_half, jws)
    end

    test "a byte too few is an error, on every way to a signature", context do
      %{faulty: module, hsm: hsm, keys: keys} = context
      FaultyModule.control(module, "signature short")

      for {kind, mechanism} <- [
            secp256r1: :ecdsa_sha256,
            secp521r1: :ecdsa,
            rsa: :sha256_rsa_pkcs,
            rsa: :sha256_rsa_pkcs_pss,
            ed25519: :eddsa
          ],
          %{^kind => key} = keys,
          data <- ["text", {:stream, ["te", "xt"]}],
          # Neither is done in pieces everywhere.
          not (kind in [:ed25519, :secp521r1] and is_tuple(data)) do
        assert {:error, %Error{} = error} = Cryptoki.sign(hsm, key, mechanism, data)
        assert {error.reason, error.executed} == {:module_misbehaved, :maybe}
        # With a zero in front one of RSA is as long as before, and another number.
        assert Exception.message(error) =~ ~r/no signature of this key|none by PSS/
      end

      %{secp256r1: key, rsa: rsa} = keys
      assert {:error, %Error{reason: :module_misbehaved}} = JWS.sign(hsm, key, "text")
      assert {:error, %Error{reason: :module_misbehaved}} = JWS.sign(hsm, rsa, "x", alg: "RS256")
      assert {:error, %Error{reason: :module_misbehaved}} = SSH.sign(hsm, key, "text")
      assert {:error, %Error{reason: :module_misbehaved}} = X509.csr(hsm, rsa, subject: "/CN=a")
      assert {:error, %Error{reason: :module_misbehaved}} = X509.csr(hsm, key, subject: "/CN=a")
    end

    test "a salt of another length is an error, wherever PSS is asked for", context do
      %{faulty: module, hsm: hsm} = context
      %{rsa: key} = KeyPairs.make(hsm, [:rsa])
      FaultyModule.control(module, "salt length=20")

      for mechanism <- [:sha256_rsa_pkcs_pss, {:sha384_rsa_pkcs_pss, salt_len: 0}],
          data <- ["text", {:stream, ["text"]}] do
        assert {:error, %Error{reason: :module_misbehaved} = error} =
                 Cryptoki.sign(hsm, key, mechanism, data)

        assert Exception.message(error) =~ "its salt has 20 bytes"
      end

      assert {:error, %Error{reason: :module_misbehaved}} = JWS.sign(hsm, key, "x", alg: "PS256")
      asked = {:sha256_rsa_pkcs_pss, salt_len: 20}
      assert {:ok, _signature} = Cryptoki.sign(hsm, key, asked, "text")
      digest = :crypto.hash(:sha256, "text")

      assert {:error, %Error{reason: :module_misbehaved}} =
               Cryptoki.sign(hsm, key, {:rsa_pkcs_pss, hash: :sha256}, digest)

      FaultyModule.control(module, "")
      assert {:ok, _signature} = Cryptoki.sign(hsm, key, :sha256_rsa_pkcs_pss, "text")
    end

    test "a byte too few of a MAC is an error", %{faulty: module, hsm: hsm} do
      use = [value_len: 32, sign: true, verify: true, label: "mac"]
      key = Cryptoki.generate_key!(hsm, :generic_secret_key_gen, use)
      assert byte_size(Cryptoki.sign!(hsm, key, :sha256_hmac, "text")) == 32
      FaultyModule.control(module, "signature short")

      for selector <- [key, [label: "mac"]], data <- ["text", {:stream, ["text"]}] do
        assert {:error, %Error{reason: :module_misbehaved}} =
                 Cryptoki.sign(hsm, selector, :sha256_hmac, data)
      end

      assert {:error, %Error{reason: :module_misbehaved}} = JWS.sign(hsm, key, "x", alg: "HS256")
    end

    test "an RSA signature without its zeros gets them back", context do
      %{faulty: module, hsm: hsm, keys: %{rsa: key}, publics: %{rsa: public}} = context

      {text, signature} =
        Enum.find_value(1..5000, fn n ->
          case Cryptoki.sign!(hsm, key, :sha256_rsa_pkcs, "text #{n}") do
            <<0, _::binary>> = signature -> {"text #{n}", signature}
            _another -> nil
          end
        end)

      FaultyModule.control(module, "signature trimmed")
      assert Cryptoki.sign!(hsm, key, :sha256_rsa_pkcs, text) == signature
      assert Cryptoki.sign!(hsm, key, :sha256_rsa_pkcs, {:stream, [text]}) == signature
      FaultyModule.control(module, "signature signed")
      assert Cryptoki.sign!(hsm, key, :sha256_rsa_pkcs, text) == signature
      assert :public_key.verify(text, :sha256, signature, public)
    end

    test "r and s without their zeros are told from nothing, and are an error", context do
      %{faulty: module, hsm: hsm, keys: %{secp521r1: key}, publics: %{secp521r1: public}} =
        context

      FaultyModule.control(module, "signature trimmed")

      # Of this curve three of four.
      answers = for n <- 1..40, do: {n, Cryptoki.sign(hsm, key, :ecdsa_sha256, "text #{n}")}

      for {n, {:ok, signature}} <- answers, do: assert(verified?(public, "text #{n}", signature))
      refused = for {_n, {:error, %Error{reason: reason}}} <- answers, do: reason
      assert [:module_misbehaved] = Enum.uniq(refused)

      FaultyModule.control(module, "signature signed")
      signature = Cryptoki.sign!(hsm, key, :ecdsa_sha256, "text")
      assert byte_size(signature) == 132
      assert verified?(public, "text", signature)
    end

    test "no C call more than a signature takes", context do
      %{faulty: module, hsm: hsm, keys: keys} = context

      for {kind, mechanism} <- [secp256r1: :ecdsa, rsa: :sha256_rsa_pkcs] do
        %{^kind => key} = keys
        data = :crypto.hash(:sha256, "text")
        {:ok, _signature} = Cryptoki.sign(hsm, key, mechanism, data)

        {_, calls} =
          FaultyModule.calls(module, fn -> Cryptoki.sign!(hsm, key, mechanism, data) end)

        assert for({function, _, _} <- calls, do: function) == ["C_SignInit", "C_Sign"]
      end
    end
  end

  describe "the form of signatures" do
    test "is told by the attributes of a key" do
      modulus = <<0, 0xC0, 1::2032, 1>>
      {:rsa, number, 65_537} = SignatureForm.of(rsa(modulus, <<1, 0, 1>>))
      assert byte_size(:binary.encode_unsigned(number)) == 256
      assert {:rsa, _, nil} = SignatureForm.of(rsa(modulus, {:error, :attribute_type_invalid}))
      assert SignatureForm.of(rsa({:error, :attribute_sensitive}, <<3>>)) == nil
      assert SignatureForm.of(rsa("", <<3>>)) == nil
      assert SignatureForm.of(%{key_type: :ec, curve: :secp224k1}) == {:numbers, 29}
      assert SignatureForm.of(%{key_type: :ec, curve: <<5, 0>>}) == {:numbers, nil}
      assert SignatureForm.of(%{key_type: :ec, curve: {:error, :x}}) == {:numbers, nil}
      assert SignatureForm.of(%{key_type: :dsa, subprime: <<0xFF::160>>}) == {:numbers, 1}
      assert SignatureForm.of(%{key_type: :ml_dsa, parameter_set: :ml_dsa_65}) == {:bytes, 3309}
      slh_dsa = %{key_type: :slh_dsa, parameter_set: :slh_dsa_shake_192s}
      assert SignatureForm.of(slh_dsa) == {:bytes, 16_224}
      assert SignatureForm.of(%{key_type: :aes}) == nil
      assert SignatureForm.of(%{key_type: {:error, :device_error}}) == nil
    end

    test "is that of some mechanisms only" do
      assert repair("tag", nil, :sha256_hmac_general) == {:ok, "tag"}
      assert repair(<<0::256>>, nil, :sha256_hmac) == {:ok, <<0::256>>}
      assert {:error, %Error{}} = repair("tag", nil, :sha256_hmac)
      assert {:error, %Error{}} = repair("tag", nil, :aes_cmac)
      assert repair("tag", @p256, 0x80000001) == {:ok, "tag"}
      assert repair("tag", nil, :ecdsa) == {:ok, "tag"}
      assert {:error, %Error{function: :C_Sign}} = repair("tag", @p256, :ecdsa)
      assert {:error, %Error{}} = repair(<<1::504>>, {:bytes, 64}, :eddsa)
      assert {:error, %Error{}} = repair("", {:rsa, 3233, 17}, :sha1_rsa_pkcs)
    end

    test "numbers are longer by zeros only" do
      {r, s} = {<<7::256>>, <<9::256>>}
      assert repair(<<0, r::binary, 0, s::binary>>, @p256, :ecdsa) == {:ok, r <> s}
      assert {:error, _} = repair(<<1, r::binary, 0, s::binary>>, @p256, :ecdsa)
      assert {:error, _} = repair(<<0, r::binary, s::binary>>, @p256, :ecdsa)
      der = Ecdsa.to_der(r <> s)
      assert repair(der, @p256, :ecdsa) == {:ok, r <> s}
      assert {:error, _} = repair(der <> <<0>>, @p256, :ecdsa)
      assert {:error, _} = repair(Ecdsa.to_der(<<1, 0::256, 9::264>>), @p256, :ecdsa)
      # Where the curve is not known.
      assert repair(r <> s, {:numbers, nil}, :ecdsa) == {:ok, r <> s}
      assert {:error, _} = repair(<<0>> <> r <> s, {:numbers, nil}, :ecdsa)
    end

    test "a short RSA signature is padded when it is one then" do
      {:RSAPrivateKey, _, n, e, d, _, _, _, _, _, _} =
        key = :public_key.generate_key({:rsa, 1024, 3})

      for {mechanism, options} <- [
            sha256_rsa_pkcs: [],
            sha256_rsa_pkcs_pss: [rsa_padding: :rsa_pkcs1_pss_padding]
          ] do
        <<0, short::binary>> = signature = with_zero(key, options)
        assert byte_size(signature) == 128
        assert repair(short, {:rsa, n, e}, mechanism) == {:ok, signature}
        # By a usual exponent, where the token does not show it.
        assert repair(short, {:rsa, n, nil}, mechanism) == {:ok, signature}
      end

      # What it would be when its end is missing.
      <<cut::binary-size(127), _>> = :public_key.sign("text", :sha256, key)
      assert {:error, _} = repair(cut, {:rsa, n, e}, :sha256_rsa_pkcs)
      # It may begin with a zero, which mod_pow leaves out.
      raw = <<:binary.decode_unsigned(:crypto.mod_pow(7, d, n))::1024>>
      assert repair(<<0>> <> raw, {:rsa, n, e}, :rsa_x_509) == {:ok, raw}
    end

    test "numbers are as long as the order of the curve" do
      known = :crypto_ec_curves.curves()

      for name <- Curve.names() -- @edwards, name in known do
        curve = :crypto_ec_curves.curve(name)
        order = curve |> elem(3) |> number()
        size = byte_size(:binary.encode_unsigned(order))
        assert {name, Curve.order_size(name)} == {name, {:ok, size}}
      end

      assert Curve.order_size(:ed25519) == :error
      assert Curve.order_size(:no_such_curve) == :error
    end

    test "or as the parameters of the key say" do
      {:ok, explicit} = explicit("secp224k1")
      assert Curve.order_size(explicit) == {:ok, 29}

      for cut <- [<<>>, <<0x30>>, binary_part(explicit, 0, 60)],
          do: :error = Curve.order_size(cut)
    end
  end

  describe "what is verified with format: :der" do
    test "is DER and nothing else", %{hsm: hsm, keys: keys} do
      %{secp256r1: key} = keys
      public = Cryptoki.find_one!(hsm, class: :public_key, id: key.id)
      <<0x30, size, numbers::binary>> = der = signed(hsm, key, "text")
      <<2, r_size, r::binary-size(r_size), s::binary>> = numbers
      assert Cryptoki.valid?(hsm, public, :ecdsa_sha256, "text", der, format: :der)

      for {name, bad} <- [
            "bytes behind": der <> <<0>>,
            "bytes inside": <<0x30, size + 2, numbers::binary, 5, 0>>,
            "a long length": <<0x30, 0x81, size, numbers::binary>>,
            "an indefinite length": <<0x30, 0x80, numbers::binary, 0, 0>>,
            "a zero before r": <<0x30, size + 1, 2, r_size + 1, 0, r::binary, s::binary>>,
            "a set": <<0x31, size, numbers::binary>>,
            "a negative r": <<0x30, size, 2, r_size, negative(r)::binary, s::binary>>,
            "r and s": "text",
            nothing: ""
          ] do
        answer = Cryptoki.verify(hsm, public, :ecdsa_sha256, "text", bad, format: :der)
        assert {^name, {:error, %Error{reason: :signature_invalid}}} = {name, answer}
        stream = {:stream, ["text"]}
        answer = Cryptoki.verify(hsm, public, :ecdsa_sha256, stream, bad, format: :der)
        assert {^name, {:error, %Error{reason: :signature_invalid}}} = {name, answer}
      end
    end

    # Each was compared with a power of two for every one of its bytes: minutes for a message of a stranger.
    test "may be of any size, and is no signature then", %{hsm: hsm, keys: keys} do
      public = Cryptoki.find_one!(hsm, class: :public_key, id: keys.secp256r1.id)
      many = :binary.copy(<<0x7F>>, 1_000_000)
      many = <<2, 0x83, byte_size(many)::24, many::binary>>

      for numbers <- [many <> <<2, 1, 1>>, <<2, 1, 1>> <> many, many <> many] do
        der = <<0x30, 0x83, byte_size(numbers)::24, numbers::binary>>

        assert {:error, %Error{reason: :signature_invalid}} =
                 Cryptoki.verify(hsm, public, :ecdsa, <<1::256>>, der, format: :der)
      end
    end

    @tag skip: MainToken.lacks(:kryoptic, "it has curves of NIST only")
    test "has numbers as long as the order, which is not the length of a point", %{hsm: hsm} do
      for curve <- [:secp224k1, :secp160r1, :secp256k1] do
        %{^curve => key} = KeyPairs.make(hsm, [curve])
        public = Cryptoki.find_one!(hsm, class: :public_key, id: key.id)

        for n <- 1..20 do
          der = signed(hsm, key, "text #{n}")
          assert Cryptoki.valid?(hsm, public, :ecdsa_sha256, "text #{n}", der, format: :der)
        end
      end
    end

    @tag skip: MainToken.lacks(:kryoptic, "it takes points of one form")
    test "with a key whose point is compressed", %{hsm: hsm, keys: keys, publics: publics} do
      %{secp256r1: key} = keys
      %{secp256r1: {{:ECPoint, <<4, x::binary-size(32), y::binary>>}, _curve}} = publics
      point = <<2 + rem(:binary.last(y), 2), x::binary>>
      kind = [class: :public_key, key_type: :ec, curve: :secp256r1, verify: true, token: false]
      public = Cryptoki.create!(hsm, [ec_point: <<4, 33, point::binary>>] ++ kind)
      der = signed(hsm, key, "text")
      answer = Cryptoki.verify(hsm, public, :ecdsa_sha256, "text", der, format: :der)
      # A token may know no such points; then it says so itself.
      assert answer == :ok or answer |> elem(1) |> Map.fetch!(:function) != nil
    end
  end

  test "a number of DER is as short as it can be" do
    edges =
      for bits <- [7, 8, 15, 16, 63, 64, 255, 256], near <- -2..2, do: Integer.pow(2, bits) + near

    for number <- [0, 1 | edges], number <- [number, -number] do
      values = {:"ECDSA-Sig-Value", number, 1}
      der = DER.sequence([DER.integer(number), DER.integer(1)])
      assert der == :public_key.der_encode(:"ECDSA-Sig-Value", values)
    end

    assert <<2, 0x83, 1_000_001::24, 0, 0xFF, _rest::binary>> =
             DER.integer(:binary.decode_unsigned(:binary.copy(<<0xFF>>, 1_000_000)))
  end

  test "the hash goes with the curve, however its point is written" do
    for {size, hash} <- [{32, :sha256}, {48, :sha384}, {66, :sha512}],
        point <- [<<4, 0::size(size)-unit(16)>>, <<2, 0::size(size)-unit(8)>>] do
      key = {{:ECPoint, point}, {:namedCurve, {1, 2, 3}}}
      assert {:ok, %{hash: ^hash}} = Cryptoki.SignatureAlgorithm.choose(key, [])
    end
  end

  defp rsa(modulus, exponent),
    do: %{key_type: :rsa, modulus: modulus, public_exponent: exponent}

  defp repair(signature, form, mechanism),
    do: SignatureForm.repair(signature, form, mechanism, :C_Sign)

  defp signed(hsm, key, text), do: Cryptoki.sign!(hsm, key, :ecdsa_sha256, text, format: :der)

  defp negative(<<first, rest::binary>>), do: <<Bitwise.bor(first, 0x80), rest::binary>>

  defp with_zero(key, options) do
    Enum.find_value(1..100_000, fn n ->
      case :public_key.sign("text #{n}", :sha256, key, options) do
        <<0, _::binary>> = signature -> signature
        _another -> nil
      end
    end)
  end

  defp number(bytes) when is_binary(bytes), do: :binary.decode_unsigned(bytes)
  defp number(number), do: number

  defp explicit(curve) do
    arguments = ~w(ecparam -name #{curve} -param_enc explicit -outform DER)
    {der, 0} = OpenSSL.openssl(arguments)
    {:ok, der}
  end

  defp verified?(public, text, raw),
    do: :public_key.verify(text, :sha256, Ecdsa.to_der(raw), public)
end
