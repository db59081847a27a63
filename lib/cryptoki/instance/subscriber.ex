defmodule Cryptoki.Subscriber do
  @moduledoc false
  # The caller's side of `Cryptoki.subscribe/1`; the other one is in the token server and its `Cryptoki.Watch`.
  #
  # The reference is an alias of the caller, to which the messages go: once that has ended none comes, whatever the
  # server knows of it, and wherever it is.

  alias Cryptoki.{Error, Instances, Target}

  @doc "Messages about the token for the calling process."
  @spec subscribe(Target.t()) :: {:ok, reference} | {:error, Error.t()}
  def subscribe(%Target{instance: instance, deadline: deadline}) do
    ask = &Instances.ask(instance, &1, deadline)
    subscribed(ask, &Instances.tell(instance, &1), deadline)
  end

  defp subscribed(ask, tell, deadline) do
    ref = :erlang.alias()

    with {:error, error} <- ask.({:subscribe, self(), ref, deadline}) do
      # Nobody would ever end what comes into being later: it comes right behind.
      if error.reason == :timeout, do: tell.({:unsubscribe, ref})
      unheard(ref)
      {:error, error}
    else
      :ok -> {:ok, ref}
    end
  end

  @doc "No message of it comes from now on, and none is left in the mailbox."
  @spec unheard(reference) :: :ok
  def unheard(ref) do
    :erlang.unalias(ref)
    flush(ref)
  end

  @doc "Tells the token server that it has ended."
  @spec unsubscribe(Target.t(), reference) :: :ok | {:error, Error.t()}
  def unsubscribe(%Target{instance: instance, deadline: deadline}, ref),
    do: Instances.ask(instance, {:unsubscribe, ref}, deadline)

  ## Of an instance on another node, by its token server

  @doc "As `subscribe/1`."
  @spec subscribe_at({pid | nil, timeout}) :: {:ok, reference} | {:error, Error.t()}
  def subscribe_at({server, _timeout} = asked),
    do: subscribed(&ask(asked, &1), &GenServer.cast(server, &1), :infinity)

  @doc "As `unsubscribe/2`."
  @spec unsubscribe_at({pid | nil, timeout}, reference) :: :ok | {:error, Error.t()}
  def unsubscribe_at(asked, ref), do: ask(asked, {:unsubscribe, ref})

  defp ask({nil, _timeout}, _question), do: ended()

  defp ask({server, timeout}, question) do
    GenServer.call(server, question, timeout)
  catch
    :exit, {:timeout, _call} ->
      {:error, Error.new(:timeout, "the token server of #{node(server)} has not answered")}

    :exit, {{:nodedown, node}, _call} ->
      {:error, Error.new(:node_down, "#{node}: the connection was lost", executed: :maybe)}

    :exit, _ended ->
      ended()
  end

  defp ended, do: {:error, Error.new(:shutdown, "the instance is stopping")}

  defp flush(ref) do
    receive do
      {:cryptoki, ^ref, _event} -> flush(ref)
    after
      0 -> :ok
    end
  end
end
