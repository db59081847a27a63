defmodule Cryptoki.ImportProofTest do
  # What an import asks of a key to prove that the token has it: what the key may do, and what the token can.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Cryptoki.Error
  alias Cryptoki.Test.{FaultyModule, KeyFiles, MainToken}

  @moduletag :capture_log

  setup_all do
    module = FaultyModule.new()
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 1)})
    rsa = KeyFiles.make("openssl genpkey, RSA").file
    %{faulty: module, hsm: hsm, rsa: rsa, ec: KeyFiles.make("openssl ecparam").file}
  end

  setup %{faulty: module} do
    on_exit(fn -> FaultyModule.control(module, "") end)
    %{label: "proof #{System.unique_integer([:positive])}"}
  end

  describe "a key that may do one thing only is proven by that:" do
    for {kind, mechanism} <- [
          rsa: :rsa_pkcs,
          rsa: :sha1_rsa_pkcs,
          rsa: :sha384_rsa_pkcs,
          rsa: :sha256_rsa_pkcs_pss,
          rsa: :sha512_rsa_pkcs_pss,
          rsa: :rsa_pkcs_pss,
          ec: :ecdsa,
          ec: :ecdsa_sha384
        ] do
      @tag skip:
             (mechanism == :ecdsa_sha384 and
                MainToken.lacks(:softhsm2, "it hashes nothing for ECDSA")) || nil
      test "#{mechanism}", %{faulty: module, hsm: hsm, label: label} = context do
        template = [label: label, allowed_mechanisms: [unquote(mechanism)]]

        {answer, calls} =
          FaultyModule.calls(module, fn ->
            Cryptoki.import_key(hsm, context[unquote(kind)], template)
          end)

        assert {:ok, key} = answer
        assert key.label == label
        assert Enum.count(calls, &match?({"C_SignInit", _ran, _rv}, &1)) == 1
      end
    end

    # Without a word of the key, by what the token has.
    test "what the token has", %{faulty: module, hsm: hsm, label: label, rsa: rsa} do
      for missing <- [0x40, 0x41, 0x43], missing != 0x40 or MainToken.name() == :softhsm2 do
        number = Integer.to_string(missing, 16)
        FaultyModule.control(module, "C_SignInit rv=0x70 mechanism=0x#{number}")
        assert {:ok, _key} = Cryptoki.import_key(hsm, rsa, label: label)
      end

      FaultyModule.control(
        module,
        "C_SignInit rv=0x70 mechanism=0x40\nC_SignInit rv=0x70 mechanism=0x1"
      )

      assert {:ok, _key} = Cryptoki.import_key(hsm, rsa, label: label)
    end
  end

  test "what nothing proves is unsupported, and says why", context do
    %{faulty: module, hsm: hsm, label: label, rsa: rsa} = context
    FaultyModule.control(module, "C_SignInit rv=0x70\nC_DecryptInit rv=0x70")

    for uses <- [[], [decrypt: true], [private: [decrypt: true, sign: false]]] do
      assert {:error, %Error{reason: :unsupported, executed: false} = error} =
               Cryptoki.import_key(hsm, rsa, [label: label] ++ uses)

      assert Exception.message(error) =~ "cannot be proven"
      assert Cryptoki.find!(hsm, label: label) == []
    end

    FaultyModule.control(module, "C_DecryptInit rv=0x30")
    uses = [private: [decrypt: true, sign: false]]
    assert {:error, %Error{reason: :device_error}} = Cryptoki.import_key(hsm, rsa, uses)
  end

  test "what is known from the template to be proven by nothing is not made", context do
    %{faulty: module, hsm: hsm, label: label, rsa: rsa} = context

    for uses <- [[always_authenticate: true], [private: [always_authenticate: true]]] do
      {answer, calls} =
        FaultyModule.calls(module, fn -> Cryptoki.import_key(hsm, rsa, [label: label] ++ uses) end)

      assert {:error, %Error{reason: :unsupported, executed: false} = error} = answer
      assert Exception.message(error) =~ "nothing was made"
      assert calls == []
    end
  end

  describe "names" do
    test "that are in use are told in the log", %{hsm: hsm, label: label, ec: ec} do
      import = fn template ->
        capture_log(fn -> {:ok, _} = Cryptoki.import_key(hsm, ec, [label: label] ++ template) end)
      end

      assert import.(id: <<1>>) == ""
      log = import.(id: <<1>>)

      assert log =~
               "there is a private key with the label #{inspect(label)} and the id of this one"

      assert log |> String.split("[warning]") |> length() == 2
      assert import.(id: <<2>>) == ""
      assert import.([]) =~ "already"
      refute import.([]) =~ Base.encode16(binary_part(ec, 60, 20))
    end

    test "are not asked for where there are none", %{hsm: hsm, ec: ec} do
      for _twice <- 1..2,
          do: assert(capture_log(fn -> {:ok, _} = Cryptoki.import_key(hsm, ec, []) end) == "")
    end
  end

  describe "time" do
    test "is that of the file as well: nothing is made when it is over", context do
      %{faulty: module, hsm: hsm, label: label, rsa: rsa} = context
      commands = "openssl pkcs8 -topk8 -in $IN -passout pass:geheim -iter 1500000 -out $OUT"
      file = KeyFiles.changed(rsa, commands)

      {answer, calls} =
        FaultyModule.calls(module, fn ->
          Cryptoki.import_key(hsm, file, [label: label], password: "geheim", timeout: 1)
        end)

      assert {:error, %Error{reason: :timeout, executed: false} = error} = answer
      assert Exception.message(error) =~ "file"
      assert calls == []
    end

    test "is not spent on a file that asks for too much", %{hsm: hsm, rsa: rsa} do
      commands = "openssl pkcs8 -topk8 -in $IN -passout pass:geheim -iter 2000001 -out $OUT"
      file = KeyFiles.changed(rsa, commands)
      answer = Cryptoki.import_key(hsm, file, [], password: "geheim")
      assert {:error, %Error{reason: :unsupported} = error} = answer
      assert Exception.message(error) =~ "2000000"
      assert Exception.message(error) =~ "openssl pkcs8 -topk8"
    end
  end
end
