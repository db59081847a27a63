defmodule Cryptoki.Test.Terminal do
  @moduledoc false
  # A program in a real terminal, which tmux is. A client in control mode tells of every byte that the
  # program writes: what to wait for is waited for, and what must not be shown can be looked for.

  import ExUnit.Assertions

  @deadline 60_000

  @enforce_keys [:socket, :port, :client]
  defstruct [:socket, :port, :client]

  @type t :: %__MODULE__{socket: Path.t(), port: port, client: pos_integer}

  @doc "Runs a shell command in a directory, at a terminal of `columns` by 200, for this test."
  @spec start(Path.t(), String.t(), pos_integer, [{String.t(), String.t() | nil}]) :: t
  def start(directory, command, columns, environment) do
    name = "cryptoki-#{System.pid()}-#{System.unique_integer([:positive])}"
    socket = Path.join(System.tmp_dir!(), name)
    session = ["-f", "/dev/null", "-C", "new-session", "-x", "#{columns}", "-y", "200"]

    environment =
      for {name, value} <- [{"TERM", "xterm"} | environment],
          do: {to_charlist(name), if(value, do: to_charlist(value), else: false)}

    port =
      Port.open({:spawn_executable, System.find_executable("sh")}, [
        :binary,
        :exit_status,
        # The server would hold on to our standard error, and whoever reads it would wait for the server.
        args:
          ["-c", ~s(exec tmux "$@" 2>/dev/null), "tmux", "-S", socket] ++ session ++ [command],
        env: environment,
        cd: directory
      ])

    {:os_pid, client} = Port.info(port, :os_pid)
    terminal = %__MODULE__{socket: socket, port: port, client: client}
    ExUnit.Callbacks.on_exit(fn -> stop(terminal) end)
    terminal
  end

  @doc "Types a line."
  @spec type(t, String.t()) :: t
  def type(terminal, line) do
    tmux(terminal, ["send-keys", "-l", line])
    tmux(terminal, ["send-keys", "Enter"])
    terminal
  end

  @doc "Waits until the screen shows it, and answers the screen without empty lines at the end."
  @spec await(t, Regex.t()) :: String.t()
  def await(terminal, pattern) do
    await(terminal, pattern, System.monotonic_time(:millisecond) + @deadline)
  end

  defp await(%{port: port} = terminal, pattern, deadline) do
    screen = screen(terminal)

    if screen =~ pattern do
      screen
    else
      receive do
        {^port, {:data, data}} ->
          remember(port, data)
          await(terminal, pattern, deadline)

        {^port, {:exit_status, _status}} ->
          flunk("the program ended; no #{inspect(pattern)} in\n" <> screen)
      after
        max(deadline - System.monotonic_time(:millisecond), 0) ->
          flunk("no #{inspect(pattern)} in\n" <> screen)
      end
    end
  end

  @doc "All that the program and the terminal's echo have ever written."
  @spec written(t) :: String.t()
  def written(%{port: port}) do
    receive_all(port)

    for line <- port |> said() |> IO.iodata_to_binary() |> String.split(["\r\n", "\n"]),
        [_, text] <- [Regex.run(~r/^%output %\d+ (.*)$/s, line)],
        into: "",
        do: text
  end

  # By their numbers: a server that is asked to end may wait for its client, and the client for us.
  defp stop(%{socket: socket, client: client} = terminal) do
    {server, _status} = tmux(terminal, ["display-message", "-p", "\#{pid}"])
    processes = for pid <- [String.trim(server), "#{client}"], pid =~ ~r/^\d+$/, do: pid
    System.cmd("kill", ["-KILL" | processes], stderr_to_stdout: true)
    File.rm(socket)
  end

  defp screen(terminal) do
    {text, _status} = tmux(terminal, ["capture-pane", "-p", "-J", "-S", "-"])
    text |> String.split("\n") |> Enum.map_join("\n", &String.trim_trailing/1) |> String.trim()
  end

  defp tmux(%{socket: socket}, arguments),
    do: System.cmd("tmux", ["-S", socket | arguments], stderr_to_stdout: true)

  defp receive_all(port) do
    receive do
      {^port, {:data, data}} ->
        remember(port, data)
        receive_all(port)
    after
      0 -> :ok
    end
  end

  defp said(port), do: Process.get({__MODULE__, port}, [])
  defp remember(port, data), do: Process.put({__MODULE__, port}, [said(port), data])
end
