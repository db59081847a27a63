defmodule Cryptoki.MixTasks.DoctorTest do
  # What keeps people from their token, made as it happens to them, and what they are told to type: on SoftHSM, in
  # front of it on the library that fails on command, and as a user who is not root.
  use ExUnit.Case, async: true

  import Cryptoki.Test.MixTasks

  alias Cryptoki.Test.{FaultyModule, MixTasks, Nobody, SoftHSM}

  @token "pkcs11:token=payments"

  # Whom we are not, where we may choose.
  @root? Nobody.root?()
  @as_nobody Enum.map_join(Nobody.words(), &(&1 <> " "))

  setup do
    MixTasks.softhsm(~w[payments])
  end

  test "nothing is in the way, and nothing has been tried" do
    context = MixTasks.new(~w[payments])
    assert {text, 0, ""} = mix(context, ["doctor", @token, "--for", "aes_gcm,ecdsa_sha256"])

    assert text =~
             ~r/^ok       \S+ is a PKCS #11 library with \d+ slots?, \d+ of them with a token$/m

    assert text =~ ~r/^ok       the token "payments" is in slot \d+/m
    assert text =~ "ok       the PIN comes from CRYPTOKI_PIN, and was not tried\n"
    assert text =~ "ok       the token has aes_gcm\n"
    assert text =~ ~r/^ok       the token has (no ecdsa_sha256, and has ecdsa|ecdsa_sha256)/m

    key = @token <> ";object=invoice;id=%01"
    assert {_, 0, ""} = mix(context, ["keygen", key, "-t", "aes"])
    assert {text, 0, ""} = mix(context, ["doctor", key, "--login"])
    assert text =~ ~s(the login works, and the URI fits #Cryptoki.Key<secret aes "invoice" id=01>)

    assert {text, 1, "one thing is in the way\n"} =
             mix(context, ["doctor", key <> "%01", "--login"])

    assert text =~
             "wrong    the login works, and no object fits the URI\n         $ mix cryptoki.objects #{@token}\n"
  end

  test "the library: not named, not there, no library, for another machine, no PKCS #11",
       context do
    libm = loaded("libm")
    softhsm = File.read!(context.library)
    <<before::binary-size(18), _machine::16, rest::binary>> = softhsm
    other = if before <> <<183, 0>> <> rest == softhsm, do: 62, else: 183
    <<ident::binary-size(4), _class, after_class::binary>> = softhsm

    for {library, sentence} <- [
          {"", "no PKCS #11 library is named"},
          {"/nonexistent.so", "there is no file /nonexistent.so"},
          {context.directory, "is a directory, and no library"},
          {file(context, "empty.so", ""), "empty.so is empty"},
          {Path.expand("mix.exs"), "mix.exs is no shared library: it is text"},
          {file(context, "arm.so", [before, other, 0, rest]),
           ~r/arm.so is for \S+, and this VM runs on \S+$/m},
          {file(context, "32.so", [ident, 1, after_class]),
           "32.so is a library of 32 bits, and this VM has 64"},
          {file(context, "cut.so", binary_part(softhsm, 0, 5000)),
           "cut.so is cut off: it has 5000 bytes of "},
          {libm, "#{libm} is a shared library but no PKCS #11 module"}
        ] do
      context = with_environment(context, [{"CRYPTOKI_LIBRARY", library}])
      assert {text, 1, "one thing is in the way\n"} = mix(context, ["doctor"])
      assert text =~ ~r/\Awrong    /
      assert text =~ sentence

      assert text =~ ~r/^         \$ export CRYPTOKI_LIBRARY=\S*softhsm/m
    end

    assert {text, 1, _} = mix(context, ["doctor", "--library", "/nonexistent.so"])
    assert text =~ "there is no file /nonexistent.so"
    assert {text, 1, _} = mix(context, ["doctor", "pkcs11:?module-name=nonsense"])
    assert text =~ ~s(no "nonsense" in /usr)
  end

  test "a library that gives no functions, or no slot", context do
    for {load, sentence} <- [
          {"no_list;interface=fail", "C_GetFunctionList answered"},
          {"list=null;interface=fail", "gave no usable function list"}
        ] do
      module = FaultyModule.new(token: :softhsm2, labels: ["payments"], load: load)
      assert {text, 1, _} = mix(on(context, module), ["doctor"])
      assert text =~ ~r/^wrong .*#{sentence}/m
    end

    module = FaultyModule.new(token: :softhsm2, labels: ["payments"])
    FaultyModule.control(module, "lie C_GetSlotList count=0")
    assert {text, 1, _} = mix(on(context, module), ["doctor"])
    assert text =~ "works, and sees no reader and no token\n         $ systemctl status pcscd"
  end

  test "SoftHSM's configuration: not there, or of tokens that are not there", context do
    missing = with_environment(context, [{"SOFTHSM2_CONF", "/nonexistent.conf"}])
    assert {text, 1, "one thing is in the way\n"} = mix(missing, ["doctor"])

    assert text =~
             "wrong    SoftHSM's configuration /nonexistent.conf, which SOFTHSM2_CONF names: no such file"

    assert text =~ "         $ unset SOFTHSM2_CONF\n"

    configuration = file(context, "moved.conf", "directories.tokendir = /nonexistent/tokens\n")
    moved = with_environment(context, [{"SOFTHSM2_CONF", configuration}])
    assert {text, 1, "one thing is in the way\n"} = mix(moved, ["doctor"])

    assert text =~
             "directory of tokens /nonexistent/tokens is not there\n         $ mkdir -p /nonexistent/tokens\n"
  end

  test "the token: none initialised, another name, one name twice", context do
    empty = MixTasks.softhsm([])
    assert {text, 1, _} = mix(empty, ["doctor", "pkcs11:token=archive"])

    assert text =~
             "wrong    no token is initialised\n         $ mix cryptoki.init --label archive\n"

    assert {text, 1, _} = mix(context, ["doctor", "pkcs11:token=Payments"])

    assert text =~
             ~r/^wrong    no initialised token fits pkcs11:token=Payments; those that are there:$/m

    assert [_, said] =
             Regex.run(~r/^ +\$ mix cryptoki\.doctor '(pkcs11:token=payments;.*)'$/m, text)

    assert {_, 0, _} = mix(context, ["doctor", said])

    twice = MixTasks.softhsm(~w[payments payments])
    assert {text, 1, _} = mix(twice, ["doctor", @token])
    assert text =~ "wrong    2 tokens fit pkcs11:token=payments"

    for [_, said] <- Regex.scan(~r/mix cryptoki\.doctor '(.*)'/, text),
        do: assert({_, 0, _} = mix(twice, ["doctor", said]))

    assert {text, 0, ""} = mix(twice, ["doctor"])
    assert text =~ "careful  2 tokens are there: which one?\n"
  end

  test "a token without a PIN of its user, and what is said to type about it", context do
    officer =
      with_environment(context, [
        {"CRYPTOKI_SO_PIN", SoftHSM.so_pin()},
        {"CRYPTOKI_NEW_PIN", SoftHSM.pin()}
      ])

    assert {uri, 0, ""} = mix(officer, ["init", "--label", "bare", "--no-pin"])
    assert {text, 1, _} = mix(context, ["doctor", String.trim(uri), "--login"])
    assert text =~ "wrong    the token has no PIN of its user yet\n"
    refute text =~ "the login works"
    assert [_, typed] = Regex.run(~r/^ +\$ (mix cryptoki\.pin .* --init)$/m, text)
    assert {"", 0} = shell(officer, String.replace_prefix(typed, "mix", command()))
    assert {_, 0, _} = mix(context, ["doctor", String.trim(uri), "--login"])
  end

  # The token's own flags, by their numbers (section 5.5.3).
  for {flag, level, sentence} <- [
        {0x10000, "careful", "the last PIN of the user that the token was given was wrong"},
        {0x20000, "careful", "one try of the user's PIN is left"},
        {0x40000, "wrong", "the PIN of the user is locked"},
        {0x80000, "careful", "the PIN of the user has to be changed"},
        {0x400000, "careful", "the PIN of the security officer is locked"},
        {0x2, "careful", "the token is write-protected"},
        {0x1000000, "wrong", "the token is in a state of error"}
      ] do
    test "the token says of itself: #{sentence}", context do
      module = FaultyModule.new(token: :softhsm2, labels: ["payments"])
      FaultyModule.control(module, "token flags=#{unquote(flag)}")
      assert {text, status, _} = mix(on(context, module), ["doctor", @token])
      assert text =~ ~r/^#{unquote(level)} +#{unquote(sentence)}/m
      assert status == if(unquote(level) == "wrong", do: 1, else: 0)
      assert FaultyModule.count(module, ~r/^C_Login/) == 0
    end
  end

  test "a PIN is tried with --login only, once, and not as the last try", context do
    module = FaultyModule.new(token: :softhsm2, labels: ["payments"])
    tries = fn -> FaultyModule.count(module, ~r/^C_Login ran/) end
    wrong = with_environment(on(context, module), [{"CRYPTOKI_PIN", "40414243"}])

    assert {_, 0, ""} = mix(wrong, ["doctor", @token])
    assert tries.() == 0
    assert {text, 1, _} = mix(wrong, ["doctor", @token, "--login"])
    assert text =~ "wrong    C_Login answered CKR_PIN_INCORRECT"
    assert tries.() == 1
    refute text =~ "40414243"

    for {flags, text} <- [
          {0x20000, "the PIN was not tried: it is the last try"},
          {0x40000, "locked"}
        ] do
      FaultyModule.control(module, "token flags=#{flags}")
      assert {said, 1, _} = mix(wrong, ["doctor", @token, "--login"])
      assert said =~ text
      assert tries.() == 1
    end
  end

  test "where the PIN comes from: nowhere, a file, a variable, and whether it can be one",
       context do
    pin = file(context, "pin", SoftHSM.pin())
    File.chmod!(pin, 0o600)
    readable = file(context, "readable", SoftHSM.pin())
    File.chmod!(readable, 0o644)

    bare =
      with_environment(context, [
        {"CRYPTOKI_PIN", nil},
        {"BLANK", SoftHSM.pin() <> "\n"},
        {"SHORT", "1"}
      ])

    for {source, level, sentence} <- [
          {[], "careful", "no PIN is named: tasks and iex ask for it, an instance wants pin:"},
          {["--pin-file", pin], "ok", "the PIN comes from #{pin}, and was not tried"},
          {["--pin-file", readable], "careful",
           "everybody on this machine can read #{readable} (mode 644)"},
          {["--pin-file", "/nonexistent"], "wrong", "/nonexistent: no such file or directory"},
          {["--pin-env", "MISSING"], "wrong", "the environment variable MISSING is not set"},
          {["--pin-env", "BLANK"], "wrong", "begins or ends with a blank, or a line end"},
          {["--pin-env", "SHORT"], "wrong", "shorter than the 4 bytes that the token takes"}
        ] do
      assert {text, status, _} = mix(bare, ["doctor", @token | source])
      assert [line] = Regex.run(~r/^#{level} .*#{Regex.escape(sentence)}.*$/m, text)
      refute line =~ SoftHSM.pin()
      assert status == if(level == "wrong", do: 1, else: 0)
    end
  end

  test "mechanisms that the token lacks, and those that it has near them", context do
    assert {text, 1, "one thing is in the way\n"} =
             mix(context, ["doctor", @token, "--for", "aes_ccm"])

    assert text =~
             ~r/^wrong    the token has no aes_ccm; it has .*aes_cmac.*\n +\$ mix cryptoki.mechanisms 'pkcs11:token=payments/m

    assert {"", 2, said} = mix(context, ["doctor", @token, "--for", "aes_gmc"])
    assert said =~ "--for aes_gmc: there is no such mechanism; did you mean"
  end

  describe "a user who is not root" do
    @describetag skip: Nobody.missing()

    setup context do
      home = Nobody.home()
      environment = [{"HOME", home}, {"SOFTHSM2_CONF", nil}]
      Map.merge(with_environment(context, environment), %{home: home})
    end

    @tag skip:
           if(File.stat("/etc/softhsm") == {:error, :enoent},
             do: "Debian's configuration of SoftHSM is not here"
           )
    test "may not read the configuration, and types what is said", context do
      assert {text, 1, "one thing is in the way\n"} = as_nobody(context, "doctor")

      assert text =~
               ~r/^wrong    SoftHSM's configuration \/etc\/softhsm\/softhsm2.conf cannot be read by \S+: \/etc\/softhsm belongs to root:softhsm with mode 750$/m

      assert text =~ ~r/^ +\$ sudo usermod -aG softhsm \S+    # then log in again$/m

      typed = for [_, line] <- Regex.scan(~r/^ +\$ (mkdir .*|echo .*)$/m, text), do: line
      assert length(typed) == 2
      for line <- typed, do: {_, 0} = shell(context, @as_nobody <> "sh -c \"$1\"", [line])

      assert {text, 1, "one thing is in the way\n"} =
               as_nobody(context, "doctor pkcs11:token=own")

      assert text =~
               "ok       SoftHSM is configured by #{context.home}/.config/softhsm2/softhsm2.conf\n"

      assert text =~ "$ mix cryptoki.init --label own\n"
      own = with_environment(context, [{"CRYPTOKI_SO_PIN", SoftHSM.so_pin()}])
      assert {_, 0, ""} = as_nobody(own, "init --label own")
      assert {_, 0, ""} = as_nobody(context, "doctor pkcs11:token=own --login")
    end

    @tag skip: not @root? and "only root can take a directory away from this user"
    test "may not read or write where the tokens are", context do
      configuration = Path.join(context.directory, "tokens.conf")
      context = with_environment(context, [{"SOFTHSM2_CONF", configuration}])
      tokens = Path.join(context.directory, "tokens")
      File.chmod!(tokens, 0o750)
      softhsm = group("softhsm")
      File.chgrp!(tokens, softhsm || 0)
      assert {text, 1, "one thing is in the way\n"} = as_nobody(context, "doctor")
      name = if softhsm, do: "softhsm", else: "root"

      assert text =~
               ~r/directory of tokens #{tokens} cannot be read by \S+: it belongs to root:#{name} with mode 750$/m

      assert text =~ "usermod -aG softhsm" or softhsm == nil

      File.chmod!(tokens, 0o755)
      assert {text, 1, _} = as_nobody(context, "doctor")
      assert text =~ ~r/directory of tokens #{tokens} cannot be written by/
      assert text =~ ~r/the token in #{tokens}\/\S+ cannot be read by/
    end

    # Nobody's own configuration, and all in one VM; what is read is what comes out.
    test "meets one cause after the other", context do
      tokens = Path.join(context.home, "tokens")
      configuration = Path.join(context.home, "softhsm2.conf")
      File.write!(configuration, "directories.tokendir = #{tokens}\n")
      {_, 0} = shell(context, @as_nobody <> "mkdir '#{tokens}'")
      closed = file(context, "closed.pin", SoftHSM.pin())
      File.chmod!(closed, 0)
      own = ["pkcs11:token=own"]
      so_pin = ["--so-pin-env", "SO"]

      steps = [
        {"doctor", [], 1, "wrong    no token is initialised"},
        {"init", ["--label", "own", "--pin-env", "P"] ++ so_pin, 0, "token=own"},
        {"doctor", own, 0, "careful  no PIN is named"},
        {"doctor", own ++ ["--pin-file", closed], 1, "#{closed}: permission denied"},
        {"doctor", own ++ ["--pin-env", "P", "--login"], 0, "ok       the login works"},
        {"doctor", own ++ ["--for", "aes_ccm"], 1, "wrong    the token has no aes_ccm"},
        {"init", ["--label", "own", "--pin-env", "P", "--yes"] ++ so_pin, 0, "token=own"},
        {"doctor", own, 1, "wrong    2 tokens fit pkcs11:token=own"},
        {"init", ["--label", "bare", "--no-pin"] ++ so_pin, 0, "token=bare"},
        {"doctor", ["pkcs11:token=bare"], 1, "wrong    the token has no PIN of its user yet"},
        {"doctor", ["-l", "/nonexistent.so"], 1, "wrong    there is no file /nonexistent.so"}
      ]

      lines =
        for {task, arguments, _, _} <- steps, do: :io_lib.format("~p.~n", [{task, arguments}])

      place = &Path.join(context.home, &1)
      File.write!(place.("lines"), lines)
      File.cp!("test/support/statuses.exs", place.("statuses.exs"))
      more = [{"P", SoftHSM.pin()}, {"SO", SoftHSM.so_pin()}, {"CRYPTOKI_PIN", nil}]
      environment = [{"SOFTHSM2_CONF", configuration} | more]

      line =
        "#{@as_nobody}elixir -pa '#{place.("cryptoki/ebin")}' '#{place.("statuses.exs")}' " <>
          "'#{place.("lines")}' '#{place.("out")}' 2>/dev/null </dev/null"

      {text, 0} = shell(with_environment(context, environment), line)
      statuses = "out" |> place.() |> File.read!() |> :erlang.binary_to_term()
      assert statuses == for({_, _, status, _} <- steps, do: status)
      # In this order.
      said = for {_, _, _, said} <- steps, do: Regex.escape(said)
      assert text =~ Regex.compile!(Enum.join(said, ".*"), "s")
    end

    test "may not read the library", context do
      library = file(context, "closed.so", "closed")
      File.chmod!(library, 0)
      assert {text, 1, _} = as_nobody(context, "doctor --library #{library}")

      assert text =~
               ~r/^wrong    the library #{library} cannot be read by \S+: it belongs to \S+ with mode 0$/m
    end

    defp as_nobody(context, line) do
      errors = Path.join(context.home, "stderr")
      ebin = Path.join(context.home, "cryptoki/ebin")
      line = "#{@as_nobody}#{command(ebin)} cryptoki.#{line} 2>'#{errors}' </dev/null"
      {output, status} = shell(context, line)
      {output, status, File.read!(errors)}
    end
  end

  defp on(context, module), do: with_environment(context, [{"CRYPTOKI_LIBRARY", module.library}])

  # A library that this VM has loaded.
  defp loaded(name) do
    [_, path] = Regex.run(~r"(/\S*/#{name}[.-]\S*)", File.read!("/proc/self/maps"))
    path
  end

  defp group(name) do
    case Regex.run(~r/^#{name}:[^:]*:(\d+):/m, File.read!("/etc/group")) do
      [_, id] -> String.to_integer(id)
      nil -> nil
    end
  end
end
