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

  defp flush(ref) do
    receive do
      {:cryptoki, ^ref, _event} -> flush(ref)
    after
      0 -> :ok
    end
  end
end
