defmodule Cryptoki.Test.Cluster do
  @moduledoc false
  # Nodes of this machine with this code: one is the VM of the tests, which talks to the others over their standard
  # input as well, so that a connection can be cut without ending a node.

  @host "127.0.0.1"

  @doc "Makes the VM of the tests a node; ends that with the tests of the module."
  @spec join :: :ok
  def join do
    epmd()
    {:ok, _} = Node.start(name(), :longnames)
    ExUnit.Callbacks.on_exit(fn -> Node.stop() end)
    :ok
  end

  @doc "What nodes find each other by: `epmd -daemon` is back before it listens."
  @spec epmd :: :ok
  def epmd do
    {_said, 0} = System.cmd("epmd", ["-daemon"])
    listening()
  end

  defp listening do
    case :erl_epmd.names({127, 0, 0, 1}) do
      {:ok, _names} -> :ok
      {:error, _not_yet} -> listening()
    end
  end

  @doc "Starts a node, on which `cryptoki` runs."
  @spec start([Path.t()]) :: {pid, node}
  def start(first \\ []) do
    paths = for path <- first ++ :code.get_path(), do: [~c"-pa", to_charlist(path)]
    # The path that is named last comes first.
    args =
      [~c"-setcookie", Atom.to_charlist(Node.get_cookie())] ++ Enum.concat(Enum.reverse(paths))

    {:ok, peer, node} =
      :peer.start(%{
        name: name() |> Atom.to_string() |> String.split("@") |> hd() |> to_charlist(),
        host: to_charlist(@host),
        longnames: true,
        connection: :standard_io,
        wait_boot: 300_000,
        args: args
      })

    ExUnit.Callbacks.on_exit(fn -> stop(peer) end)
    {:ok, _} = :peer.call(peer, :application, :ensure_all_started, [:cryptoki], :infinity)
    :ok = :peer.call(peer, :logger, :set_primary_config, [:level, :none], :infinity)
    {peer, node}
  end

  @spec stop(pid) :: :ok
  def stop(peer) do
    :peer.stop(peer)
  catch
    :exit, _stopped -> :ok
  end

  @doc "The sides cut the connections between them by turns, so many times; calls connect them again, or who cuts next."
  @spec cut(pos_integer, {pid, node}, {pid, node}) :: :ok
  def cut(times, {one, first}, {two, second}) do
    for _ <- 1..times do
      connected(second)
      Node.disconnect(second)
      connected(first)
      :peer.call(one, :erlang, :disconnect_node, [node()])
      :peer.call(two, :erlang, :disconnect_node, [first])
    end

    :ok
  end

  defp connected(node), do: if(Node.connect(node), do: :ok, else: connected(node))

  @doc "Loads again and again until one call was answered: on a busy machine a node may be cut off most of the time."
  @spec until_answered((() -> map)) :: map
  def until_answered(load) do
    counts = load.()
    sum = fn _outcome, one, more -> one + more end
    if counts[:ok], do: counts, else: Map.merge(counts, until_answered(load), sum)
  end

  @doc "Calls over and over for so many milliseconds; how often each outcome was. Nothing else ever comes."
  @spec load(term, pos_integer) :: map
  def load(hsm, time) do
    until = System.monotonic_time(:millisecond) + time
    repeat(hsm, fn -> System.monotonic_time(:millisecond) < until end, %{})
  end

  @doc "The same while a function runs; what both have come to."
  @spec load_while(term, (() -> result)) :: {map, result} when result: term
  def load_while(hsm, fun) do
    over = :atomics.new(1, [])
    task = Task.async(fn -> repeat(hsm, fn -> :atomics.get(over, 1) == 0 end, %{}) end)
    result = fun.()
    :atomics.put(over, 1, 1)
    {Task.await(task, :infinity), result}
  end

  defp repeat(hsm, more?, counts) do
    if more?.() do
      outcome = hsm |> once(:rand.uniform(3)) |> outcome()
      {:messages, []} = Process.info(self(), :messages)
      repeat(hsm, more?, Map.update(counts, outcome, 1, &(&1 + 1)))
    else
      counts
    end
  end

  defp once(hsm, 1), do: Cryptoki.random(hsm, 8)
  defp once(hsm, 2), do: Cryptoki.digest(hsm, :sha256, {:stream, ["a", "b", "c"]})

  defp once(hsm, 3) do
    Cryptoki.with_session(hsm, fn session ->
      with {:ok, op} <- Cryptoki.start(session, :digest, :sha256),
           :ok <- Cryptoki.Operation.update(op, "abc"),
           do: Cryptoki.Operation.finish(op)
    end)
  end

  defp outcome({:ok, <<_::64>>}), do: :ok

  defp outcome({:ok, digest}) do
    ^digest = :crypto.hash(:sha256, "abc")
    :ok
  end

  defp outcome({:error, error}), do: {error.reason, error.executed}

  @doc "Sends its process a signal; of one that is stopped no thread goes on for a moment."
  @spec signal(charlist, String.t()) :: :ok
  def signal(pid, name) do
    {_said, 0} = System.cmd("kill", ["-" <> name, to_string(pid)])
    if name == "STOP", do: stopped(pid)
    :ok
  end

  defp stopped(pid) do
    states = for file <- Path.wildcard("/proc/#{pid}/task/*/status"), do: File.read(file)
    stopped? = &(match?({:ok, _}, &1) and elem(&1, 1) =~ ~r/^State:\s+T/m)
    unless Enum.all?(states, stopped?), do: stopped(pid)
  end

  defp name, do: :"cryptoki-#{System.pid()}-#{System.unique_integer([:positive])}@#{@host}"
end
