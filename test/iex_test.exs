defmodule Cryptoki.IExTest do
  # `Cryptoki.IEx` in a real terminal. guides/iex.md shows the session; with CRYPTOKI_UPDATE_GUIDES=1 it
  # is written anew.
  use ExUnit.Case, async: true

  alias Cryptoki.Test.{FaultyModule, MainToken, Scratch, SoftHSM, Terminal}

  @guide "guides/iex.md"
  @columns 80

  setup context do
    directory = Scratch.directory("iex")
    {library, token} = MainToken.outside(directory, context[:labels] || ["payments"])

    ebin = Application.app_dir(:cryptoki, "ebin")

    start =
      "{:ok, _} = Application.ensure_all_started(:cryptoki); Logger.configure(level: :warning)"

    environment = [
      {"CRYPTOKI_LIBRARY", library},
      # Lines of earlier sessions are nobody's business.
      {"ERL_AFLAGS", "-kernel shell_history disabled"}
      | token
    ]

    shell = "exec iex -pa '#{ebin}' -e '#{start}'"
    terminal = Terminal.start(directory, shell, @columns, environment)
    Terminal.await(terminal, ~r/^iex\(1\)>\z/m)
    %{terminal: terminal}
  end

  test "the session of the guide, with a PIN that nobody sees", %{terminal: terminal} do
    lines = typed()
    assert length(lines) > 8

    screen =
      for {line, number} <- Enum.with_index(lines, 1), reduce: "" do
        _screen ->
          Terminal.type(terminal, line)

          if line =~ "open(" do
            Terminal.await(terminal, ~r/^PIN of payments:\z/m)
            Terminal.type(terminal, SoftHSM.pin())
          end

          Terminal.await(terminal, ~r/^iex\(#{number + 1}\)>\z/m)
      end

    refute Terminal.written(terminal) =~ SoftHSM.pin()
    refute screen =~ SoftHSM.pin()

    # What was typed was the PIN: without it there is no private key to see.
    assert screen =~ "logged in"
    assert screen =~ ~r/^private +ec secp256r1/m
    transcript = transcript(screen)
    for line <- String.split(transcript, "\n"), do: assert(fits?(line), line)
    if System.get_env("CRYPTOKI_UPDATE_GUIDES"), do: update(transcript)

    # The guide shows SoftHSM.
    assert MainToken.name() != :softhsm2 or settled(shown()) == settled(transcript),
           "CRYPTOKI_UPDATE_GUIDES=1 writes #{@guide} anew"
  end

  test "a wrong PIN is tried once, is not shown, and leaves no instance", %{terminal: terminal} do
    Terminal.type(terminal, "use Cryptoki.IEx; open()")
    Terminal.await(terminal, ~r/^PIN of payments:\z/m)
    Terminal.type(terminal, "40414243")
    screen = Terminal.await(terminal, ~r/^iex\(2\)>\z/m)
    assert screen =~ "C_Login answered CKR_PIN_INCORRECT"
    assert screen =~ "%Cryptoki.Error{reason: :pin_incorrect, function: :C_Login, code: 0xA0}"
    refute Terminal.written(terminal) =~ "40414243"

    Terminal.type(terminal, "length(Cryptoki.Instances.all())")
    assert Terminal.await(terminal, ~r/^iex\(3\)>\z/m) =~ ~r/^0$/m
  end

  test "an instance is unlocked by a PIN that nobody sees", %{terminal: terminal} do
    wrong =
      "{:ok, hsm} = Cryptoki.start_link(token: [label: \"payments\"], pin: \"40414243\", name: :hsm)"

    Terminal.type(terminal, wrong)
    Terminal.await(terminal, ~r/^iex\(2\)>\z/m)

    # Nothing, then the one that was refused, then the right one; and none when it is logged in.
    for {pin, said, number} <- [
          {"", "the PIN cannot be had from where pin: says it is (none was typed)", 3},
          {"40414243", "C_Login answered CKR_PIN_INCORRECT", 4},
          {SoftHSM.pin(), ~r/^:ok$/m, 5}
        ] do
      Terminal.type(terminal, "Cryptoki.IEx.unlock(:hsm)")
      Terminal.await(terminal, ~r/^PIN for :hsm:\z/m)
      Terminal.type(terminal, pin)
      assert Terminal.await(terminal, ~r/^iex\(#{number}\)>\z/m) =~ said
    end

    refute Terminal.written(terminal) =~ SoftHSM.pin()

    Terminal.type(terminal, "{Cryptoki.IEx.unlock(:hsm), Cryptoki.status!(:hsm).state}")
    assert Terminal.await(terminal, ~r/^iex\(6\)>\z/m) =~ "{:ok, :ready}"
    Terminal.type(terminal, "Cryptoki.IEx.unlock(:none)")
    assert Terminal.await(terminal, ~r/^iex\(7\)>\z/m) =~ "no instance :none is running"
  end

  @tag labels: ~w(payments archive)
  test "several tokens are asked about, none fitting is an error, options choose", context do
    %{terminal: terminal} = context
    Terminal.type(terminal, "use Cryptoki.IEx; {:ok, hsm} = open()")
    Terminal.await(terminal, ~r/^Which token \(its label or slot\)\?\z/m)
    Terminal.type(terminal, "archive")
    Terminal.await(terminal, ~r/^PIN of archive:\z/m)
    Terminal.type(terminal, "")

    assert Terminal.await(terminal, ~r/^iex\(2\)>\z/m) =~
             ~r/^archive in slot \d+, no login, 4 sessions$/m

    Terminal.type(terminal, "open(token: [label: \"nobody\"])")
    assert Terminal.await(terminal, ~r/^iex\(3\)>\z/m) =~ "no initialised token fits"

    Terminal.type(
      terminal,
      "open(token: [label: \"archive\"], pin: \"#{SoftHSM.pin()}\", sessions: 1)"
    )

    assert Terminal.await(terminal, ~r/^iex\(4\)>\z/m) =~
             ~r/^archive in slot \d+, logged in, 1 session$/m
  end

  @tag skip:
         MainToken.lacks(
           :kryoptic,
           "the library that fails on command stands before SoftHSM here"
         )
  test "no PIN is asked for where none is wanted, or there is none", %{terminal: terminal} do
    module = FaultyModule.new(labels: ["free"])

    open = fn number, options ->
      line = "open(library: \"#{module.library}\", sessions: 1#{options})"
      Terminal.type(terminal, line)
      Terminal.await(terminal, ~r/^iex\(#{number}\)>\z/m)
    end

    Terminal.type(terminal, "use Cryptoki.IEx")
    Terminal.await(terminal, ~r/^iex\(2\)>\z/m)
    # CKF_LOGIN_REQUIRED, CKF_USER_PIN_INITIALIZED (section 5.5.3).
    FaultyModule.control(module, "token without=0x4")
    assert open.(3, "") =~ ~r/^free in slot \d+, no login is wanted, 1 session$/m
    FaultyModule.control(module, "token without=0x8")
    assert open.(4, "") =~ ~r/^free in slot \d+, no login: it has no user PIN yet, 1 session$/m
    FaultyModule.control(module, "token flags=0x40000")
    assert open.(5, "") =~ "the PIN is locked after too many wrong tries"
    FaultyModule.control(module, "")
    assert open.(6, ", pin: nil") =~ ~r/^free in slot \d+, no login, 1 session$/m
    assert FaultyModule.count(module, ~r/^C_Login/) == 0

    # A PIN that is given all the same is handed over.
    FaultyModule.control(module, "token without=0x4")

    assert open.(7, ", pin: \"#{SoftHSM.pin()}\", name: :free") =~
             ~r/^free in slot \d+, logged in, 1 session$/m

    assert FaultyModule.count(module, ~r/^C_Login ran/) == 1

    Terminal.type(terminal, "open(:free)")
    assert Terminal.await(terminal, ~r/^iex\(8\)>\z/m) =~ ":free is running already, and ready"
    Terminal.type(terminal, "open(:fre)")

    assert Terminal.await(terminal, ~r/^iex\(9\)>\z/m) =~
             ~r/no instance :fre is running on this node; running: .*:free/
  end

  test "h shows each function with an example", %{terminal: terminal} do
    for {function, number} <- Enum.with_index(~w[tokens open unlock objects key], 1) do
      Terminal.type(terminal, "h Cryptoki.IEx.#{function}")
      screen = Terminal.await(terminal, ~r/^iex\(#{number + 1}\)>\z/m)
      assert screen =~ ~r/def #{function}\(/
      assert screen =~ ~r/iex> .*#{function}\(/
    end
  end

  # URIs are whole, for copying: the terminal wraps them.
  defp fits?(line),
    do: String.length(line) <= @columns or line =~ "pkcs11:" or line =~ ~r/^iex/

  ## The guide

  defp shown do
    [_, shown] = Regex.run(~r/^```text\n(iex\(1\)>.*?)^```/ms, File.read!(@guide))
    String.trim(shown)
  end

  defp typed do
    for [_, line] <- Regex.scan(~r/^iex\(\d+\)> (.+)$/m, shown()), do: line
  end

  defp transcript(screen) do
    [_, session] = Regex.run(~r/^(iex\(1\)> .*)\niex\(\d+\)>\z/ms, screen)
    session
  end

  defp update(transcript) do
    text = String.replace(File.read!(@guide), shown(), transcript)
    File.write!(@guide, text)
  end

  # What differs from run to run: serial numbers, slots and processes, and with them widths.
  defp settled(transcript) do
    transcript
    |> String.replace(~r/\b[0-9a-f]{16}\b/, "SERIAL")
    |> String.replace(~r/\b\d{6,10}\b/, "SLOT")
    |> String.replace(~r/#PID<[\d.]+>/, "#PID")
    |> String.replace(~r/-{2,}/, "--")
    |> String.replace(~r/ {2,}/, "  ")
  end
end
