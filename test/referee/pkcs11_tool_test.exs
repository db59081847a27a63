defmodule Cryptoki.Referee.Pkcs11ToolTest do
  # Not async: a token of Kryoptic is one database file, and another process that writes to it makes
  # calls beside it fail (CKR_DEVICE_MEMORY).
  use Cryptoki.Test.Referee, async: false

  # Keys that OpenSC's pkcs11-tool makes are usable here, and those made here with pkcs11-tool.

  alias Cryptoki.Test.{Scratch, SoftHSM}

  setup do
    directory = Scratch.directory("tool")
    on_exit(fn -> File.rm_rf!(directory) end)
    unique = System.unique_integer([:positive])
    id = Base.encode16(<<unique::64>>, case: :lower)
    %{at: &Path.join(directory, &1), label: "tool #{unique}", id: id}
  end

  on_each_token do
    for {type, sign, hash} <- [
          {"EC:secp256r1", :ecdsa_sha256, :sha256},
          {"EC:secp384r1", :ecdsa_sha384, :sha384},
          {"rsa:2048", :sha256_rsa_pkcs, :sha256}
        ] do
      check "a key pair of pkcs11-tool, #{type}", [], %{hsm: hsm, label: label, id: id, at: at} do
        tool!(@token, ~w(--keypairgen --key-type #{unquote(type)} --id #{id} --label) ++ [label])
        assert {:ok, private} = Cryptoki.find_one(hsm, class: :private_key, label: label)
        assert {private.id, private.token} == {hex(id), true}

        public_key = Cryptoki.public_key!(hsm, private)

        # pkcs11-tool 0.23 exports P-256 only.
        if unquote(type) != "EC:secp384r1" do
          der = at.("public.der")
          tool!(@token, ~w(--read-object --type pubkey -o #{der} --label) ++ [label])
          assert OpenSSL.pem(public_key) == pem(File.read!(der))
        end

        format = if unquote(sign) == :sha256_rsa_pkcs, do: [], else: [format: :der]
        signature = Cryptoki.sign!(hsm, private, unquote(sign), "data", format)
        assert :public_key.verify("data", unquote(hash), signature, public_key)
        selector = "pkcs11:object=#{URI.encode(label)}"
        assert Cryptoki.valid?(hsm, selector, unquote(sign), "data", signature, format)
        clean_up(hsm, label)
      end
    end

    check "a secret key of pkcs11-tool", [aes_cbc_pad: :encrypt], %{hsm: hsm, label: label} do
      tool!(@token, ~w(--keygen --key-type AES:32 --label) ++ [label])
      key = Cryptoki.find_one!(hsm, class: :secret_key, label: label)

      assert %{value_len: 32, key_type: :aes} =
               Cryptoki.attributes!(hsm, key, [:value_len, :key_type])

      mechanism = {:aes_cbc_pad, iv: bytes(16)}
      ciphertext = Cryptoki.encrypt!(hsm, [label: label], mechanism, "text")
      assert Cryptoki.decrypt!(hsm, [label: label], mechanism, ciphertext) == "text"
      clean_up(hsm, label)
    end

    check "a data object of pkcs11-tool", [], %{hsm: hsm, label: label, at: at} do
      File.write!(at.("data"), data = bytes(1000))
      tool!(@token, ~w(--write-object #{at.("data")} --type data --label) ++ [label])
      object = Cryptoki.find_one!(hsm, class: :data, label: label)
      assert value(hsm, object) == data
      assert Cryptoki.destroy(hsm, object) == :ok
      refute tool!(@token, ["--list-objects"]) =~ label
    end

    for {generate, parameters, sign, tool_mechanism, hash} <- [
          {:ec_key_pair_gen, [curve: :secp256r1], :ecdsa_sha256, "ECDSA", :sha256},
          {:rsa_pkcs_key_pair_gen, [modulus_bits: 2048], :sha256_rsa_pkcs, "SHA256-RSA-PKCS",
           :sha256}
        ] do
      check "a key pair of ours, #{tool_mechanism}",
            [generate],
            %{hsm: hsm, label: label, id: id, at: at} do
        template = [label: label, id: hex(id), token: true] ++ unquote(parameters)
        {public, private} = Cryptoki.generate_key_pair!(hsm, unquote(generate), template)
        public_key = Cryptoki.public_key!(hsm, public)

        list = tool!(@token, ["--list-objects"])
        assert list =~ label
        # Newer ones write it with colons.
        assert String.replace(list, ":", "") =~ id

        data = "data"

        input =
          if unquote(tool_mechanism) == "ECDSA", do: :crypto.hash(unquote(hash), data), else: data

        File.write!(at.("input"), input)

        tool!(
          @token,
          ~w(--sign --id #{id} --mechanism #{unquote(tool_mechanism)} -i #{at.("input")}) ++
            ~w(-o #{at.("signature")} --label) ++ [label]
        )

        signature = File.read!(at.("signature"))
        assert Cryptoki.verify(hsm, public, unquote(sign), data, signature) == :ok

        der =
          if unquote(tool_mechanism) == "ECDSA", do: OpenSSL.ecdsa_der(signature), else: signature

        assert :public_key.verify(data, unquote(hash), der, public_key)

        File.write!(at.("signature"), Cryptoki.sign!(hsm, private, unquote(sign), data))

        assert tool!(
                 @token,
                 ~w(--verify --id #{id} --mechanism #{unquote(tool_mechanism)} -i #{at.("input")}) ++
                   ~w(--signature-file #{at.("signature")} --label) ++ [label]
               ) =~ "Signature is valid"

        clean_up(hsm, label)
      end
    end
  end

  defp clean_up(hsm, label) do
    for key <- Cryptoki.find!(hsm, label: label), do: :ok = Cryptoki.destroy(hsm, key)
  end

  defp tool!(token, arguments) do
    common =
      ~w(--module #{token.library} --token-label #{token.label} --login --pin #{SoftHSM.pin()})

    options = [env: token.environment, stderr_to_stdout: true]

    case System.cmd("pkcs11-tool", common ++ arguments, options) do
      {text, 0} -> text
      {text, status} -> flunk("pkcs11-tool #{hd(arguments)} ended with #{status}: #{text}")
    end
  end

  defp pem(der) do
    :public_key.pem_encode([{:SubjectPublicKeyInfo, der, :not_encrypted}])
  end
end
