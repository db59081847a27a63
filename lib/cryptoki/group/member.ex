defmodule Cryptoki.Group.Member do
  @moduledoc false
  # One member of a group as this node sees it: where it is, and numbers that every call reads and writes: how many
  # calls are with it, how long it takes, whether it takes part.

  alias Cryptoki.{Elsewhere, Error}

  @enforce_keys [:slot, :id, :name, :node, :numbers]
  defstruct [:slot, :id, :name, :node, :numbers, :instance]

  @typedoc "As the options of the group name it."
  @type id :: atom | {atom, node} | pid
  @type state :: :in | :half_open | :out

  @typedoc "`slot` is its place in masks; `instance` the pid that its keys are of, once it is known."
  @type t :: %__MODULE__{
          slot: non_neg_integer,
          id: id,
          name: atom | pid,
          node: node,
          numbers: :atomics.atomics_ref(),
          instance: pid | nil
        }

  @inside 0
  @half_open 1
  @out 2
  @states %{@inside => :in, @half_open => :half_open, @out => :out}

  # Places of its numbers: calls with it now; nanoseconds that a call takes; when the last one ended (ns); the state;
  # failures without a success between them; calls so far; those that went on to another; sessions; when the trial
  # began that is under way (ns), or 0; sessions of it that callers hold; how long it takes itself for a call (ms).
  @outstanding 1
  @time 2
  @progress 3
  @state 4
  @failures 5
  @calls 6
  @left 7
  @sessions 8
  @trial 9
  @leases 10
  @limit 11
  @places 11

  # A failure is no member's end; so many without a success between them are.
  @patience 3
  # Nanoseconds: what no device is faster than, and after which half of what is remembered of its slowness is forgotten.
  @fastest 1_000
  @half_life 1_000_000_000
  # And how long nobody hears of a trial before there is another.
  @longest 30_000_000_000
  # What a clock in milliseconds may be early.
  @early 2

  @doc "A new one, out until it has been looked at."
  @spec new(non_neg_integer, id) :: t
  def new(slot, id) do
    {name, node} = address(id)
    numbers = :atomics.new(@places, [])
    :atomics.put(numbers, @state, @out)
    :atomics.put(numbers, @sessions, 1)
    :atomics.put(numbers, @progress, now())
    %__MODULE__{slot: slot, id: id, name: name, node: node, numbers: numbers}
  end

  defp address(pid) when is_pid(pid), do: {pid, node(pid)}
  defp address({name, node}), do: {name, node}
  defp address(name), do: {name, node()}

  @doc "Its bit in a mask."
  @spec bit(t) :: pos_integer
  def bit(%__MODULE__{slot: slot}), do: Bitwise.bsl(1, slot)

  @spec local?(t) :: boolean
  def local?(%__MODULE__{node: node}), do: node == node()

  @doc "Runs a verb on it, with its name in the place of the first argument."
  @spec call(t, Elsewhere.verb()) :: term
  def call(%__MODULE__{name: name, node: node}, {module, function, [_group | arguments]})
      when node == node(),
      do: apply(module, function, [name | arguments])

  def call(%__MODULE__{name: name, node: node}, {module, function, [_group | arguments]}),
    do: Elsewhere.call(node, name, {module, function, [name | arguments]})

  ## A call

  @doc "A call goes to it; answers when."
  @spec begin(t) :: integer
  def begin(%__MODULE__{numbers: numbers}) do
    now = now()

    # What was forgotten of its slowness meanwhile stays forgotten.
    if :atomics.add_get(numbers, @outstanding, 1) == 1 do
      idle = now - :atomics.get(numbers, @progress)
      if idle >= @half_life, do: :atomics.put(numbers, @time, remembered(numbers, idle))
      :atomics.put(numbers, @progress, now)
    end

    :atomics.add(numbers, @calls, 1)
    now
  end

  defp remembered(numbers, idle),
    do: Bitwise.bsr(:atomics.get(numbers, @time), min(div(max(idle, 0), @half_life), 30))

  @doc "What names it where an instance is asked for."
  @spec hsm(t) :: Cryptoki.hsm()
  def hsm(%__MODULE__{name: name, node: node}) when node == node() or is_pid(name), do: name
  def hsm(%__MODULE__{name: name, node: node}), do: {name, node}

  @doc "A session of it is taken: one less for others, but no call that it has to end."
  @spec hold(t) :: :ok
  def hold(%__MODULE__{numbers: numbers}), do: :atomics.add(numbers, @leases, 1)

  @doc "The session is given back."
  @spec release(t) :: :ok
  def release(%__MODULE__{numbers: numbers}), do: :atomics.sub(numbers, @leases, 1)

  @doc "It has come back; `began` is nil when how long it took says nothing."
  @spec finish(t, integer | nil) :: :ok
  def finish(%__MODULE__{numbers: numbers}, nil), do: :atomics.sub(numbers, @outstanding, 1)

  def finish(%__MODULE__{numbers: numbers}, began) do
    now = now()
    sessions = :atomics.get(numbers, @sessions)
    with_it = max(:atomics.get(numbers, @outstanding), sessions)
    :atomics.sub(numbers, @outstanding, 1)
    # What waited for a session is not the device's time.
    time = div((now - began) * sessions, with_it)

    case :atomics.get(numbers, @time) do
      0 -> :atomics.put(numbers, @time, time)
      before -> :atomics.put(numbers, @time, div(before * 7 + time, 8))
    end

    :atomics.put(numbers, @progress, now)
  end

  @doc "It has done what was asked."
  @spec served(t) :: :ok
  def served(%__MODULE__{numbers: numbers}) do
    if :atomics.get(numbers, @failures) != 0, do: :atomics.put(numbers, @failures, 0)
    :ok
  end

  @doc "It has failed; whether that is once too often."
  @spec failed?(t) :: boolean
  def failed?(%__MODULE__{numbers: numbers}),
    do: :atomics.add_get(numbers, @failures, 1) >= @patience

  @doc "A call of it went on to another."
  @spec left(t) :: :ok
  def left(%__MODULE__{numbers: numbers}), do: :atomics.add(numbers, @left, 1)

  @doc "What one more call would wait for it: the less the better."
  @spec load(t, now :: integer) :: non_neg_integer
  def load(%__MODULE__{numbers: numbers}, now) do
    with_it = max(:atomics.get(numbers, @outstanding), 0)
    held = max(:atomics.get(numbers, @leases), 0)
    idle = max(now - :atomics.get(numbers, @progress), 0)

    # While calls are with it and none ends, it is at least as slow as that; what was long ago is forgotten.
    time =
      if with_it > 0,
        do: max(:atomics.get(numbers, @time), idle),
        else: remembered(numbers, idle)

    (with_it + held + 1) * max(time, @fastest)
  end

  @spec now :: integer
  def now, do: System.monotonic_time(:nanosecond)

  ## Whether it takes part

  @spec state(t) :: state
  def state(%__MODULE__{numbers: numbers}), do: @states[:atomics.get(numbers, @state)]

  @doc "Whether it takes calls like the others."
  @spec in?(t) :: boolean
  def in?(%__MODULE__{numbers: numbers}), do: :atomics.get(numbers, @state) == @inside

  @doc "From one state to another; false when it is in another one."
  @spec change(t, state, state) :: boolean
  def change(%__MODULE__{numbers: numbers}, from, to) do
    changed = :atomics.compare_exchange(numbers, @state, number(from), number(to)) == :ok

    if changed do
      :atomics.put(numbers, @failures, 0)
      :atomics.put(numbers, @trial, 0)
      # How slow it was says nothing of how it comes back: the trial does.
      if to == :half_open, do: :atomics.put(numbers, @time, 0)
    end

    changed
  end

  defp number(:in), do: @inside
  defp number(:half_open), do: @half_open
  defp number(:out), do: @out

  @doc "One call at a time is tried on a member that is half open; one whose caller was killed is over some time."
  @spec trial?(t, now :: integer) :: boolean
  def trial?(%__MODULE__{numbers: numbers}, now \\ now()) do
    :atomics.get(numbers, @state) == @half_open and begun?(numbers, now)
  end

  defp begun?(numbers, now) do
    case :atomics.get(numbers, @trial) do
      before when before == 0 or now - before > @longest ->
        :atomics.compare_exchange(numbers, @trial, before, now) == :ok

      _under_way ->
        false
    end
  end

  @doc "The trial said nothing."
  @spec untried(t) :: :ok
  def untried(%__MODULE__{numbers: numbers}), do: :atomics.put(numbers, @trial, 0)

  ## Of its process

  @spec sessions(t, pos_integer) :: :ok
  def sessions(%__MODULE__{numbers: numbers}, sessions),
    do: :atomics.put(numbers, @sessions, max(sessions, 1))

  @doc "How long it takes for a call that does not say, in milliseconds."
  @spec limit(t, timeout) :: :ok
  def limit(%__MODULE__{numbers: numbers}, timeout),
    do: :atomics.put(numbers, @limit, if(timeout == :infinity, do: 0, else: timeout))

  @doc "Whether a call that began then has had less time than the member takes for one, or the group when that is any."
  @spec impatient?(t, began :: integer, timeout) :: boolean
  def impatient?(%__MODULE__{numbers: numbers}, began, timeout) do
    limit =
      case :atomics.get(numbers, @limit) do
        0 when timeout == :infinity -> 0
        0 -> timeout
        limit -> limit
      end

    div(now() - began, 1_000_000) + @early < limit
  end

  @doc "Its numbers for people."
  @spec numbers(t) :: %{
          outstanding: integer,
          calls: non_neg_integer,
          failovers: non_neg_integer,
          time: non_neg_integer
        }
  def numbers(%__MODULE__{numbers: numbers}) do
    %{
      outstanding: max(:atomics.get(numbers, @outstanding) + :atomics.get(numbers, @leases), 0),
      calls: :atomics.get(numbers, @calls),
      failovers: :atomics.get(numbers, @left),
      time: div(:atomics.get(numbers, @time), 1000)
    }
  end

  @doc "How many calls are counted as being with it, and sessions of it as taken."
  @spec outstanding(t) :: integer
  def outstanding(%__MODULE__{numbers: numbers}),
    do: :atomics.get(numbers, @outstanding) + :atomics.get(numbers, @leases)

  @doc "Puts right what callers have left that were killed: of calls first, of which there are more."
  @spec settle(t, pos_integer) :: :ok
  def settle(%__MODULE__{numbers: numbers}, too_many) do
    # Of calls more cannot be too many than there are.
    of_calls = min(too_many, max(:atomics.get(numbers, @outstanding), 0))
    :atomics.sub(numbers, @outstanding, of_calls)
    :atomics.sub(numbers, @leases, too_many - of_calls)
  end

  @doc "Puts right what was too much of that: what was taken from calls and was of sessions, or has ended after all."
  @spec balance(t) :: :ok
  def balance(%__MODULE__{numbers: numbers}) do
    of_calls = min(:atomics.get(numbers, @outstanding), 0)
    :atomics.sub(numbers, @outstanding, of_calls)
    held = :atomics.add_get(numbers, @leases, of_calls)
    :atomics.sub(numbers, @leases, min(held, 0))
  end

  @doc "An error of it, which says so."
  @spec error(t, Error.t()) :: Error.t()
  def error(%__MODULE__{id: id}, error), do: %{error | member: id}
end
