defmodule Cryptoki.AlwaysAuthenticateTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  # Keys with CKA_ALWAYS_AUTHENTICATE want a login for each use (PKCS #11 v3.2, section 5.6.8).

  alias Cryptoki.{Error, Operation}
  alias Cryptoki.Test.{SoftHSM, Token}

  for token <- Token.all() do
    describe token.title do
      @describetag on: token

      setup %{on: token} do
        hsm = start_supervised!({Cryptoki, Token.options(token, sessions: 2)})
        template = [modulus_bits: 2048, always_authenticate: true, sign: true, decrypt: true]
        template = template ++ [verify: true, encrypt: true, token: true]
        id = <<System.unique_integer([:positive])::64>>
        template = [label: "always", id: id] ++ template
        {public, private} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, template)
        %{hsm: hsm, public: public, private: private, key: Cryptoki.public_key!(hsm, public)}
      end

      test "are used with the instance's PIN, each time", %{hsm: hsm, private: private, key: key} do
        for n <- 1..3 do
          signature = Cryptoki.sign!(hsm, private, :sha256_rsa_pkcs, "text #{n}")
          assert :public_key.verify("text #{n}", :sha256, signature, key)
          ciphertext = :public_key.encrypt_public("secret", key)
          assert Cryptoki.decrypt!(hsm, private, :rsa_pkcs, ciphertext) == "secret"
        end

        stream = {:stream, ["some ", "text"]}
        signature = Cryptoki.sign!(hsm, private, :sha256_rsa_pkcs, stream)
        assert :public_key.verify("some text", :sha256, signature, key)

        Cryptoki.with_session(hsm, fn session ->
          op = Cryptoki.start!(session, :sign, private, :sha256_rsa_pkcs)
          :ok = Operation.update(op, "some text")
          assert {:ok, ^signature} = Operation.finish(op)
        end)
      end

      test "are used with the PIN of the call", %{hsm: hsm, private: private, key: key} do
        pin = &SoftHSM.pin/0
        signature = Cryptoki.sign!(hsm, private, :sha256_rsa_pkcs, "text", pin: pin)
        assert :public_key.verify("text", :sha256, signature, key)

        assert {:error, %Error{reason: :pin_incorrect}} =
                 Cryptoki.sign(hsm, private, :sha256_rsa_pkcs, "text", pin: "wrong PIN")

        # That one was the call's; the instance's is still good.
        assert {:ok, _} = Cryptoki.sign(hsm, private, :sha256_rsa_pkcs, "text")
      end

      test "a PIN of the instance that the token refuses is not tried again", context do
        %{on: token, private: private} = context
        pin = start_supervised!({Agent, fn -> SoftHSM.pin() end}, id: :pin)
        options = Token.options(token, pin: fn -> Agent.get(pin, & &1) end, sessions: 1)
        hsm = start_supervised!({Cryptoki, options}, id: :another)
        {:ok, _} = Cryptoki.sign(hsm, private, :sha256_rsa_pkcs, "text")
        wrong = "wrong #{System.unique_integer([:positive])}"
        Agent.update(pin, fn _ -> wrong end)

        assert {:error, %Error{reason: :pin_incorrect, function: :C_Login}} =
                 Cryptoki.sign(hsm, private, :sha256_rsa_pkcs, "text")

        assert {:error, %Error{reason: :pin_incorrect, function: nil, executed: false} = error} =
                 Cryptoki.sign(hsm, private, :sha256_rsa_pkcs, "text")

        assert error.detail =~ "not tried again"
        refute inspect(error) =~ wrong
        Agent.update(pin, fn _ -> SoftHSM.pin() end)
        assert {:ok, _} = Cryptoki.sign(hsm, private, :sha256_rsa_pkcs, "text")
      end

      test "the attribute is read once for a key", %{hsm: hsm, private: private} do
        {:ok, _} = Cryptoki.sign(hsm, private, :sha256_rsa_pkcs, "text")
        {:ok, target} = Cryptoki.HSM.target(hsm)
        key = {:traits, private.handle}
        assert {:ok, %{always_authenticate: true}} = Cryptoki.Cache.get(target.cache, key)
      end
    end
  end
end
