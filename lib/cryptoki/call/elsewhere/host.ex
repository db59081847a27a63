defmodule Cryptoki.Elsewhere.Host do
  @moduledoc false
  # A process where the token is, for one caller of another node: it holds the caller's session and the operations
  # begun on it, and runs one verb after the other. It ends with the caller, or with the connection to it.
  #
  # The stream of a verb is read by the caller, which is asked for piece after piece. Answers and questions come
  # to an alias of the caller, which is none any more when the call is over: nothing comes later.

  alias Cryptoki.{Chunks, Error, Groups, Session}

  # Milliseconds after which a caller that has asked for nothing does not know of its host.
  @unclaimed 60_000

  @type t :: %{pid: pid, node: node}

  ## The caller's side

  @doc "Has it run a verb; a stream among the arguments is `stream`."
  @spec run(t, {module, atom, [term]}, Enumerable.t() | nil, timeout) :: term
  def run(%{pid: pid, node: node}, {module, function, arguments}, stream, timeout) do
    ref = :erlang.monitor(:process, pid, alias: :explicit_unalias)
    arguments = if stream, do: Enum.map(arguments, &without_stream/1), else: arguments
    send(pid, {:run, ref, {module, function, arguments}})

    try do
      wait(ref, pid, node, {stream, nil}, timeout)
    catch
      # The stream has raised, or what read it was thrown out of it.
      kind, reason ->
        send(pid, {:drop, ref})
        :erlang.raise(kind, reason, __STACKTRACE__)
    after
      quiet(ref)
    end
    |> case do
      {:answer, answer} -> answer
      {:raised, error} -> raise error
    end
  end

  defp without_stream({:stream, _enumerable}), do: {:stream, :elsewhere}
  defp without_stream(argument), do: argument

  # As long as the other side asks for pieces it is at work: the time counts for each step.
  defp wait(ref, pid, node, {stream, reader} = reading, timeout) do
    receive do
      {^ref, {:piece, question, :first}} ->
        halt(reader)
        wait(ref, pid, node, {stream, piece(pid, question, reader(stream))}, timeout)

      {^ref, {:piece, question, :next}} ->
        wait(ref, pid, node, {stream, piece(pid, question, reader)}, timeout)

      {^ref, answer} ->
        halt(reader)
        answer

      {:DOWN, ^ref, :process, _pid, reason} ->
        halt(reader)
        {:answer, {:error, ended(reason, node)}}
    after
      timeout ->
        send(pid, {:drop, ref})
        halt(elem(reading, 1))
        detail = "#{node} has not answered, it may have been executed"
        {:answer, {:error, Error.new(:timeout, detail, executed: :maybe)}}
    end
  end

  defp ended(:noconnection, node),
    do: Error.new(:node_down, "#{node}: the connection was lost", executed: :maybe)

  # It was gone before it was asked.
  defp ended(:noproc, node) do
    detail = "the connection to #{node} was lost, and the session ended there"
    Error.new(:session_lost, detail, executed: false)
  end

  defp ended(_reason, node),
    do: Error.new(:session_lost, "its process on #{node} ended", executed: :maybe)

  defp quiet(ref) do
    :erlang.unalias(ref)
    Process.demonitor(ref, [:flush])
    flush(ref)
  end

  defp flush(ref) do
    receive do
      {^ref, _late} -> flush(ref)
    after
      0 -> :ok
    end
  end

  # The stream, suspended after each piece.
  defp reader(stream),
    do:
      &(stream |> Chunks.regroup() |> Enumerable.reduce(&1, fn piece, _ -> {:suspend, piece} end))

  defp piece(pid, question, reader) do
    case reader.({:cont, nil}) do
      {:suspended, piece, reader} ->
        send(pid, {question, {:ok, IO.iodata_to_binary(piece)}})
        reader

      {_done, _last} ->
        send(pid, {question, :end})
        nil
    end
  end

  defp halt(nil), do: :ok

  defp halt(reader) do
    _ = reader.({:halt, nil})
    :ok
  end

  @doc "Ends it, without waiting."
  @spec leave(t) :: :ok
  def leave(%{pid: pid}) do
    send(pid, :leave)
    :ok
  end

  ## The host

  @doc "Starts one for a caller."
  @spec start(pid) :: pid
  def start(caller), do: spawn(__MODULE__, :init, [caller])

  @doc false
  @spec init(pid) :: :ok
  def init(caller) do
    monitor = Process.monitor(caller)

    serve(%{
      caller: monitor,
      idle: @unclaimed,
      session: nil,
      give_back: fn -> :ok end,
      operations: %{}
    })
  end

  defp serve(%{caller: caller, idle: idle} = state) do
    receive do
      {:run, ref, verb} -> ref |> asked(verb, %{state | idle: :infinity}) |> serve()
      :leave -> state.give_back.()
      {:DOWN, ^caller, :process, _caller, _reason} -> state.give_back.()
      # A call given up that has been answered already, a question that was answered twice.
      _late -> serve(state)
    after
      idle -> :ok
    end
  end

  # A caller that has given up is told nothing: while the verb waited here, or in the middle of its stream. One that is
  # only taken for gone, for the connection was lost, would take it for the verb's own answer.
  defp asked(ref, verb, state) do
    receive do
      {:drop, ^ref} -> state
    after
      0 ->
        {answer, state} = run(ref, verb, state)
        send(ref, {ref, answer})
        state
    end
  catch
    :throw, {:left, ^ref} -> state
  end

  defp run(ref, {module, function, arguments}, state) do
    arguments = Enum.map(arguments, &here(&1, ref, state))
    taken(Groups.here({module, function, arguments}), state)
  rescue
    error -> {{:raised, error}, state}
  end

  # A session, once: what the caller has to know of it.
  defp taken({:ok, %Session{target: target} = session, give_back}, state) do
    about = Map.take(target, [:instance, :name, :timeout])
    {{:answer, {:ok, about}}, %{state | session: session, give_back: give_back}}
  end

  # One of each kind at most is under way in a session.
  defp taken({:ok, %{session: %Session{}, kind: kind} = op} = answer, state),
    do: {{:answer, answer}, %{state | operations: Map.put(state.operations, kind, op)}}

  defp taken(answer, state), do: {{:answer, answer}, state}

  ## What the caller's arguments are here

  defp here(%Session{there: %{pid: pid}}, _ref, state) when pid == self(), do: state.session

  defp here(%{session: %Session{there: %{pid: pid}}, number: number} = op, _ref, state)
       when pid == self() do
    case state.operations[op.kind] do
      %{number: ^number} = begun -> begun
      _over -> %{op | session: state.session, passed: nil}
    end
  end

  defp here({:stream, :elsewhere}, ref, _state), do: {:stream, pieces(ref)}
  defp here(argument, _ref, _state), do: argument

  # What it gives comes from the caller; that it is read again, too.
  defp pieces(ref) do
    Stream.resource(
      fn -> :first end,
      fn which ->
        case ask(ref, which) do
          {:ok, piece} -> {[piece], :next}
          :end -> {:halt, :next}
        end
      end,
      fn _which -> :ok end
    )
  end

  defp ask(ref, which) do
    question = make_ref()
    send(ref, {ref, {:piece, question, which}})

    receive do
      {^question, piece} ->
        piece

      {:drop, ^ref} ->
        throw({:left, ref})

      {:DOWN, _monitor, :process, _caller, _reason} ->
        send(self(), :leave)
        throw({:left, ref})
    end
  end
end
