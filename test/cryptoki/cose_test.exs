defmodule Cryptoki.COSETest do
  use ExUnit.Case, async: true

  # COSE_Sign1 against pycose and cwt, both ways, and the messages of cose-wg/Examples (test/vectors/cose says whence).

  alias Cryptoki.{Base64URL, CBOR, COSE, Error, JSON, JWK}
  alias Cryptoki.CBOR.Reader
  alias Cryptoki.Test.{MainToken, PostQuantum, SoftHSM, Token}
  alias Cryptoki.Test.COSE, as: Others

  @curves %{
    "P-256" => :secp256r1,
    "P-384" => :secp384r1,
    "P-521" => :secp521r1,
    "Ed25519" => :ed25519,
    "Ed448" => :ed448
  }
  @sizes %{"P-256" => 32, "P-384" => 48, "P-521" => 66}

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    rsa = [label: "cose rsa", modulus_bits: 2048]
    Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, rsa)

    keys =
      for {mechanism, curves} <- [
            ec_key_pair_gen: ~w[secp256r1 secp384r1 secp521r1]a,
            ec_edwards_key_pair_gen: [:ed25519]
          ],
          curve <- curves,
          into: %{rsa: [label: "cose rsa"]} do
        Cryptoki.generate_key_pair!(hsm, mechanism, curve: curve, label: "cose #{curve}")
        {curve, [label: "cose #{curve}"]}
      end

    %{hsm: hsm, keys: keys}
  end

  @ours [
    {:secp256r1, "ES256"},
    {:secp384r1, "ES384"},
    {:secp521r1, "ES512"},
    {:ed25519, "EdDSA"},
    {:rsa, "PS256"},
    {:rsa, "PS384"},
    {:rsa, "PS512"}
  ]

  test "pycose and cwt take what is signed here, and nothing else", %{hsm: hsm, keys: keys} do
    rows =
      for {name, alg} <- @ours,
          external <- ["", "external"],
          detached <- [false, true],
          payload = "This is the content of #{alg}." do
        opts = [
          alg: alg,
          external_aad: external,
          detached: detached,
          protected: %{3 => 0},
          unprotected: %{4 => "11"}
        ]

        message = COSE.sign1!(hsm, keys[name], payload, opts)
        jwk = JWK.public!(hsm, keys[name])

        request = %{
          do: "verify",
          alg: alg,
          jwk: jwk,
          message: Others.hex(message),
          external: Others.hex(external)
        }

        request = if detached, do: Map.put(request, :payload, Others.hex(payload)), else: request
        given = if detached, do: [payload: payload], else: []

        assert {:ok, verified} =
                 COSE.verify1(hsm, keys[name], message, [external_aad: external] ++ given)

        assert {verified.alg, verified.payload} == {alg, payload}
        assert {verified.protected[3], verified.unprotected} == {0, %{4 => "11"}}
        request
      end

    spoilt = for row <- rows, do: %{row | external: "00"}
    answers = Others.python(rows ++ spoilt)
    {taken, refused} = Enum.split(answers, length(rows))
    assert Enum.uniq(taken) == [["ok", "ok"]]
    for answer <- refused, one <- answer, do: assert(one != "ok")
  end

  test "what pycose and cwt sign is verified here", %{hsm: hsm} do
    keys =
      for {curve, alg} <- [
            {"P-256", "ES256"},
            {"P-384", "ES384"},
            {"P-521", "ES512"},
            {"Ed25519", "EdDSA"}
          ] do
        {private, public} = pair(curve)
        {alg, private, import_public(hsm, curve, public)}
      end

    rows =
      for {alg, jwk, key} <- keys, external <- ["", "external"], detached <- [false, true] do
        request = %{
          do: "sign",
          alg: alg,
          jwk: jwk,
          payload: Others.hex("text"),
          external: Others.hex(external),
          detached: detached
        }

        {request, key, external, detached}
      end

    for {answers, {request, key, external, detached}} <-
          Enum.zip(Others.python(Enum.map(rows, &elem(&1, 0))), rows),
        {hex, by} <- Enum.with_index(answers),
        not (detached and by == 1) do
      message = Others.bytes(hex)
      given = if detached, do: [payload: "text"], else: []
      opts = [external_aad: external, alg: request.alg] ++ given

      assert {:ok, %{payload: "text"}} = COSE.verify1(hsm, key, message, opts),
             "#{by} #{request.alg}"

      assert {:error, %Error{reason: :signature_invalid}} =
               COSE.verify1(hsm, key, message, [external_aad: "another"] ++ given)
    end
  end

  # Made in this VM: the private key is for the others.
  defp pair("Ed25519") do
    {public, private} = :crypto.generate_key(:eddsa, :ed25519)

    {%{
       "kty" => "OKP",
       "crv" => "Ed25519",
       "x" => Base64URL.encode(public),
       "d" => Base64URL.encode(private)
     }, public}
  end

  defp pair(curve) do
    {<<4, both::binary>> = public, private} = :crypto.generate_key(:ecdh, @curves[curve])
    size = @sizes[curve]
    {x, y} = :erlang.split_binary(both, size)
    d = <<0::unit(8)-size(size - byte_size(private)), private::binary>>

    members =
      for {name, bytes} <- [{"x", x}, {"y", y}, {"d", d}],
          into: %{},
          do: {name, Base64URL.encode(bytes)}

    {Map.merge(%{"kty" => "EC", "crv" => curve}, members), public}
  end

  defp import_public(hsm, curve, point) do
    kind = if curve in ["Ed25519", "Ed448"], do: :ec_edwards, else: :ec

    template = [
      class: :public_key,
      key_type: kind,
      curve: @curves[curve],
      verify: true,
      token: false
    ]

    wrapped = Cryptoki.Attribute.Curve.wrap_point(point)
    Cryptoki.create!(hsm, template ++ [ec_point: wrapped])
  end

  ## The examples

  @vectors "test/vectors/cose/sign1.json"

  defp vectors do
    {:ok, %{"messages" => rows}} = @vectors |> File.read!() |> JSON.decode()
    rows
  end

  defp vector(file), do: Enum.find(vectors(), &(&1["file"] == file))

  defp key_of(hsm, %{"crv" => curve} = row) do
    bytes = fn name -> if row[name], do: Others.bytes(row[name]), else: "" end
    point = if row["y"], do: <<4>> <> bytes.("x") <> bytes.("y"), else: bytes.("x")
    import_public(hsm, curve, point)
  end

  # The token has no Ed448, and this algorithm is for another curve here.
  @others ~w[eddsa-examples/eddsa-sig-02.json ecdsa-examples/ecdsa-sig-04.json]
  # The algorithm is not signed.
  @unsigned "sign1-tests/sign-pass-01.json"

  test "the examples of the working group", %{hsm: hsm} do
    for %{"file" => file, "fail" => fail?} = row <- vectors(), file not in @others do
      message = Others.bytes(row["cbor"])
      external = Others.bytes(row["external"])
      opts = if file == @unsigned, do: [alg: "ES256"], else: []
      verified = COSE.verify1(hsm, key_of(hsm, row), message, [external_aad: external] ++ opts)

      if fail?,
        do: assert({:error, %Error{reason: :signature_invalid}} = verified, file),
        else: assert({:ok, %{alg: _, payload: _}} = verified, file)
    end
  end

  test "what they sign is what is signed here" do
    for %{"to_be_signed" => hex, "file" => file} = row <- vectors(),
        hex not in ["", nil],
        file not in @others do
      {:ok, message} = Reader.decode(Others.bytes(row["cbor"]), 10_000)
      [protected, _unprotected, payload, _signature] = with {:tag, _, parts} <- message, do: parts
      protected = if protected == <<0xA0>>, do: "", else: protected
      signed = COSE.Message.to_be_signed(protected, payload, Others.bytes(row["external"]))
      # Some of the messages that fail were changed after they had been signed.
      unless row["fail"], do: assert(Others.hex(signed) == hex, file)
    end
  end

  test "a message of the token is that of the example, byte for byte, where signatures are no chance",
       %{hsm: hsm} do
    row = vector("eddsa-examples/eddsa-sig-01.json")

    jwk = %{
      "kty" => "OKP",
      "crv" => "Ed25519",
      "x" => Base64URL.encode(Others.bytes(row["x"])),
      "d" => Base64URL.encode(Others.bytes(row["d"]))
    }

    key = Cryptoki.import_key!(hsm, JSON.encode!(jwk), label: "cose example", token: false)

    message =
      COSE.sign1!(hsm, key, row["plaintext"], protected: %{3 => 0}, unprotected: %{4 => "11"})

    assert Others.hex(message) == row["cbor"]
  end

  test "an algorithm that is not signed counts only where it is asked for", %{hsm: hsm} do
    row = vector(@unsigned)
    key = key_of(hsm, row)
    message = Others.bytes(row["cbor"])

    for opts <- [[], [alg: ["ES256", "ES384"]], [alg: "ESP256"], [alg: "ES384"]],
        do: assert({:signature_invalid, _} = refused(hsm, key, message, opts))

    assert {:ok, %{alg: "ES256", protected: %{}}} = COSE.verify1(hsm, key, message, alg: "ES256")
  end

  ## Strangers

  defp refused(hsm, key, message, opts \\ []) do
    assert {:error, %Error{} = error} = COSE.verify1(hsm, key, message, opts)
    assert String.valid?(Exception.message(error))
    {error.reason, error.detail}
  end

  # A message by hand, really signed.
  defp made(hsm, key, protected, unprotected, changes \\ []) do
    payload = Keyword.get(changes, :payload, "text")
    protected = if is_binary(protected), do: protected, else: CBOR.encode!(protected)
    signed = COSE.Message.to_be_signed(protected, payload, "")
    signature = Cryptoki.sign!(hsm, key, :ecdsa_sha256, signed)

    CBOR.encode!(
      {:tag, Keyword.get(changes, :tag, 18), [protected, unprotected, payload, signature]}
    )
  end

  test "headers are what the standard allows", %{hsm: hsm, keys: %{secp256r1: key}} do
    assert {:ok, _} = COSE.verify1(hsm, key, made(hsm, key, %{1 => -7}, %{}))
    assert {:ok, %{alg: "ESP256"}} = COSE.verify1(hsm, key, made(hsm, key, %{1 => -9}, %{}))
    text = %{{:text, "x"} => {:text, "y"}}

    assert {:ok, %{unprotected: %{"x" => {:text, "y"}}}} =
             COSE.verify1(hsm, key, made(hsm, key, %{1 => -7}, text))

    for {protected, unprotected, text} <- [
          {%{}, %{1 => -7}, "its protected header has no algorithm"},
          {"", %{1 => -7}, "its protected header has no algorithm"},
          {%{1 => -7}, %{1 => -7}, "both headers have the label 1"},
          {%{1 => -7, 4 => "a"}, %{4 => "b"}, "both headers have the label 4"},
          {%{1 => -7, 2 => []}, %{}, "crit is wrong"},
          {%{1 => -7, 2 => 4}, %{}, "crit is wrong"},
          {%{1 => -7, 2 => [4]}, %{4 => "a"}, "crit is wrong"},
          {%{1 => -7, 2 => [99], 99 => 0}, %{}, "names what is not understood"},
          {%{1 => -7, 2 => [{:text, "x"}], {:text, "x"} => 0}, %{},
           "names what is not understood"},
          {%{1 => -7, 2 => [4, 4], 4 => "a"}, %{}, "crit is wrong"},
          {%{1 => {:text, "ES256"}}, %{}, ~s(there is no algorithm "ES256")},
          {%{1 => Enum.to_list(1..1000)}, %{}, "there is no algorithm of that type"},
          {%{1 => -7, "bytes" => 0}, %{}, "no map of labels"},
          {%{1 => -7}, %{"bytes" => 0}, "no map of labels"},
          {%{1 => -7}, [], "no map of labels"},
          {CBOR.encode!([1]), %{}, "no map of labels"},
          {<<0xA2, 1, 0x26, 1, 0x26>>, %{}, "a key is there twice"},
          {<<0xA1, 1, 0x26, 0>>, %{}, "bytes behind its end"},
          {<<0xA1>>, %{}, "a value is missing"},
          {%{1 => 5}, %{}, "there is no algorithm 5"},
          {%{1 => -35}, %{}, "ES384 is for"},
          {%{1 => -8}, %{}, "EdDSA is for"},
          {%{1 => -37}, %{}, "PS256 is for"},
          {%{1 => -48}, %{}, "ML-DSA-44 is for"}
        ] do
      assert {:signature_invalid, detail} =
               refused(hsm, key, made(hsm, key, protected, unprotected))

      assert detail =~ text
    end

    understood =
      made(
        hsm,
        key,
        %{1 => -7, 2 => [99, {:text, "x"}, 4], 99 => 0, 4 => "a", {:text, "x"} => 1},
        %{}
      )

    assert {:ok, _} = COSE.verify1(hsm, key, understood, crit: [99, "x"])
    assert {:signature_invalid, _} = refused(hsm, key, understood, crit: 99)
  end

  test "messages that are none", %{hsm: hsm, keys: %{secp256r1: key}} do
    good = made(hsm, key, %{1 => -7}, %{})
    {:ok, {:tag, 18, [protected, unprotected, payload, signature]}} = Reader.decode(good, 1000)

    assert {:ok, _} =
             COSE.verify1(hsm, key, CBOR.encode!([protected, unprotected, payload, signature]))

    # A CBOR Web Token says so before the tag, and never in its place (RFC 8392, section 6).
    assert {:ok, _} = COSE.verify1(hsm, key, <<0xD8, 61>> <> good)

    for {message, text} <- [
          {CBOR.encode!({:tag, 61, [protected, unprotected, payload, signature]}),
           "is 61, not 18"},
          {<<0xD8, 61, 0xD1, 0x80>>, "is 17, not 18"},
          {<<0xD8, 61, 0xD8, 61>> <> good, "is 61, not 18"}
        ] do
      assert {:signature_invalid, detail} = refused(hsm, key, message)
      assert detail =~ text
    end

    for message <- [
          "",
          "text",
          CBOR.encode!("text"),
          CBOR.encode!([]),
          CBOR.encode!([protected, unprotected, payload]),
          CBOR.encode!([protected, unprotected, payload, signature, ""]),
          CBOR.encode!([%{1 => -7}, unprotected, payload, signature]),
          CBOR.encode!([protected, unprotected, 5, signature]),
          CBOR.encode!([protected, unprotected, {:text, payload}, signature]),
          CBOR.encode!([protected, unprotected, payload, nil]),
          CBOR.encode!({:tag, 18, {:tag, 18, [protected, unprotected, payload, signature]}}),
          CBOR.encode!([protected, unprotected, payload, :binary.copy("s", 65_537)]),
          CBOR.encode!([
            CBOR.encode!(%{1 => -7, 4 => :binary.copy("k", 49_152)}),
            %{},
            payload,
            signature
          ]),
          made(hsm, key, %{1 => -7}, %{}, tag: 98),
          good <> "x",
          binary_part(good, 0, byte_size(good) - 1),
          CBOR.encode!([protected, unprotected, payload, binary_part(signature, 0, 63)]),
          CBOR.encode!([protected, unprotected, payload, signature <> <<0>>]),
          CBOR.encode!([protected, unprotected, payload, <<0::512>>]),
          CBOR.encode!([protected, unprotected, "other", signature]),
          CBOR.encode!([CBOR.encode!(%{1 => -7, 3 => 0}), unprotected, payload, signature])
        ],
        do: assert({:signature_invalid, _} = refused(hsm, key, message))

    # What is not signed may be changed, and says so.
    assert {:ok, %{unprotected: %{4 => "mallory"}}} =
             COSE.verify1(
               hsm,
               key,
               CBOR.encode!([protected, %{4 => "mallory"}, payload, signature])
             )

    assert {:signature_invalid, _} = refused(hsm, key, good, alg: "ES384")
    assert {:signature_invalid, _} = refused(hsm, key, good, external_aad: "x")
    detached = CBOR.encode!([protected, unprotected, nil, signature])
    assert {:signature_invalid, _} = refused(hsm, key, detached)
    assert {:signature_invalid, _} = refused(hsm, key, detached, payload: "other")
    assert {:ok, %{payload: "text"}} = COSE.verify1(hsm, key, detached, payload: ["te", "xt"])
    assert {:invalid_argument, _} = refused(hsm, key, good, payload: "text")
  end

  test "mistakes are told before a key is asked for", %{hsm: hsm, keys: keys} do
    for {opts, text} <- [
          {[alg: "HS256"], "there is no algorithm"},
          {[alg: :es256], "alg:"},
          {[protected: %{1 => -7}], "alg (1) is set by the option alg:"},
          {[protected: %{2 => [9]}], "crit (2) lists parameters that are in it"},
          {[protected: %{2 => []}], "crit (2) lists parameters that are in it"},
          {[unprotected: %{2 => [4], 4 => "a"}], "crit (2) is for protected:"},
          {[protected: %{a: 1}], "labels that are integers or strings"},
          {[protected: %{9 => :a}], "no form of an atom"},
          {[protected: %{9 => :binary.copy("a", 50_000)}], "has more than 49152 bytes"},
          {[unprotected: []], "unprotected:"},
          {[external_aad: 5], "external_aad:"},
          {[algo: "ES256"], "algo"}
        ] do
      error = assert_raise ArgumentError, fn -> COSE.sign1(hsm, [label: "none"], "text", opts) end
      assert error.message =~ text
    end

    assert_raise ArgumentError, fn -> COSE.sign1(hsm, [label: "none"], :text) end
    assert_raise ArgumentError, fn -> apply(COSE, :verify1, [hsm, [label: "none"], :text]) end
    assert_raise ArgumentError, fn -> COSE.verify1(hsm, [label: "none"], "", alg: "none") end
    assert {:error, %Error{reason: :invalid_argument}} = COSE.sign1(hsm, keys.rsa, "text")

    assert {:error, %Error{reason: :key_type_inconsistent}} =
             COSE.sign1(hsm, keys.rsa, "text", alg: "ES256")

    assert {:error, %Error{reason: :key_type_inconsistent}} =
             COSE.sign1(hsm, keys.secp384r1, "text", alg: "ES256")

    assert <<0x84, 0x43, _::binary>> = COSE.sign1!(hsm, keys.secp256r1, "text", tagged: false)

    assert {:ok, %{alg: "ESP384"}} =
             COSE.verify1(
               hsm,
               keys.secp384r1,
               COSE.sign1!(hsm, keys.secp384r1, "", alg: "ESP384")
             )
  end

  @tag skip: !Token.library(:kryoptic) && "Kryoptic is not built: bin/test --tokens kryoptic"
  test "ML-DSA, judged by pq_referee over what cbor2 says is signed" do
    library = Path.join(SoftHSM.directory(), "cose-kryoptic.so")
    Token.copy_kryoptic(library)
    token = Token.kryoptic(library, "cose")
    hsm = start_supervised!({Cryptoki, Token.options(token, sessions: 1)}, id: :kryoptic)

    for {set, alg, number} <- [
          {:ml_dsa_44, "ML-DSA-44", -48},
          {:ml_dsa_65, "ML-DSA-65", -49},
          {:ml_dsa_87, "ML-DSA-87", -50}
        ] do
      {public, private} =
        Cryptoki.generate_key_pair!(hsm, :ml_dsa_key_pair_gen, parameter_set: set)

      message = COSE.sign1!(hsm, private, "text", external_aad: "external")

      assert {:ok, %{alg: ^alg, protected: %{1 => ^number}}} =
               COSE.verify1(hsm, public, message, external_aad: "external")

      assert {:signature_invalid, _} = refused(hsm, public, message)

      request = %{
        do: "to_be_signed",
        message: Others.hex(message),
        external: Others.hex("external")
      }

      [[signed, signature]] = Others.python([request])
      %{value: key} = Cryptoki.attributes!(hsm, public, [:value])

      assert PostQuantum.valid?(
               set,
               key,
               PostQuantum.message(Others.bytes(signed), ""),
               Others.bytes(signature)
             )
    end
  end
end
