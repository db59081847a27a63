defmodule Cryptoki.Target do
  @moduledoc false
  # What a call works on: an instance, or a session of it; with the deadline of the call. `Cryptoki.HSM` finds it.

  alias Cryptoki.{Cache, Native}
  alias Cryptoki.Native.Wait

  @enforce_keys [:instance, :native, :queue, :library, :cache, :timeout]
  defstruct [
    :instance,
    :name,
    :native,
    :queue,
    :library,
    :cache,
    :timeout,
    :deadline,
    :mechanism,
    metadata: %{}
  ]

  @typedoc """
  `native` is the instance's queue and `queue` where this call goes: there, or to a session.
  `cache` has what the instance remembers of its objects.
  """
  @type t :: %__MODULE__{
          instance: pid,
          name: atom,
          native: Native.instance(),
          queue: Native.instance() | Native.lease(),
          library: Native.library(),
          cache: Cache.t(),
          timeout: timeout,
          deadline: Wait.deadline() | nil,
          mechanism: term,
          metadata: map
        }

  @doc "What to call the instance in messages and events."
  @spec called(t) :: atom | pid
  def called(%__MODULE__{} = target), do: target.name || target.instance
end
