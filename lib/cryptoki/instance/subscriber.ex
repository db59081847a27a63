defmodule Cryptoki.Subscriber do
  @moduledoc false
  # The caller's side of `Cryptoki.subscribe/1`; the other one is in the token server and its `Cryptoki.Watch`.

  alias Cryptoki.{Error, Instances, Target}

  @doc "Messages about the token for the calling process."
  @spec subscribe(Target.t()) :: {:ok, reference} | {:error, Error.t()}
  def subscribe(%Target{instance: instance, deadline: deadline}) do
    ref = make_ref()

    case Instances.ask(instance, {:subscribe, self(), ref, deadline}, deadline) do
      :ok -> {:ok, ref}
      {:error, %Error{reason: :timeout}} = error -> give_up(instance, ref, error)
      error -> error
    end
  end

  # Nobody would ever end what comes into being later.
  defp give_up(instance, ref, error) do
    with server when is_pid(server) <- Instances.get(instance, :server),
         do: GenServer.cast(server, {:unsubscribe, ref})

    error
  end

  @doc "Ends them; none is left in the mailbox."
  @spec unsubscribe(Target.t(), reference) :: :ok | {:error, Error.t()}
  def unsubscribe(%Target{instance: instance, deadline: deadline}, ref) do
    with :ok <- Instances.ask(instance, {:unsubscribe, ref}, deadline), do: flush(ref)
  end

  ## Of an instance on another node, by its token server

  @doc "As `subscribe/1`."
  @spec subscribe_at({pid | nil, timeout}) :: {:ok, reference} | {:error, Error.t()}
  def subscribe_at({server, _timeout} = asked) do
    ref = make_ref()

    with {:error, %Error{reason: :timeout}} = error <-
           ask(asked, {:subscribe, self(), ref, :infinity}) do
      # It comes right behind.
      GenServer.cast(server, {:unsubscribe, ref})
      error
    else
      :ok -> {:ok, ref}
      error -> error
    end
  end

  @doc "As `unsubscribe/2`."
  @spec unsubscribe_at({pid | nil, timeout}, reference) :: :ok | {:error, Error.t()}
  def unsubscribe_at(asked, ref), do: with(:ok <- ask(asked, {:unsubscribe, ref}), do: flush(ref))

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
