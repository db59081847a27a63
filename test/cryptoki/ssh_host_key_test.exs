defmodule Cryptoki.SSHHostKeyTest do
  use ExUnit.Case, async: true

  # Keys of hosts: what OTP's daemon takes for one, and OpenSSH's sshd with one of the token.

  @compile {:no_warn_undefined, :ssh}

  alias Cryptoki.Test.{KeyPairs, MainToken, Scratch, SSH, TLS}

  # Of :ssh_server_key_api.
  defmodule HostKey do
    @moduledoc false
    def host_key(:"ecdsa-sha2-nistp256", options),
      do: {:ok, get_in(options, [:key_cb_private, :key])}

    def host_key(_algorithm, _options), do: {:error, :enoent}
    def is_auth_key(_key, _user, _options), do: false
  end

  test "OTP's daemon calls no function that signs" do
    :ok = TLS.start(:ssh)
    test = self()

    sign = fn data, hash, options ->
      send(test, {:asked, data, hash, options})
      ""
    end

    mine = :public_key.generate_key({:namedCurve, :secp256r1})
    by_function = %{algorithm: :ecdsa, sign_fun: sign}
    engine = Map.merge(by_function, %{engine: make_ref(), key_id: "host"})
    assert {:ok, connection} = connect(mine)
    :ok = :ssh.close(connection)
    for key <- [by_function, engine], do: assert({:error, _text} = connect(key))
    refute_received {:asked, _data, _hash, _options}
  end

  defp connect(key) do
    scratch = to_charlist(Scratch.directory("host-key"))
    options = [key_cb: {HostKey, key: key}, user_dir: scratch, no_auth_needed: true]

    case :ssh.daemon({127, 0, 0, 1}, 0, options) do
      {:ok, daemon} ->
        on_exit(fn -> :ssh.stop_daemon(daemon) end)
        {:ok, info} = :ssh.daemon_info(daemon)
        client = [user: ~c"alice", user_dir: scratch, user_interaction: false]
        client = [silently_accept_hosts: true, save_accepted_host: false] ++ client
        :ssh.connect({127, 0, 0, 1}, info[:port], client, 30_000)

      {:error, _reason} = error ->
        error
    end
  end

  @tag skip: SSH.lacks_sshd()
  test "OpenSSH's sshd has them of the agent" do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    keys = KeyPairs.make(hsm, ~w(rsa secp256r1 ed25519)a)
    directory = Scratch.directory("host")
    # Of sockets the whole path is short.
    agent = Path.join("/tmp", "cryptoki-#{System.unique_integer([:positive])}-#{System.pid()}")
    on_exit(fn -> File.rm_rf!(agent) end)
    path = Path.join(agent, "socket")
    test = self()

    ask = fn use ->
      send(test, {:asked, use.purpose})
      true
    end

    start_supervised!(
      {Cryptoki.SSH.Agent, path: path, keys: Enum.map(keys, &{hsm, elem(&1, 1)}), ask: ask}
    )

    {user, public} = SSH.key(directory, ~w(-t ed25519))
    Scratch.write(directory, "authorized", public)

    for {name, key} <- keys do
      line = Cryptoki.SSH.public_key!(hsm, key)
      host = Scratch.write(directory, "#{name}.pub", line <> "\n")
      own = "HostKeyAgent #{path}\nAuthorizedKeysFile #{directory}/authorized\n"
      port = SSH.sshd(directory, host, own)
      assert login(directory, user, port, line) =~ "asked for"
      assert_received {:asked, :unknown}
      other = Cryptoki.SSH.public_key!(hsm, keys[if(name == :rsa, do: :ed25519, else: :rsa)])
      assert login(directory, user, port, other) =~ "Host key verification failed"
    end
  end

  defp login(directory, user, port, line) do
    known = Scratch.write(directory, "known_hosts", "[127.0.0.1]:#{port} #{line}\n")

    options =
      ~w(-F none -i #{user} -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes -p #{port}) ++
        ~w(-o UserKnownHostsFile=#{known} -o GlobalKnownHostsFile=none -o StrictHostKeyChecking=yes)

    {me, 0} = System.cmd("id", ["-un"])
    arguments = options ++ ["#{String.trim(me)}@127.0.0.1", "echo", "asked for"]
    "ssh" |> System.cmd(arguments, stderr_to_stdout: true) |> elem(0)
  end
end
