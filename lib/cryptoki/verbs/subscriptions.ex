defmodule Cryptoki.Subscriptions do
  @moduledoc false
  # Subscriptions to instances here and on other nodes. The token server there is asked from here: what it sends
  # comes before its answers, and nobody stands between who might end.

  alias Cryptoki.{HSM, Instances, Subscriber}

  def subscribe(hsm) do
    if HSM.here?(hsm) do
      with {:ok, target} <- HSM.target(hsm), do: Subscriber.subscribe(target)
    else
      with {:ok, server} <- HSM.there(hsm, {__MODULE__, :server, [hsm]}),
           do: Subscriber.subscribe_at(server)
    end
  end

  def unsubscribe(hsm, ref) do
    # Also when the server is not reached any more.
    :ok = Subscriber.unheard(ref)

    if HSM.here?(hsm) do
      with {:ok, target} <- HSM.target(hsm), do: Subscriber.unsubscribe(target, ref)
    else
      with {:ok, server} <- HSM.there(hsm, {__MODULE__, :server, [hsm]}),
           do: Subscriber.unsubscribe_at(server, ref)
    end
  end

  @doc "Whom to ask, and for how long."
  def server(hsm) do
    with {:ok, target} <- HSM.target(hsm),
         do: {:ok, {Instances.get(target.instance, :server), target.timeout}}
  end
end
