defmodule Cryptoki.Watch do
  @moduledoc false
  # Who is told about an instance's token, and the tokens that were there when last looked: a part
  # of the token server's state.

  alias Cryptoki.{Connector, Error}

  # `events`: how many the library has given, nil while it gives none; `seen` whether it gave one at all.
  # `pause`: until the next look, nil for the shortest; `at`: when slots were asked.
  defstruct subscribers: %{}, tokens: [], look: nil, events: nil, seen: false, pause: nil, at: nil

  # A library that tells of events has its slots asked so much less often.
  @seldom 10

  @type token :: %{slot: non_neg_integer, label: String.t(), serial: String.t()}
  @type t :: %__MODULE__{
          subscribers: %{reference => {pid, monitor :: reference}},
          tokens: [token],
          look: Connector.look() | nil,
          events: non_neg_integer | nil,
          seen: boolean,
          pause: pos_integer | nil,
          at: integer | nil
        }
  @type pauses :: %{min: pos_integer, max: pos_integer}

  @doc "`ref` is what the subscriber calls it, an alias of its process."
  @spec subscribe(t, pid, reference) :: t
  def subscribe(%__MODULE__{} = watch, pid, ref),
    do: put_in(%{watch | pause: nil}.subscribers[ref], {pid, Process.monitor(pid)})

  @spec unsubscribe(t, reference) :: t
  def unsubscribe(%__MODULE__{} = watch, ref) do
    {subscriber, subscribers} = Map.pop(watch.subscribers, ref)
    with {_pid, monitor} <- subscriber, do: Process.demonitor(monitor, [:flush])
    %{watch | subscribers: subscribers}
  end

  @doc "A process that was monitored has ended."
  @spec ended(t, reference) :: t
  def ended(%__MODULE__{subscribers: subscribers} = watch, monitor) do
    left =
      for {ref, {_pid, other} = one} <- subscribers, other != monitor, into: %{}, do: {ref, one}

    %{watch | subscribers: left}
  end

  @spec anybody?(t) :: boolean
  def anybody?(%__MODULE__{subscribers: subscribers}), do: subscribers != %{}

  @spec notify(t, tuple) :: :ok
  def notify(%__MODULE__{subscribers: subscribers}, event) do
    for {ref, _subscriber} <- subscribers, do: send(ref, {:cryptoki, ref, event})
    :ok
  end

  @doc "Milliseconds until the next look: more and more while nothing changes."
  @spec pause(t, pauses) :: pos_integer
  def pause(%__MODULE__{pause: pause}, %{min: min}), do: pause || min

  @doc "Whether the slots are to be asked, and not only for events: a library has to give one to be trusted with that."
  @spec slots_due?(t, pauses) :: boolean
  def slots_due?(%__MODULE__{seen: false}, _pauses), do: true

  def slots_due?(%__MODULE__{at: at}, %{max: max}),
    do: System.monotonic_time(:millisecond) - at >= @seldom * max

  @doc "As `looked/2`, and settles when the next look is."
  @spec looked(t, {Connector.look(), non_neg_integer | nil}, pauses) ::
          {:came | :changed | :same, t}
  def looked(%__MODULE__{} = watch, {look, events}, pauses) do
    seen = watch.seen or (watch.events != nil and events != watch.events)
    {news, watch} = looked(watch, look)
    longer = min(2 * pause(watch, pauses), pauses.max)
    pause = if news == :same and not seen, do: longer
    at = System.monotonic_time(:millisecond)
    {news, %{watch | events: events, seen: seen, pause: pause, at: at}}
  end

  @doc "Somebody has looked: tells what has changed, and answers whether a token has come, or other slots changed."
  @spec looked(t, Connector.look()) :: {:came | :changed | :same, t}
  def looked(%__MODULE__{tokens: before} = watch, {_slots, tokens} = look) do
    for token <- before -- tokens, do: notify(watch, {:token_removed, token})
    for token <- tokens -- before, do: notify(watch, {:token_inserted, token})

    news =
      cond do
        tokens -- before != [] -> :came
        watch.look in [nil, look] -> :same
        true -> :changed
      end

    {news, %{watch | look: look, tokens: tokens}}
  end

  @doc "Connecting sees an insertion before anybody looks,"
  @spec inserted(t, token) :: t
  def inserted(%__MODULE__{} = watch, token) do
    if token in watch.tokens do
      watch
    else
      notify(watch, {:token_inserted, token})
      %{watch | tokens: Enum.sort([token | watch.tokens])}
    end
  end

  @removed ~w(token_not_present device_removed token_not_recognized slot_id_invalid token_absent)a

  @doc "and a call sees a removal, by the error that it gets."
  @spec removed(t, token | nil, Error.t()) :: t
  def removed(%__MODULE__{} = watch, token, %Error{reason: reason}) when reason in @removed do
    if token in watch.tokens, do: notify(watch, {:token_removed, token})
    %{watch | tokens: List.delete(watch.tokens, token)}
  end

  def removed(watch, _token, _error), do: watch
end
