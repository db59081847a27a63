defmodule Cryptoki.MixTasksTest do
  # The Mix tasks as programs: what they write where, and their exit status. OpenSSL judges the signatures.
  use ExUnit.Case, async: true

  import ExUnit.CaptureIO
  import Cryptoki.Test.MixTasks, except: [run: 3]

  alias Cryptoki.Test.{FaultyModule, MainToken, MixTasks, SoftHSM, Terminal}

  @model %{softhsm2: "SoftHSM v2", kryoptic: "v1"}[MainToken.name()]
  # The tasks of this family as they are in the folder.
  @tasks for file <- Path.wildcard("lib/mix/tasks/cryptoki.*.ex"),
             do: file |> Path.basename(".ex") |> String.replace_prefix("cryptoki.", "")

  setup_all do
    context = MixTasks.new(~w[payments other])

    {uris, 0, _} =
      mix(context, ["keygen", "pkcs11:token=payments;object=invoice;id=%01", "--type", "ec"])

    Map.put(context, :uris, String.split(uris, "\n", trim: true))
  end

  test "keygen prints URIs that name what it made, and makes no second of a name", context do
    assert [private, public] = context.uris
    assert %{object: "invoice", id: <<1>>, type: :private} = Cryptoki.URI.parse!(private)
    assert %{type: :public} = Cryptoki.URI.parse!(public)

    uri = "pkcs11:token=payments;object=invoice"
    assert {"", 3, said} = mix(context, ["keygen", uri, "-t", "aes"])
    assert said =~ ~r/the token has #Cryptoki.Key<.* ec "invoice" id=01> already/
  end

  test "keygen takes sizes and uses, each where it belongs", context do
    uri = "pkcs11:token=payments;object=backup"

    assert {_, 0, _} =
             mix(context, ["keygen", uri, "-t", "rsa", "-b", "2048", "--for", "decrypt,encrypt"])

    assert {table, 0, _} = mix(context, ["objects", uri])
    assert table =~ ~r/^private +rsa 2048 +backup +decrypt$/m
  end

  test "tokens and objects list, as tables and as URIs", context do
    assert {table, 0, ""} = mix(context, ["tokens"])
    assert table =~ ~r/^\d+ +payments +#{@model} +[0-9a-f]{16} +ready$/m
    assert table =~ "not initialised"

    assert {uri, 0, ""} = mix(context, ["tokens", "pkcs11:token=other", "--uris"])
    assert Cryptoki.URI.parse!(String.trim(uri)).token == "other"
    assert {"", 1, "no token fits\n"} = mix(context, ["tokens", "pkcs11:token=nobody"])

    assert {uris, 0, ""} = mix(context, ["objects", "pkcs11:token=payments;object=invoice", "-u"])
    assert Enum.sort(String.split(uris, "\n", trim: true)) == Enum.sort(context.uris)

    # Which of the two?
    assert {"", 3, said} = mix(context, ["objects"])
    assert said =~ ~r/ payments .* ready.*more than one token fits the URI/s
  end

  test "sign and verify work on bytes of pipes and files", context do
    [private, public] = context.uris
    data = Path.join(context.directory, "large")
    signature = Path.join(context.directory, "signature")
    # More than is given to the token at once, and no text.
    File.write!(data, :crypto.strong_rand_bytes(1_500_000))

    piped = "cat #{data} | #{command()} cryptoki.sign '#{private}' --format der >#{signature}"
    assert {"", 0} = System.cmd("sh", ["-c", piped], options(with_bytes(context)))

    key = Path.join(context.directory, "key.pem")
    File.write!(key, public_pem(context))
    arguments = ~w[dgst -sha256 -verify #{key} -signature #{signature} #{data}]
    assert {"Verified OK\n", 0} = System.cmd("openssl", arguments)

    verify = ["verify", public, "--signature", signature, "--format", "der", "--in"]
    assert {"valid\n", 0, ""} = mix(context, verify ++ [data])
    assert {"", 1, "not valid\n"} = mix(context, verify ++ [Path.expand("mix.exs")])
  end

  test "a mechanism is named with its arguments", context do
    uri = "pkcs11:token=other;object=pss"
    assert {_, 0, _} = mix(context, ["keygen", uri, "-t", "rsa", "-b", "2048"])
    mechanism = "sha256_rsa_pkcs_pss:hash=sha256,mgf=mgf1_sha256,salt_len=32"
    signature = Path.join(context.directory, "pss")
    signing = ["sign", uri, "-i", Path.expand("mix.exs"), "-o", signature, "-m"]

    assert {"", 0, ""} = mix(context, signing ++ [mechanism])
    assert File.stat!(signature).size == 256
  end

  test "csr makes a request that OpenSSL accepts", context do
    file = Path.join(context.directory, "www.csr")
    names = ["--san", "www.acme.test", "--san", "acme.test"]
    arguments = ["--subject", "/C=DE/O=Acme/CN=www.acme.test", "--out", file] ++ names
    assert {"", 0, ""} = mix(context, ["csr", hd(context.uris) | arguments])

    request = ~w[req -in #{file} -verify -noout -text]
    assert {text, 0} = System.cmd("openssl", request, stderr_to_stdout: true)
    assert text =~ "self-signature verify OK" or text =~ "verify OK"
    assert text =~ ~r/Subject: C ?= ?DE, O ?= ?Acme, CN ?= ?www.acme.test/
    assert text =~ "DNS:www.acme.test, DNS:acme.test"
  end

  test "random writes as many bytes as asked for", context do
    assert {bytes, 0, ""} = mix(context, ["random", "100000", "pkcs11:token=payments"])
    assert byte_size(bytes) == 100_000
    assert {hex, 0, ""} = mix(context, ["random", "16", "pkcs11:token=payments", "--hex"])
    assert hex =~ ~r/^[0-9a-f]{32}\n$/
  end

  test "bench says how many calls come through, and what to write for sessions:", context do
    quick = ["--seconds", "1", "--sessions", "3"]

    lines =
      ~r/^callers  calls a second  milliseconds a call\n(?:[- ]+)\n(?:[123] +\d+ +\d+\.\d\d\n){3}sessions: [123]\n$/

    for uri <- [hd(context.uris), "pkcs11:token=payments"] do
      assert {text, 0, ""} = mix(context, ["bench", uri | quick])
      assert text =~ lines
    end

    assert {"", 2, said} = mix(context, ["bench", "pkcs11:token=payments", "--sessions", "0"])
    assert said =~ "--sessions 0 is not one or more"
    assert {"", 3, said} = mix(context, ["bench", "pkcs11:token=payments;object=nobody" | quick])
    assert said =~ "nothing matches the selector"
  end

  test "a PIN comes from a file or a variable, and never from the command line unasked",
       context do
    uri = "pkcs11:token=payments;object=invoice;type=public"
    file = Path.join(context.directory, "pin")
    File.write!(file, SoftHSM.pin() <> "\n")
    bare = with_environment(context, [{"CRYPTOKI_PIN", nil}, {"OTHER_PIN", SoftHSM.pin()}])

    assert {_, 0, ""} = mix(bare, ["objects", uri <> "?pin-source=file:" <> file])
    assert {_, 0, ""} = mix(bare, ["objects", uri, "--pin-env", "OTHER_PIN"])

    value = uri <> "?pin-value=" <> SoftHSM.pin()
    assert {_, 0, ""} = mix(bare, ["objects", value, "--allow-pin-value"])

    assert {"", 3, said} =
             mix(with_environment(context, [{"CRYPTOKI_PIN", "40414243"}]), [
               "objects",
               "pkcs11:token=other"
             ])

    assert said =~ "CKR_PIN_INCORRECT"
  end

  @tag skip: MainToken.lacks(:kryoptic, "its init string is for an instance, not for a task")
  test "a token that wants no login gets the PIN that the command names, and no other", context do
    module = FaultyModule.new(labels: ["no-login"])
    FaultyModule.control(module, "token without=0x4")
    environment = [{"WRONG_PIN", "wrong"}, {"CRYPTOKI_LIBRARY", module.library}]
    context = with_environment(context, environment)
    logins = fn -> FaultyModule.count(module, ~r/^C_Login ran/) end
    uri = "pkcs11:token=no-login"

    assert {"", 1, _no_object} = mix(context, ["objects", uri])
    assert logins.() == 0
    assert {"", 1, _no_object} = mix(context, ["objects", uri, "--pin-env", "CRYPTOKI_PIN"])
    assert logins.() == 1
    assert {"", 3, said} = mix(context, ["objects", uri, "--pin-env", "WRONG_PIN"])
    assert said =~ "the PIN is wrong"
    assert {"", 1, _no_object} = mix(context, ["objects", uri, "--public"])
    assert logins.() == 2
  end

  test "at a terminal a PIN is asked for and not echoed, with data in a pipe too", context do
    bare = with_environment(context, [{"CRYPTOKI_PIN", nil}])
    uri = "pkcs11:token=payments;object=invoice"
    out = Path.join(context.directory, "asked")
    File.write!(Path.join(context.directory, "data"), "data")

    for {input, number} <- Enum.with_index(["<data", "--in data"]) do
      signing = "#{command()} cryptoki.sign '#{uri}' --out #{out}#{number} #{input}"
      command = "#{signing}; echo status $?; stty; cat"
      terminal = Terminal.start(context.directory, command, 100, bare.environment)
      Terminal.await(terminal, ~r/PIN of payments:\z/)
      Terminal.type(terminal, SoftHSM.pin())
      screen = Terminal.await(terminal, ~r/status 0\n.*baud/s)
      refute screen =~ "-echo\n"
      refute Terminal.written(terminal) =~ SoftHSM.pin()
      assert File.stat!("#{out}#{number}").size == 64
    end
  end

  test "at a terminal what takes long says that it goes on, and then no more", context do
    fifo = Path.join(context.directory, "fifo")
    {"", 0} = System.cmd("mkfifo", [fifo])

    command =
      "#{command()} cryptoki.sign 'pkcs11:token=payments;object=invoice' <'#{fifo}' | wc -c; cat"

    terminal = Terminal.start(context.directory, command, 100, context.environment)
    # Waits for the one who reads.
    writer = File.open!(fifo, [:write, :raw])
    Terminal.await(terminal, ~r/^signing: \d+ s\z/m)
    :ok = :file.write(writer, "data")
    File.close(writer)
    assert Terminal.await(terminal, ~r/^64\z/m) == "64"
  end

  test "what is wrong with a command is told before the token is touched" do
    key = "pkcs11:object=k"

    for {command, sentence} <- [
          {["keygen", key, "-t", "aes", "--curve", "secp256r1"], "--curve is not for --type aes"},
          {["keygen", key, "-t", "aes", "--bits", "100"], "--bits 100 is not a multiple of 8"},
          {["keygen", key, "-t", "ec", "--for", "sing"], "--for sing is none of sign, verify"},
          {["keygen", key], "--type is missing"},
          {["sign", "pkcs11:token=payments"], "name a key by a PKCS #11 URI with object= or id="},
          {["sign", "token=payments"], "PKCS #11 URI"},
          {["verify", key, "--signature", "no/such/file"], "no/such/file: no such file"},
          {["keygen", key, "-t", "aes", "--pem"], "--pem and --out are for the public key"},
          {["keygen", key, "-t", "aes", "-a", "extractible=true"], "did you mean :extractable?"},
          {["sign", key, "-m", "aes_cbc:iv"], "iv is not argument=value"},
          {["attributes", key, "modulus", "exponent"], "there is no attribute :exponent"},
          {["attributes", key, "--raw"], "--raw is for one attribute"},
          {["import", key, "--type", "privat"], "--type privat is none of key, cert"},
          {["import", key, "--how", "magic"], "--how magic is none of create, unwrap, auto"},
          {["certificate", key, "--chain", "--der"], "--chain is PEM"},
          {["unwrap", key, "--key", key], "--type is missing"},
          {["wrap", key], "--key is missing"},
          {["wrap", key, "--key", key <> ";token=other"], "an object of the same token"},
          {["pin", key, "--init", "--so"], "leave one of them out"},
          {["init", "--label", String.duplicate("l", 33)], "1 to 32 bytes"},
          {["objects", key, "--pin-env", "A", "--pin-file", "b"], "leave one of them out"},
          {["random", "many"], "many is not a number of bytes"},
          {["tokens", key, key], "there are too many arguments"},
          {["objects", key <> "?pin-value=73914682"],
           "everybody on this machine can read a pin-value"}
        ] do
      [task | arguments] = command
      task = Mix.Task.get!("cryptoki." <> task)
      wrong = fn -> assert catch_exit(task.run(arguments)) == {:shutdown, 2} end
      said = capture_io(:stderr, wrong)
      assert said =~ sentence
      refute said =~ SoftHSM.pin()
    end
  end

  test "what nobody has expected is no answer, and shows no secret" do
    task = Mix.Task.get!("cryptoki.verify")

    for broken <- [
          fn _, _ -> raise SoftHSM.pin() end,
          fn _, _ -> exit({:noproc, SoftHSM.pin()}) end,
          fn _, _ -> throw(SoftHSM.pin()) end,
          fn _, _ -> apply(String, :to_integer, [SoftHSM.pin(), SoftHSM.pin()]) end
        ] do
      run = fn -> assert catch_exit(Mix.Cryptoki.run(task, [], [], broken)) == {:shutdown, 3} end
      said = capture_io(:stderr, run)
      assert said =~ "this should not happen, please report it"
      refute said =~ SoftHSM.pin()
    end
  end

  for task <- @tasks do
    test "mix cryptoki.#{task} says how it is called" do
      task = Mix.Task.get!("cryptoki." <> unquote(task))
      text = capture_io(fn -> task.run(["--help"]) end)
      assert text =~ ~r/\Ausage: mix cryptoki\.#{unquote(task)} /
      assert text =~ "    $ mix cryptoki.#{unquote(task)} "
      assert text =~ "## Exit status"

      wrong = fn -> assert catch_exit(task.run(["--nonsense"])) == {:shutdown, 2} end
      assert capture_io(:stderr, wrong) =~ "usage: mix cryptoki.#{unquote(task)} "
    end
  end

  defp public_pem(context) do
    # By OpenSC, which knows nothing of us.
    {der, 0} =
      System.cmd(
        "pkcs11-tool",
        ~w[--module #{context.library} --token-label payments --read-object --type pubkey --id 01],
        env: context.environment
      )

    {pem, 0} =
      System.cmd("sh", [
        "-c",
        ~s(printf %s "$1" | base64 -d | openssl pkey -pubin -inform DER -pubout),
        "sh",
        Base.encode64(der)
      ])

    pem
  end
end
