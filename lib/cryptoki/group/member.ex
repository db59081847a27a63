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
  # began that is under way (ns), or 0.
  @outstanding 1
  @time 2
  @progress 3
  @state 4
  @failures 5
  @calls 6
  @left 7
  @sessions 8
  @trial 9

  # A failure is no member's end; so many without a success between them are.
  @patience 3
  # Nanoseconds: what no device is faster than, and after which half of what is remembered of its slowness is forgotten.
  @fastest 1_000
  @half_life 1_000_000_000
  # And how long nobody hears of a trial before there is another.
  @longest 30_000_000_000

  @doc "A new one, out until it has been looked at."
  @spec new(non_neg_integer, id) :: t
  def new(slot, id) do
    {name, node} = address(id)
    numbers = :atomics.new(9, [])
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
    if :atomics.add_get(numbers, @outstanding, 1) == 1, do: :atomics.put(numbers, @progress, now)
    :atomics.add(numbers, @calls, 1)
    now
  end

  @doc "What names it where an instance is asked for."
  @spec hsm(t) :: Cryptoki.hsm()
  def hsm(%__MODULE__{name: name, node: node}) when node == node() or is_pid(name), do: name
  def hsm(%__MODULE__{name: name, node: node}), do: {name, node}

  @doc "A session of it is taken."
  @spec hold(t) :: :ok
  def hold(%__MODULE__{numbers: numbers}), do: :atomics.add(numbers, @outstanding, 1)

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
    idle = max(now - :atomics.get(numbers, @progress), 0)
    time = :atomics.get(numbers, @time)

    # While calls are with it and none ends, it is at least as slow as that; what was long ago is forgotten.
    time =
      if with_it > 0,
        do: max(time, idle),
        else: Bitwise.bsr(time, min(div(idle, @half_life), 30))

    (with_it + 1) * max(time, @fastest)
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

  @doc "Its numbers for people."
  @spec numbers(t) :: %{
          outstanding: integer,
          calls: non_neg_integer,
          failovers: non_neg_integer,
          time: non_neg_integer
        }
  def numbers(%__MODULE__{numbers: numbers}) do
    %{
      outstanding: max(:atomics.get(numbers, @outstanding), 0),
      calls: :atomics.get(numbers, @calls),
      failovers: :atomics.get(numbers, @left),
      time: div(:atomics.get(numbers, @time), 1000)
    }
  end

  @doc "How many calls are counted as being with it."
  @spec outstanding(t) :: integer
  def outstanding(%__MODULE__{numbers: numbers}), do: :atomics.get(numbers, @outstanding)

  @doc "Puts right what callers have left that were killed."
  @spec settle(t, integer) :: :ok
  def settle(%__MODULE__{numbers: numbers}, too_many),
    do: :atomics.sub(numbers, @outstanding, too_many)

  @doc "An error of it, which says so."
  @spec error(t, Error.t()) :: Error.t()
  def error(%__MODULE__{id: id}, error), do: %{error | member: id}
end
