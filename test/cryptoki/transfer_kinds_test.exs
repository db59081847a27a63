defmodule Cryptoki.TransferKindsTest do
  # Keys that travel under a rule of their own, and those of RFC 8410; OpenSSL and OTP look at what arrives.
  use ExUnit.Case, async: false

  alias Cryptoki.{Error, Transfer}
  alias Cryptoki.Test.{OpenSSL, SoftHSM, Token}

  @unbuilt !Token.library(:kryoptic) && "Kryoptic is not built: bin/test --tokens kryoptic"
  @kek :crypto.strong_rand_bytes(32)
  @names [label: "kek"]

  # The security officer logs in where the user is not, and sees what everybody may see.
  defp kek(hsm, more \\ []) do
    template = [class: :secret_key, key_type: :aes, value: @kek, token: true, private: false]
    may = [label: "kek", wrap: true, unwrap: true, encrypt: true, decrypt: true]
    Cryptoki.create(hsm, template ++ Keyword.merge(may, more))
  end

  defp softhsm(label, more \\ []) do
    options =
      SoftHSM.options([label: label, library: SoftHSM.library_copy(), sessions: 1] ++ more)

    start_supervised!({Cryptoki, options}, id: make_ref())
  end

  test "a key for trusted ones is wrapped by one that the security officer trusts, and stays so" do
    label = SoftHSM.create("transfer-#{System.unique_integer([:positive])}")
    other = SoftHSM.create("transfer-#{System.unique_integer([:positive])}")
    [from, to] = for label <- [label, other], do: softhsm(label)
    for hsm <- [from, to], do: {:ok, _key} = kek(hsm)
    private = [extractable: true, wrap_with_trusted: true]
    template = [curve: :secp256r1, label: "trusted", private: private]
    {:ok, {public, pair}} = Cryptoki.generate_key_pair(from, :ec_key_pair_gen, template)
    secret = Cryptoki.import_key!(from, {:aes, <<7::256>>}, private)
    keys = [pair, secret]

    for key <- keys,
        do:
          assert(
            {:error, %Error{reason: :key_not_wrappable}} = Transfer.export(from, key, @names)
          )

    # The one of the same value that the security officer makes; SoftHSM lets nobody say it of one that is there.
    officer = softhsm(label, user: :so, pin: SoftHSM.so_pin())
    trusted = [label: "trusted kek", trusted: true]
    assert {:error, %Error{}} = kek(from, trusted)
    assert {:ok, _key} = kek(officer, trusted)

    for key <- keys do
      text = Transfer.export!(from, key, label: "trusted kek")
      assert %{attributes: %{wrap_with_trusted: true}} = Transfer.describe!(text)
      moved = Transfer.import!(to, text, @names)
      assert %{wrap_with_trusted: true} = Cryptoki.attributes!(to, moved, [:wrap_with_trusted])
      # Where nobody trusts the wrapping key it goes no further.
      assert {:error, %Error{reason: :key_not_wrappable}} = Transfer.export(to, moved, @names)

      if key == pair do
        signature = Cryptoki.sign!(to, moved, :ecdsa_sha256, "text")
        public = Cryptoki.public_key!(from, public)
        assert OpenSSL.valid?(public, signature, {:ecdsa, :sha256}, "text")
      end
    end
  end

  defp kryoptic(name) do
    options = Token.options(Token.own_kryoptic(name), sessions: 2, timeout: 20_000)
    hsm = start_supervised!({Cryptoki, options}, id: name)
    {:ok, _key} = kek(hsm)
    hsm
  end

  @tag skip: @unbuilt
  test "keys of RFC 8410, from one Kryoptic to another" do
    [from, to] = for name <- ~w(kinds-from kinds-to), do: kryoptic(name)

    for {mechanism, curve} <- [
          ec_edwards_key_pair_gen: :ed25519,
          ec_edwards_key_pair_gen: :ed448,
          ec_montgomery_key_pair_gen: :x25519,
          ec_montgomery_key_pair_gen: :x448
        ] do
      use = if curve in [:ed25519, :ed448], do: [sign: true], else: [derive: true]
      template = [curve: curve, label: "#{curve}", private: [extractable: true] ++ use]
      {:ok, {public, private}} = Cryptoki.generate_key_pair(from, mechanism, template)
      public = Cryptoki.public_key!(from, public)
      text = Transfer.export!(from, private, @names)
      moved = Transfer.import!(to, text, @names)
      assert Cryptoki.public_key!(to, moved) == public
      same?(to, moved, curve, public)
    end
  end

  defp same?(hsm, key, curve, public) when curve in [:ed25519, :ed448] do
    # Kryoptic wants a parameter for Ed448.
    mechanism = if curve == :ed448, do: {:eddsa, prehash: false}, else: :eddsa
    signature = Cryptoki.sign!(hsm, key, mechanism, "text")
    assert OpenSSL.valid?(public, signature, :eddsa, "text")
  end

  defp same?(hsm, key, curve, {{:ECPoint, point}, _curve}) do
    {peer, own} = :crypto.generate_key(:ecdh, curve)

    template = [
      class: :secret_key,
      key_type: :generic_secret,
      sensitive: false,
      extractable: true
    ]

    template = template ++ [value_len: byte_size(point)]
    mechanism = {:ecdh1_derive, public: peer, kdf: :null}
    secret = Cryptoki.derive_key!(hsm, key, mechanism, template)

    assert Cryptoki.attributes!(hsm, secret, [:value]).value ==
             :crypto.compute_key(:ecdh, point, own, curve)
  end
end
