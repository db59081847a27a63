defmodule Cryptoki.SSH.Agent do
  use GenServer

  alias Cryptoki.{Certificates, Each, Error, Options}
  alias Cryptoki.Options.Table
  alias Cryptoki.SSH.Agent.{Connection, Socket}

  # A path of a Unix socket has 108 bytes with its end on Linux, 104 elsewhere.
  @longest 103

  @options [
    path: [
      cast: &__MODULE__.path/1,
      must: "an absolute path of at most #{@longest} bytes",
      type: "Path.t()",
      needed: true,
      doc:
        "the socket. Its directory is made with the mode 0700, or has it and is that of the user; the socket has 0600"
    ],
    keys: [
      cast: &__MODULE__.keys/1,
      must: "a list of {hsm, key} or {hsm, key, comment: text, timeout: ..., pin: ...}",
      type: "[{hsm, key} | {hsm, key, keyword}]",
      needed: true,
      secret: true,
      doc: "the keys that it has; nobody can add another. A PIN is given by a function"
    ],
    ask: [
      cast: &__MODULE__.ask/1,
      must: "a function of one argument, or {module, function, arguments}",
      type: "(map -> boolean) | {module, atom, list}",
      needed: true,
      doc: "is called before each use of a key; `true`, and nothing else, lets it sign"
    ],
    name: [cast: :any, type: "GenServer.name()", doc: "a name for the process"],
    connections: [
      cast: {:integer, 1, 1024},
      must: "a number from 1 to 1024",
      type: "pos_integer",
      default: 32,
      doc: "how many clients it serves at once; others wait"
    ]
  ]

  @moduledoc """
  An ssh-agent with keys of the token: `ssh`, `git`, `ssh-keygen -Y sign`, `scp` and whatever else asks an agent of
  OpenSSH sign with them, over a Unix socket.

      children = [
        {Cryptoki, name: MyApp.HSM, library: "...", token: [label: "ssh"], pin: {:env, "HSM_PIN"}},
        {Cryptoki.SSH.Agent,
         path: "/run/user/1000/acme-agent/socket",
         keys: [{MyApp.HSM, [label: "deploy"]}],
         ask: &MyApp.Agent.allowed?/1}
      ]

  A user sets `SSH_AUTH_SOCK`, or `IdentityAgent` in `~/.ssh/config`, to that path.

  #{Table.docs(@options)}

  What `ask:` gets is a map: `:key`, a line of OpenSSH; `:fingerprint`; `:comment`; `:purpose`, which is `{:login, user}`,
  `{:signature, namespace}` (`"git"`, `"file"`), or `:unknown` for what is signed that nobody knows. It is called in
  a process of the connection and may take its time, to ask a person. What raises is a no.

  It lists its keys and signs with them, RSA keys with SHA-2 only. All else is refused: adding and removing keys, locking.
  A key whose token is not there is not listed. Whoever may connect may ask: the directory keeps out all other
  users but root, and `ask:` decides of the rest.

  `start_link/1` answers `{:error, %Cryptoki.Error{reason: :invalid_argument}}` where the directory is open to others,
  or the path is that of an agent that runs; a socket that one left behind is replaced. Messages are those of
  OpenSSH's PROTOCOL.agent (draft-ietf-sshm-ssh-agent).
  """

  @doc """
  Starts one, as a child of a supervisor with these options.

      {:ok, agent} = Cryptoki.SSH.Agent.start_link(path: path, keys: [{MyApp.HSM, [label: "deploy"]}], ask: fn _use -> true end)
  """
  @spec start_link(keyword | map) :: GenServer.on_start()
  def start_link(options) do
    options = Table.cast!(options, @options, "option")

    GenServer.start_link(
      __MODULE__,
      options,
      if(options.name, do: [name: options.name], else: [])
    )
  end

  @doc false
  @spec child_spec(keyword | map) :: Supervisor.child_spec()
  def child_spec(options) do
    %{id: {__MODULE__, options[:path]}, start: {__MODULE__, :start_link, [options]}}
  end

  ## Options

  @doc false
  def path(path) do
    is_binary(path) and Path.type(path) == :absolute and byte_size(path) <= @longest and
      not String.contains?(path, <<0>>) and {:ok, path}
  end

  @doc false
  def keys(keys) do
    is_list(keys) and keys != [] and not List.improper?(keys) and Each.of(keys, &key/1)
  end

  defp key({hsm, key}), do: key({hsm, key, []})

  defp key({hsm, key, opts}) do
    with true <- Keyword.keyword?(opts),
         {comment, call} = Keyword.pop(opts, :comment, "token"),
         {:ok, comment} <- Table.cast(:line, comment),
         # Supervisors show the arguments of their children.
         false <- is_binary(call[:pin]) do
      :ok = Certificates.selector!(key, :sign, "a key")
      %{} = Options.call!(call, [:timeout, :pin, :metadata])
      {:ok, %{hsm: hsm, key: key, comment: comment, call: call}}
    end
  rescue
    error in ArgumentError -> {:error, error.message}
  end

  defp key(_other), do: false

  @doc false
  def ask(fun) when is_function(fun, 1), do: {:ok, fun}

  def ask({module, name, arguments} = mfa),
    do: is_atom(module) and is_atom(name) and is_list(arguments) and {:ok, mfa}

  def ask(_other), do: false

  ## The process owns the socket, and takes its file away at its end

  @impl true
  def init(options) do
    Process.flag(:trap_exit, true)

    case Socket.listen(options.path) do
      {:ok, socket} ->
        agent = Map.take(options, [:keys, :ask])
        acceptor = spawn_link(fn -> accepting(socket, agent, options.connections) end)
        {:ok, %{socket: socket, path: options.path, acceptor: acceptor}}

      {:error, %Error{} = error} ->
        {:stop, error}
    end
  end

  @impl true
  def handle_info({:EXIT, pid, reason}, %{acceptor: pid} = state), do: {:stop, reason, state}
  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state), do: Socket.close(state.path, state.socket)

  ## Connections end with it

  defp accepting(socket, agent, most) do
    Process.flag(:trap_exit, true)
    accept(socket, agent, most, 0)
  end

  defp accept(socket, agent, most, count) when count >= most do
    receive do
      {:EXIT, _connection, _reason} -> accept(socket, agent, most, count - 1)
    end
  end

  defp accept(socket, agent, most, count) do
    case :gen_tcp.accept(socket) do
      {:ok, client} ->
        connection = spawn_link(fn -> served(agent) end)
        # What it cannot be given any more is closed already.
        _ = :gen_tcp.controlling_process(client, connection)
        send(connection, {:serve, client})
        accept(socket, agent, most, ended(count + 1))

      # One that went before it was let in.
      {:error, :econnaborted} ->
        accept(socket, agent, most, ended(count))

      # No file is left for it: until a connection ends, or somebody else gives one back.
      {:error, reason} when reason in [:emfile, :enfile] ->
        accept(socket, agent, most, ended(count, 100))

      {:error, reason} ->
        exit({:shutdown, reason})
    end
  end

  defp ended(count, patience \\ 0) do
    receive do
      {:EXIT, _connection, _reason} -> ended(count - 1)
    after
      patience -> count
    end
  end

  defp served(agent) do
    receive do
      {:serve, client} -> Connection.serve(client, agent)
    end
  end
end
