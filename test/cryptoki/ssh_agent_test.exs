defmodule Cryptoki.SSHAgentTest do
  use ExUnit.Case, async: true

  # An agent with keys of the token, for OpenSSH's own clients and git.

  import ExUnit.CaptureLog

  alias Cryptoki.Error
  alias Cryptoki.SSH.Agent
  alias Cryptoki.SSH.Agent.Message
  alias Cryptoki.Test.{KeyPairs, MainToken, Scratch, SSH}

  @nobody :no_such_instance

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    keys = KeyPairs.make(hsm, ~w(rsa secp256r1 secp384r1 secp521r1 ed25519)a)

    lines =
      Map.new(keys, fn {name, key} ->
        {name, Cryptoki.SSH.public_key!(hsm, key, comment: "#{name}")}
      end)

    %{hsm: hsm, keys: keys, lines: lines}
  end

  setup context do
    # Of sockets the whole path is short.
    directory =
      Path.join("/tmp", "cryptoki-#{System.unique_integer([:positive])}-#{System.pid()}")

    on_exit(fn -> File.rm_rf!(directory) end)
    Map.merge(context, %{directory: directory, path: Path.join(directory, "socket")})
  end

  # The answer to each question is this function's; what was asked comes as a message.
  defp agent(%{hsm: hsm, keys: keys, path: path}, opts \\ []) do
    test = self()
    {answer, opts} = Keyword.pop(opts, :answer, true)
    keys = for {name, key} <- keys, do: {hsm, key, comment: "#{name}"}

    ask = fn use ->
      send(test, {:asked, use})
      if is_function(answer), do: answer.(use), else: answer
    end

    child = {Agent, [path: path, keys: keys, ask: ask] ++ opts}
    start_supervised!(Supervisor.child_spec(child, id: make_ref(), restart: :temporary))
  end

  defp run(program, arguments, %{path: path}, opts \\ []) do
    env = [{"SSH_AUTH_SOCK", path}, {"SSH_ASKPASS_REQUIRE", "never"}] ++ (opts[:env] || [])

    System.cmd(
      program,
      arguments,
      [stderr_to_stdout: true, env: env] ++ Keyword.take(opts, [:cd])
    )
  end

  test "ssh-add lists its keys and nothing else, and changes nothing", context do
    agent(context)
    assert {text, 0} = run("ssh-add", ["-L"], context)

    assert text |> String.split("\n", trim: true) |> Enum.sort() ==
             context.lines |> Map.values() |> Enum.sort()

    # Adding and removing; locking is among the messages below.
    scratch = Scratch.directory("agent")
    {file, _line} = SSH.key(scratch, ~w(-t ed25519))
    listed = Scratch.write(scratch, "listed.pub", context.lines.rsa <> "\n")

    for arguments <- [[file], ["-D"], ["-d", listed]] do
      assert {_text, status} = run("ssh-add", arguments, context)
      assert status != 0, inspect(arguments)
    end

    assert {^text, 0} = run("ssh-add", ["-L"], context)

    refute_received {:asked, _use}
  end

  test "ssh-keygen signs files with each of its keys", context do
    agent(context)
    scratch = Scratch.directory("agent")

    for {name, line} <- context.lines do
      public = Scratch.write(scratch, "#{name}.pub", line <> "\n")
      data = Scratch.write(scratch, "#{name}", "text of #{name}")
      assert {_, 0} = run("ssh-keygen", ["-Y", "sign", "-f", public, "-n", "file", data], context)
      signature = File.read!(data <> ".sig")
      assert SSH.valid?(scratch, line, signature, "text of #{name}", "file")
      assert Cryptoki.SSH.verify(line, "text of #{name}", signature) == :ok
      assert_received {:asked, use}
      assert use.purpose == {:signature, "file"}
      assert use.comment == "#{name}"
      assert use.key == line
      assert use.fingerprint == Cryptoki.SSH.fingerprint!(line)
    end
  end

  @tag skip: System.find_executable("git") == nil && "git is not there"
  test "git signs commits", context do
    agent(context)
    scratch = Scratch.directory("agent-git")
    line = context.lines.ed25519
    public = Scratch.write(scratch, "key.pub", line <> "\n")
    allowed = Scratch.write(scratch, "allowed", "alice #{line}\n")
    env = [{"HOME", scratch}, {"GIT_CONFIG_NOSYSTEM", "1"}]
    git = &run("git", ["-C", Path.join(scratch, "repository") | &1], context, env: env)
    {_, 0} = run("git", ["init", "-q", Path.join(scratch, "repository")], context, env: env)

    for {name, value} <- [
          {"user.name", "Alice"},
          {"user.email", "alice"},
          {"gpg.format", "ssh"},
          {"user.signingkey", public},
          {"gpg.ssh.allowedSignersFile", allowed}
        ],
        do: {_, 0} = git.(["config", name, value])

    assert {_, 0} = git.(~w(commit -q --allow-empty -S -m signed))
    assert {text, 0} = git.(~w(verify-commit HEAD))
    assert text =~ "Good \"git\" signature"
    assert_received {:asked, %{purpose: {:signature, "git"}}}
  end

  @tag skip: SSH.lacks_sshd()
  test "ssh logs in, with each of its keys, when it may", context do
    scratch = Scratch.directory("agent-sshd")
    {host, host_line} = SSH.key(scratch, ~w(-t ed25519))
    Scratch.write(scratch, "authorized", Enum.join(Map.values(context.lines), "\n"))
    port = SSH.sshd(scratch, host, "AuthorizedKeysFile #{scratch}/authorized\n")
    known = Scratch.write(scratch, "known", "[127.0.0.1]:#{port} #{host_line}\n")
    {user, 0} = System.cmd("id", ["-un"])
    {:ok, no} = Elixir.Agent.start_link(fn -> false end)
    agent(context, answer: fn _use -> not Elixir.Agent.get(no, & &1) end)

    login = fn name ->
      public = Scratch.write(scratch, "#{name}.pub", context.lines[name] <> "\n")

      options = [
        "IdentityAgent=#{context.path}",
        "IdentitiesOnly=yes",
        "BatchMode=yes",
        "UserKnownHostsFile=#{known}"
      ]

      options = Enum.flat_map(options, &["-o", &1])

      command =
        ["-F", "none", "-p", "#{port}", "-i", public] ++ options ++ ["127.0.0.1", "echo in"]

      run("ssh", command, %{context | path: "/nowhere"})
    end

    for {name, _key} <- context.keys do
      assert {"in\n", 0} = login.(name)
      user = String.trim(user)
      assert_received {:asked, %{purpose: {:login, ^user}}}
    end

    Elixir.Agent.update(no, fn _ -> true end)
    assert {text, 255} = login.(:ed25519)
    assert text =~ "Permission denied"
  end

  test "nothing but true is a yes, and what raises is a no", context do
    scratch = Scratch.directory("agent")
    public = Scratch.write(scratch, "key.pub", context.lines.ed25519 <> "\n")
    data = Scratch.write(scratch, "data", "text")

    for answer <- [
          false,
          nil,
          :ok,
          "yes",
          fn _ -> raise "no" end,
          fn _ -> throw(:no) end,
          fn _ -> exit(:no) end
        ] do
      path = context.path <> "#{System.unique_integer([:positive])}"
      context = %{context | path: path}

      log =
        capture_log(fn ->
          agent(context, answer: answer)

          assert {_, 255} =
                   run("ssh-keygen", ["-Y", "sign", "-f", public, "-n", "file", data], context)

          assert {_, 0} = run("ssh-add", ["-L"], context)
        end)

      if is_function(answer), do: assert(log =~ "ask: ")
      refute File.exists?(data <> ".sig")
    end
  end

  test "what signs is what was asked for, though its name is another's by then", context do
    %{hsm: hsm} = context
    label = "swapped-#{System.unique_integer([:positive])}"

    make = fn ->
      template = [label: label, id: "swapped", curve: :secp256r1]
      Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, template)
    end

    {public, private} = make.()
    line = Cryptoki.SSH.public_key!(hsm, private)

    swap = fn _use ->
      for object <- [public, private], do: Cryptoki.destroy!(hsm, object)
      {_public, _private} = make.()
      true
    end

    start_supervised!({Agent, path: context.path, keys: [{hsm, label: label}], ask: swap})
    scratch = Scratch.directory("agent")
    file = Scratch.write(scratch, "key.pub", line <> "\n")
    data = Scratch.write(scratch, "data", "text")

    log =
      capture_log(fn ->
        assert {_, 255} =
                 run("ssh-keygen", ["-Y", "sign", "-f", file, "-n", "file", data], context)
      end)

    assert log =~ "ssh agent, key"
    refute File.exists?(data <> ".sig")
    # The new one signs when it is asked for.
    line = Cryptoki.SSH.public_key!(hsm, label: label)
    assert {text, 0} = run("ssh-add", ["-L"], context)
    assert text =~ line |> String.split() |> Enum.at(1)
  end

  ## What clients may send

  defp connect(%{path: path}, opts \\ [packet: 4]) do
    {:ok, socket} = :gen_tcp.connect({:local, path}, 0, [:binary, active: false] ++ opts)
    socket
  end

  defp ask(socket, message) do
    :ok = :gen_tcp.send(socket, message)
    :gen_tcp.recv(socket, 0, 30_000)
  end

  test "messages: what is none, what is too long, what is not listed", context do
    agent(context)
    socket = connect(context)
    failure = {:ok, Message.failure()}
    {:ok, <<12, count::32, _::binary>>} = ask(socket, <<11>>)
    assert count == map_size(context.keys)

    for message <- [
          "",
          <<0>>,
          <<11, 0>>,
          <<13>>,
          <<13, 5::32, 1>>,
          <<13, 0::32, 0::32, 0::32, 0>>,
          <<22, 1::32, "x">>,
          <<27, 4::32, "quit">>,
          <<255>>
        ],
        do: assert(ask(socket, message) == failure)

    # Another's key, and one of its own as ssh-rsa, which is SHA-1.
    string = &<<byte_size(&1)::32, &1::binary>>
    {other, _secret} = :crypto.generate_key(:eddsa, :ed25519)
    blob = string.("ssh-ed25519") <> string.(other)
    assert ask(socket, <<13>> <> string.(blob) <> string.("data") <> <<0::32>>) == failure
    refute_received {:asked, _use}

    [_, base64 | _] = String.split(context.lines.rsa)
    rsa = Base.decode64!(base64)
    sign = fn flags -> ask(socket, <<13>> <> string.(rsa) <> string.("data") <> <<flags::32>>) end
    assert sign.(0) == failure
    assert {:ok, <<14, _::32, 12::32, "rsa-sha2-256", _::binary>>} = sign.(2)
    assert {:ok, <<14, _::32, 12::32, "rsa-sha2-512", _::binary>>} = sign.(4)
    assert_received {:asked, %{purpose: :unknown}}

    # Longer than any message is: nothing is read of it.
    raw = connect(context, packet: :raw)
    :ok = :gen_tcp.send(raw, <<Message.most() + 1::32, 11>>)
    assert {:error, :closed} = :gen_tcp.recv(raw, 0, 30_000)
    # And others are served on.
    assert {:ok, <<12, _::binary>>} = ask(socket, <<11>>)
  end

  test "no more clients at once than it may have", context do
    agent(context, connections: 2)
    [first, second] = for _ <- 1..2, do: connect(context)
    for socket <- [first, second], do: assert({:ok, <<12, _::binary>>} = ask(socket, <<11>>))
    third = connect(context)
    :ok = :gen_tcp.send(third, <<11>>)
    assert {:error, :timeout} = :gen_tcp.recv(third, 0, 100)
    :gen_tcp.close(first)
    assert {:ok, <<12, _::binary>>} = :gen_tcp.recv(third, 0, 30_000)
  end

  test "what is signed, for ask:" do
    string = &<<byte_size(&1)::32, &1::binary>>

    login = fn user, service, method ->
      string.("session") <>
        <<50>> <> string.(user) <> string.(service) <> string.(method) <> <<1>> <> string.("alg")
    end

    for {data, purpose} <- [
          {login.("alice", "ssh-connection", "publickey"), {:login, "alice"}},
          {login.("alice", "ssh-connection", "publickey-hostbound-v00@openssh.com"),
           {:login, "alice"}},
          {login.("alice", "ssh-connection", "hostbased"), :unknown},
          {login.("alice", "other-service!", "publickey"), :unknown},
          {login.("a\nb", "ssh-connection", "publickey"), :unknown},
          {"SSHSIG" <> string.("git") <> "rest", {:signature, "git"}},
          {"SSHSIG" <> <<9::32, "git">>, :unknown},
          {"SSHSIG" <> string.(<<0xFF>>), :unknown},
          {"", :unknown}
        ],
        do: assert(Message.purpose(data) == purpose)
  end

  ## The socket

  test "its directory is nobody else's, and so is it",
       %{directory: directory, path: path} = context do
    pid = agent(context)
    assert Bitwise.band(File.stat!(directory).mode, 0o777) == 0o700
    assert Bitwise.band(File.lstat!(path).mode, 0o777) == 0o600
    :ok = GenServer.stop(pid)
    refute File.exists?(path)

    for mode <- [0o755, 0o710, 0o701, 0o770] do
      File.chmod!(directory, mode)
      assert {:error, %Error{reason: :invalid_argument} = error} = started(context)
      assert error.detail =~ "is open to others"
      refute File.exists?(path)
    end

    File.chmod!(directory, 0o700)
    File.write!(path, "a file")
    assert {:error, %Error{detail: detail}} = started(context)
    assert detail =~ "is no socket"
    assert File.read!(path) == "a file"
    assert {:error, %Error{detail: detail}} = started(%{context | path: path <> "/deeper/socket"})
    assert detail =~ "path: "
  end

  defp started(%{hsm: hsm, keys: keys, path: path}) do
    # What does not start ends, a moment after it has said so.
    Process.flag(:trap_exit, true)
    Agent.start_link(path: path, keys: [{hsm, keys.rsa}], ask: fn _ -> true end)
  end

  test "one that runs is not replaced, one that was killed is", %{path: path} = context do
    pid = agent(context)
    assert {:error, %Error{detail: detail}} = started(context)
    assert detail =~ "that of an agent that runs"
    assert {_, 0} = run("ssh-add", ["-L"], context)

    # With the connections that it had.
    socket = connect(context)
    assert {:ok, <<12, _::binary>>} = ask(socket, <<11>>)
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
    assert {:error, :closed} = :gen_tcp.recv(socket, 0, 30_000)
    assert File.lstat!(path).type == :other
    assert {:ok, again} = started(context)
    GenServer.stop(again)
  end

  test "its supervisor starts it again, on the same socket", %{path: path} = context do
    keys = [{context.hsm, context.keys.ed25519}]
    spec = Agent.child_spec(path: path, keys: keys, ask: fn _ -> true end)
    start = {__MODULE__, :told, [self(), spec.start]}
    {:ok, supervisor} = Supervisor.start_link([%{spec | start: start}], strategy: :one_for_one)
    assert_receive {:started, {:ok, pid}}
    assert {_, 0} = run("ssh-add", ["-L"], context)
    # With a client that stays.
    socket = connect(context)
    assert {:ok, <<12, _::binary>>} = ask(socket, <<11>>)

    Process.exit(pid, :kill)
    assert_receive {:started, answer}, 30_000
    assert {:ok, again} = answer
    assert again != pid
    assert {text, 0} = run("ssh-add", ["-L"], context)
    assert text =~ "ssh-ed25519"
    Supervisor.stop(supervisor)
    refute File.exists?(path)
  end

  @doc false
  def told(test, {module, name, arguments}) do
    answer = apply(module, name, arguments)
    send(test, {:started, answer})
    answer
  end

  test "keys whose token is not there are not listed", %{keys: keys, path: path} = context do
    log =
      capture_log(fn ->
        keys = [
          {@nobody, [label: "x"], comment: "gone"},
          {context.hsm, keys.ed25519, comment: "here"}
        ]

        start_supervised!({Agent, path: path, keys: keys, ask: fn _ -> true end})
        assert {text, 0} = run("ssh-add", ["-L"], context)
        assert [line] = String.split(text, "\n", trim: true)
        assert String.ends_with?(line, " here")
      end)

    assert log =~ ~s(cryptoki ssh agent, key "gone": )
  end

  test "what is wrong in the call", %{path: path} do
    yes = fn _ -> true end
    good = [path: path, keys: [{@nobody, [label: "x"]}], ask: yes]

    for {opts, text} <- [
          {[path: "relative"], "path: must be an absolute path"},
          {[path: "/" <> String.duplicate("x", 200)], "path: must be an absolute path"},
          {[keys: []], "keys: must be a list"},
          {[keys: [@nobody]], "keys: must be a list"},
          {[keys: [{@nobody, :x}]], "keys: a key: "},
          {[keys: [{@nobody, [label: "x"], comment: "a\nb"}]], "keys: must be a list"},
          {[keys: [{@nobody, [label: "x"], pin: "1234"}]], "keys: must be a list"},
          {[keys: [{@nobody, [label: "x"], timeout: 0}]], "keys: timeout: "},
          {[ask: nil], "ask: must be a function of one argument"},
          {[ask: fn -> true end], "ask: must be a function of one argument"},
          {[connections: 0], "connections: must be a number"},
          {[conections: 1], "did you mean :connections"}
        ] do
      error = assert_raise ArgumentError, fn -> Agent.start_link(Keyword.merge(good, opts)) end
      assert Exception.message(error) =~ text
      refute Exception.message(error) =~ "1234"
    end
  end
end
