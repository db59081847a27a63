defmodule Cryptoki.Watch do
  @moduledoc false
  # Who is told about an instance's token, and the tokens that were there when last looked: a part
  # of the token server's state.

  alias Cryptoki.{Connector, Error}

  defstruct subscribers: %{}, tokens: [], look: nil

  @type token :: %{slot: non_neg_integer, label: String.t(), serial: String.t()}
  @type t :: %__MODULE__{
          subscribers: %{reference => {pid, monitor :: reference}},
          tokens: [token],
          look: Connector.look() | nil
        }

  @doc "`ref` is what the subscriber calls it."
  @spec subscribe(t, pid, reference) :: t
  def subscribe(%__MODULE__{} = watch, pid, ref),
    do: put_in(watch.subscribers[ref], {pid, Process.monitor(pid)})

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
    for {ref, {pid, _monitor}} <- subscribers, do: send(pid, {:cryptoki, ref, event})
    :ok
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
