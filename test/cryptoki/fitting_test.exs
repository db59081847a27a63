defmodule Cryptoki.FittingTest do
  use ExUnit.Case, async: true

  alias Cryptoki.{Error, Fitting, Names}
  alias Cryptoki.Mechanism.KeyType
  alias Cryptoki.Test.{FaultyModule, KeyPairs, MainToken}

  @script Path.expand("../support/wrong_keys.exs", __DIR__)

  # SoftHSM ends the process: so this one has its own.
  test "a key of another type than the mechanism works with is refused before the library sees it" do
    arguments = ["-pa", Application.app_dir(:cryptoki, "ebin"), @script, MainToken.uri()]
    opts = [stderr_to_stdout: true, env: MainToken.environment(MainToken.options())]
    assert System.cmd("elixir", arguments, opts) == {"", 3}
  end

  test "a call that goes on asks no more of a key than before; one that was looked for is asked once" do
    module = FaultyModule.new()
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 1)})
    pair = [curve: :secp256r1, label: "fits", sign: true, verify: true]
    {public, private} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, pair)
    digest = :crypto.hash(:sha256, "")
    signature = Cryptoki.sign!(hsm, private, :ecdsa, digest)

    asked = fn work ->
      {_answer, calls} = FaultyModule.calls(module, work)
      for {function, "ran", _rv} <- calls, do: function
    end

    verify = fn key -> :ok = Cryptoki.verify(hsm, key, :ecdsa, digest, signature) end
    signed = fn -> Cryptoki.sign!(hsm, private, :ecdsa, digest) end
    assert asked.(signed) == ["C_SignInit", "C_Sign"]
    assert asked.(fn -> verify.(public) end) == ["C_VerifyInit", "C_Verify"]
    first = asked.(fn -> verify.(label: "fits") end)
    assert Enum.count(first, &(&1 == "C_GetAttributeValue")) in [1, 2]
    assert asked.(fn -> verify.(label: "fits") end) == ["C_VerifyInit", "C_Verify"]

    wrong = fn ->
      assert {:error, %Error{reason: :key_type_inconsistent, executed: false} = error} =
               Cryptoki.verify(hsm, [label: "fits"], :sha256_rsa_pkcs, "", signature)

      assert Exception.message(error) =~ ":sha256_rsa_pkcs with a key of type :ec"
    end

    assert asked.(wrong) == []
  end

  # SoftHSM with OpenSSL 3.6 ends the process at RSA with a key that has no modulus.
  test "what type a key of a pair is of shows in its other attributes where the token does not say it" do
    module = FaultyModule.new()
    wrong = %{rsa: :ecdsa_sha256, secp256r1: :sha256_rsa_pkcs, ed25519: :sha256_rsa_pkcs}
    start = fn id -> start_supervised!({Cryptoki, FaultyModule.options(module, [])}, id: id) end
    makes = start.(:makes)
    # On the token: in processes of their own the instances have no session in common.
    pairs = KeyPairs.make(makes, Map.keys(wrong), token: true)
    on_exit(fn -> FaultyModule.control(module, "") end)

    for said <- ["", " value=", " value=ff", " value=0100008000000000"] do
      FaultyModule.control(module, "attribute 0x100#{said}")
      # One that knows nothing yet.
      hsm = start.(said)

      for {kind, key} <- pairs, selector = [class: :private_key, id: key.id] do
        {:ok, found} = Cryptoki.find_one(hsm, selector)
        assert found.key_type == nil or is_integer(found.key_type)

        for key <- [selector, found] do
          assert {:error, %Error{reason: :key_type_inconsistent, executed: false}} =
                   Cryptoki.sign(hsm, key, wrong[kind], "text")
        end
      end

      right = [class: :private_key, id: pairs.rsa.id]
      assert {:ok, <<_::2048>>} = Cryptoki.sign(hsm, right, :sha256_rsa_pkcs, "text")
    end

    FaultyModule.control(module, "")

    for {_kind, key} <- pairs,
        half <- Cryptoki.find!(makes, id: key.id),
        do: :ok = Cryptoki.destroy(makes, half)
  end

  test "what is no key is none; that a private key verifies is for the token to say" do
    code = fn name -> Names.code(:mechanism, name) |> elem(1) end
    no = fn operation, kind -> Fitting.check(operation, code.(:sha256_rsa_pkcs), kind) end

    assert {:error, %Error{reason: :key_handle_invalid}} = no.(:sign, {:certificate, nil})
    assert {:error, %Error{reason: :key_function_not_permitted}} = no.(:sign, {:public_key, :rsa})
    assert no.(:verify, {:private_key, :rsa}) == :ok
    assert no.(:sign, {nil, nil}) == :ok
    # A type that the token does not say: of a secret key OpenSSL 3.6 ends the process of SoftHSM.
    assert {:error, %Error{reason: :key_type_inconsistent, detail: detail}} =
             no.(:sign, {:secret_key, nil})

    assert detail =~ ":sha256_rsa_pkcs with an object that is "

    assert {:error, %Error{reason: :key_type_inconsistent}} =
             Fitting.check(:sign, code.(:sha256_hmac), {:private_key, nil})

    assert no.(:sign, {:private_key, nil}) == :ok
    assert Fitting.check(:sign, code.(:sha256_hmac), {:secret_key, nil}) == :ok
    # Of a vendor, which no name says anything of.
    assert no.(:sign, {0x8000_0001, 0x8000_0001}) == :ok
    assert Fitting.check(:sign, 0x8000_0001, {:private_key, :rsa}) == :ok
    assert Fitting.check(:derive_key, code.(:sha256_key_derivation), {:data, nil}) == :ok
  end

  test "the table: who works with what" do
    fits = fn name, type -> KeyType.fits?(Names.code(:mechanism, name) |> elem(1), type) end

    for {name, types} <- [
          ecdsa_sha3_256: [:ec],
          eddsa: [:ec_edwards, :ec],
          sha1_rsa_x9_31: [:rsa],
          rsa_aes_key_wrap: [:rsa],
          dsa_sha512: [:dsa],
          hash_ml_dsa_sha256: [:ml_dsa],
          slh_dsa: [:slh_dsa],
          ml_kem: [:ml_kem],
          ecdh_aes_key_wrap: [:ec, :ec_edwards, :ec_montgomery],
          ecdh1_derive: [:ec, :ec_edwards, :ec_montgomery],
          x9_42_dh_derive: [:x9_42_dh],
          dh_pkcs_derive: [:dh]
        ],
        {type, _code} <- Names.all(:key_type),
        type not in [:ecdsa, :vendor_defined],
        do: assert({name, type, fits.(name, type)} == {name, type, type in types})

    # Libraries take one secret for another: AES keys for HMAC, generic ones for AES.
    for name <- [:aes_gcm, :sha256_hmac, :aes_key_wrap_kwp, :chacha20_poly1305, :des3_cmac] do
      for type <- [:aes, :generic_secret, :sha256_hmac, :hkdf, :des3],
          do: assert(fits.(name, type))

      for type <- [:rsa, :ec, :ec_edwards, :ml_dsa, :dh], do: refute(fits.(name, type))
    end

    # Of these the standard says nothing, or the base key may be of any type.
    for name <- [
          :hkdf_derive,
          :pub_key_from_priv_key,
          :x3dh_initialize,
          :cms_sig,
          :sp800_108_counter_kdf
        ],
        do: assert(fits.(name, :rsa) and fits.(name, :ec))
  end
end
