defmodule Cryptoki.MixTasks.AdministrationTest do
  # Tokens made and their PINs set by the Mix tasks, and what tokens can do. OpenSC's pkcs11-tool judges.
  use ExUnit.Case, async: true

  import Cryptoki.Test.MixTasks, except: [run: 3]

  alias Cryptoki.Test.{MixTasks, SoftHSM, Terminal}

  setup do
    with_environment(MixTasks.new(~w[payments]), [{"CRYPTOKI_SO_PIN", SoftHSM.so_pin()}])
  end

  test "init makes a token of a free slot, with both PINs, and of no other unasked", context do
    assert {uri, 0, ""} = mix(context, ["init", "--label", "archive"])
    uri = String.trim(uri)
    assert Cryptoki.URI.parse!(uri).token == "archive"
    assert {_, 0} = logs_in(context, "archive", SoftHSM.pin())
    assert {_, 0, ""} = mix(context, ["keygen", uri <> ";object=k;id=%01", "-t", "aes"])

    # What is on it is not lost by mistake.
    again = ["init", uri, "--label", "again"]
    assert {"", 2, said} = mix(context, again)
    assert said =~ ~s(Destroy everything on the token "archive" for ever? Nobody is there)
    wrong = with_environment(context, [{"CRYPTOKI_SO_PIN", "so-40414243"}])
    assert {"", 3, said} = mix(wrong, again ++ ["--yes"])
    assert said =~ "the PIN is wrong"
    assert {_, 0, ""} = mix(context, ["objects", uri])

    assert {uri, 0, ""} = mix(context, again ++ ["--yes"])

    assert {"", 1, "no object fits\n"} =
             mix(context, ["objects", String.trim(uri) <> ";type=secret-key"])
  end

  test "init takes no label that another token has", context do
    assert {"", 3, said} = mix(context, ["init", "--label", "payments"])
    assert said =~ ~s(there is a token "payments" already)
    assert {tokens, 0, ""} = mix(context, ["tokens"])
    assert length(Regex.scan(~r/payments/, tokens)) == 1
  end

  test "a token without a PIN of its user is not asked for one, and gets one", context do
    assert {_, 0, ""} = mix(context, ["init", "--label", "bare", "--no-pin"])
    bare = with_environment(context, [{"CRYPTOKI_PIN", nil}, {"CRYPTOKI_NEW_PIN", "11112222"}])
    assert {table, 0, ""} = mix(bare, ["tokens", "pkcs11:token=bare"])
    assert table =~ "no user PIN"

    assert {"", 1, "no object fits\n"} =
             mix(bare, ["objects", "pkcs11:token=bare;type=secret-key"])

    assert {"", 3, said} = mix(bare, ["pin", "pkcs11:token=bare"])
    assert said =~ "no user PIN yet; the security officer has to set one first (say --init)"
    assert {"", 0, ""} = mix(bare, ["pin", "pkcs11:token=bare", "--init"])
    assert {_, 0} = logs_in(context, "bare", "11112222")
  end

  test "pin changes the PIN of the user and of the security officer", context do
    token = "pkcs11:token=payments"
    old = file(context, "old", SoftHSM.pin() <> "\n")
    new = with_environment(context, [{"CRYPTOKI_PIN", nil}, {"CRYPTOKI_NEW_PIN", "11112222"}])
    assert {"", 0, ""} = mix(new, ["pin", token, "--pin-file", old])
    assert {_, 0} = logs_in(context, "payments", "11112222")
    assert {said, 1} = logs_in(context, "payments", SoftHSM.pin())
    assert said =~ "CKR_PIN_INCORRECT"

    officer = with_environment(context, [{"CRYPTOKI_NEW_PIN", "so-11112222"}])
    assert {"", 0, ""} = mix(officer, ["pin", token, "--so"])
    back = ["pin", token, "--init", "--new-pin-file", old]
    assert {"", 3, said} = mix(context, back)
    assert said =~ "the PIN is wrong"
    officer = with_environment(context, [{"CRYPTOKI_SO_PIN", "so-11112222"}])
    assert {"", 0, ""} = mix(officer, back)
    assert {_, 0} = logs_in(context, "payments", SoftHSM.pin())
  end

  test "at a terminal a new PIN is typed twice, and seen by nobody", context do
    nothing = [{"CRYPTOKI_PIN", nil}, {"CRYPTOKI_SO_PIN", nil}]
    line = "#{command()} cryptoki.pin pkcs11:token=payments; echo status $?; cat"

    start = fn ->
      environment = with_environment(context, nothing).environment
      Terminal.start(context.directory, line, 100, environment)
    end

    answer = fn terminal, again ->
      for {question, typed} <- [
            {"PIN of payments", SoftHSM.pin()},
            {"new PIN", "11112222"},
            {"new PIN, again", again}
          ] do
        Terminal.await(terminal, ~r/^#{question}:\z/m)
        Terminal.type(terminal, typed)
      end

      screen = Terminal.await(terminal, ~r/^status \d\z/m)
      refute Terminal.written(terminal) =~ ~r/#{SoftHSM.pin()}|1111222/
      screen
    end

    assert answer.(start.(), "11112223") =~ "it was not the same twice; nothing has been changed"
    assert {_, 0} = logs_in(context, "payments", SoftHSM.pin())
    assert answer.(start.(), "11112222") =~ "status 0"
    assert {_, 0} = logs_in(context, "payments", "11112222")
  end

  test "mechanisms lists what a token can do, in a table and by name", context do
    token = "pkcs11:token=payments"
    assert {table, 0, ""} = mix(context, ["mechanisms", token])
    assert table =~ ~r/^mechanism +for +min +max$/m
    assert table =~ ~r/^aes_gcm .*\bencrypt decrypt/m

    assert {names, 0, ""} =
             mix(context, ["mechanisms", token, "--for", "generate_key_pair", "-n"])

    assert "ec_key_pair_gen" in String.split(names, "\n")
    refute names =~ "aes_"

    # As many as another program counts.
    assert {all, 0, ""} = mix(context, ["mechanisms", token, "-n"])
    assert {listed, 0} = pkcs11_tool(context, "payments", ["--list-mechanisms"])
    assert length(String.split(all, "\n", trim: true)) == length(Regex.scan(~r/^  \S/m, listed))

    assert {"aes_gcm\n", 0, ""} = mix(context, ["mechanisms", token, "-m", "AES-GCM", "-n"])

    assert {"", 1, "no mechanism fits\n"} =
             mix(context, ["mechanisms", token, "-m", "camellia_cbc"])
  end

  defp logs_in(context, label, pin),
    do: pkcs11_tool(context, label, ["--login", "--pin", pin, "--list-objects"])
end
