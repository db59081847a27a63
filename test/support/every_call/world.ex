defmodule Cryptoki.Test.EveryCall.World do
  @moduledoc false
  # Where a scenario is run: a library with its fault, an instance, and what is counted around both.

  alias Cryptoki.{HSM, Instances}
  alias Cryptoki.Native.Wait
  alias Cryptoki.Test.{FaultyModule, Load, SoftHSM}

  @sessions 2
  # What a call that nobody gives a deadline waits for a library that hangs.
  @timeout 1_000

  @doc "How many sessions its instance has."
  @spec sessions :: pos_integer
  def sessions, do: @sessions

  @doc "Makes one, for the calling process; the context of the scenario's functions."
  @spec new(scenario :: struct) :: map
  def new(%{} = scenario) do
    module = FaultyModule.new(token: scenario.token)
    pins = :counters.new(1, [])

    pin = fn ->
      :counters.add(pins, 1, 1)
      SoftHSM.pin()
    end

    own = [sessions: @sessions, timeout: @timeout, reconnect: [min: 1, max: 20], pin: pin]
    options = FaultyModule.options(module, Keyword.merge(own, scenario.options))
    context = %{module: module, pins: pins, pin: pin, options: options, timeout: 10_000}
    if scenario.instance, do: started(scenario, context), else: context
  end

  @doc "The same for a library that does not hang: a start returns when its time is over, connected or not."
  @spec patient(map) :: map
  def patient(%{options: options, timeout: timeout} = context),
    do: %{context | options: Keyword.put(options, :timeout, timeout)}

  defp started(scenario, context) do
    {:ok, hsm} = Cryptoki.start_link(context.options)
    context = Map.put(context, :hsm, hsm)
    Map.merge(context, scenario.prepare.(context))
  end

  @doc "Ends it, and says what it leaves behind."
  @spec finish(map) :: [String.t()]
  def finish(%{hsm: hsm} = context), do: claims(context) ++ stopped(hsm)
  def finish(_context), do: []

  defp stopped(hsm) do
    Process.unlink(hsm)
    :ok = Cryptoki.stop(hsm)
    []
  end

  @doc "A library that somebody has a session of, by our count, is not initialised anew."
  @spec claims(map) :: [String.t()]
  def claims(%{hsm: hsm, module: module}) do
    FaultyModule.control(module, "token remove")
    _absent = Cryptoki.random(hsm, 1)
    {:ok, target} = HSM.target(hsm)

    closed =
      until(fn -> match?(%{state: :absent, sessions: %{open: 0}}, Cryptoki.status!(hsm)) end)

    anew = until(fn -> unclaimed?(target.library) end)

    FaultyModule.control(module, "")
    if closed and anew, do: [], else: ["a session is claimed that nobody has"]
  end

  # Sessions are looked at first; one that denied its C_Initialize was initialised by somebody else, to us.
  defp unclaimed?(library) do
    case Wait.control(library, {:reinitialize}, Wait.deadline(5_000)) do
      :ok -> true
      {:error, error} -> Exception.message(error) =~ "initialised by somebody else"
    end
  end

  @doc "Waits until nothing is under way, so that the next call is that of the next run."
  @spec settle(map) :: boolean
  def settle(%{hsm: hsm}), do: until(fn -> whole?(hsm) end)
  def settle(_context), do: true

  @doc "Waits until the instance is whole again by itself, or waits for a person; what it is else, in words."
  @spec over(map) :: [String.t()]
  def over(%{hsm: hsm}) do
    if until(fn -> whole?(hsm) or locked?(hsm) end),
      do: [],
      else: ["not whole again: #{inspect(Cryptoki.status!(hsm))}"]
  end

  def over(_context), do: []

  @doc "The person that it waits for comes, if it may wait for one."
  @spec person(map, boolean) :: [String.t()]
  def person(%{hsm: hsm} = context, true), do: unlock(context) ++ strays(hsm)

  def person(%{hsm: hsm} = context, false) do
    if locked?(hsm),
      do: [
        "locked, and no login was refused: #{inspect(Cryptoki.status!(hsm))}" | unlock(context)
      ],
      else: strays(hsm)
  end

  def person(_context, _may_lock), do: []

  defp locked?(hsm), do: Cryptoki.status!(hsm).state == :locked

  defp unlock(%{hsm: hsm, pin: pin}) do
    answer = Cryptoki.unlock(hsm, pin, force: true, timeout: 10_000)

    if answer == :ok and until(fn -> whole?(hsm) end),
      do: [],
      else: ["unlock: #{inspect(answer)}"]
  end

  @doc "Messages that stay where they are."
  @spec strays(pid) :: [String.t()]
  def strays(hsm) do
    if until(fn -> mailboxes(hsm) == [] end, 2_000),
      do: [],
      else: ["a stray message: #{inspect(mailboxes(hsm))}"]
  end

  @doc "What is not as it was, when all is over: threads end a moment after they have said so."
  @spec gone(map, map) :: [String.t()]
  def gone(context, before) do
    same = fn ->
      now = held(context)
      {now.threads, now.objects} == {before.threads, before.objects}
    end

    if until(same, 5_000),
      do: [],
      else: ["before #{inspect(before)}, now #{inspect(held(context))}"]
  end

  @doc "Whether the instance has all that it is to have, and nobody waits."
  @spec whole?(pid) :: boolean
  def whole?(hsm) do
    match?(
      %{state: :ready, queue: 0, sessions: %{wanted: n, open: n, busy: 0, overdue: 0}},
      Cryptoki.status!(hsm)
    ) and quiet?(hsm)
  end

  # A look at the slots that is under way, or due, would be one more call in the next run. What a session has to
  # tell, such as that a login is due, reaches the token server by way of its process.
  defp quiet?(hsm) do
    Enum.each(Cryptoki.Sessions.all(hsm), &:sys.get_state/1)
    state = hsm |> Instances.get(:server) |> :sys.get_state()
    state.job == nil and state.looker == nil and state.look_timer == nil
  catch
    # A session that has just ended.
    :exit, _ended -> false
  end

  @doc "What must be the same before and after."
  @spec held(map) :: map
  def held(context) do
    %{
      threads: Load.session_threads(),
      objects: objects(context.module),
      mark: FaultyModule.mark(context.module)
    }
  end

  # The token's own files: from outside of the library, and of any instance.
  defp objects(%FaultyModule{configuration: nil}), do: 0

  defp objects(%FaultyModule{library: library}),
    do: "#{library}.tokens/*/*.object" |> Path.wildcard() |> length()

  @doc "What stands in mailboxes, the caller's apart."
  @spec mailboxes(pid) :: [term]
  def mailboxes(hsm) do
    children =
      for {_id, pid, _type, _modules} <- Supervisor.which_children(hsm), is_pid(pid), do: pid

    processes = [hsm | children] ++ Cryptoki.Sessions.all(hsm)

    for pid <- processes,
        {:messages, messages} <- [Process.info(pid, :messages)],
        message <- messages,
        do: message
  end

  @doc "Waits until it holds; false when it does not for longer than anything takes."
  @spec until((() -> boolean), timeout) :: boolean
  def until(holds?, patience \\ 10_000) do
    end_at = System.monotonic_time(:millisecond) + patience
    holds?.() or waited(holds?, end_at)
  end

  defp waited(holds?, end_at) do
    receive do
    after
      2 -> :ok
    end

    holds?.() or (System.monotonic_time(:millisecond) < end_at and waited(holds?, end_at))
  end
end
