defmodule Cryptoki.Target do
  @moduledoc false
  # What a call works on, found without asking any process: an instance, or the session of
  # `Cryptoki.with_session/3` that this process holds; with the deadline of the call.

  alias Cryptoki.{Cache, Error, Instances, Native, Request, Session}

  @enforce_keys [:instance, :native, :queue, :library, :cache, :timeout]
  defstruct [
    :instance,
    :name,
    :native,
    :queue,
    :library,
    :cache,
    :timeout,
    :session,
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
          queue: Native.instance() | Native.pinned(),
          library: Native.library(),
          cache: Cache.t(),
          timeout: timeout,
          session: Session.t() | nil,
          deadline: Request.deadline() | nil,
          mechanism: term,
          metadata: map
        }

  @doc "The target that `hsm` names, for one call with the options of `Options.call!/2`."
  @spec fetch(Session.t() | GenServer.name() | pid, map) :: {:ok, t} | {:error, Error.t()}
  def fetch(hsm, options \\ %{})

  def fetch(%Session{} = session, options),
    do: {:ok, session |> Session.target!() |> with_options(options)}

  def fetch(hsm, options) do
    case Instances.lookup(hsm) do
      {:ok, target} -> {:ok, with_options(target, options)}
      :error -> {:error, Instances.missing(hsm)}
    end
  end

  @doc "What to call the instance in messages and events."
  @spec called(t) :: atom | pid
  def called(%__MODULE__{} = target), do: target.name || target.instance

  defp with_options(target, options) do
    %{
      target
      | deadline: Request.deadline(options[:timeout] || target.timeout),
        metadata: options[:metadata] || %{}
    }
  end
end
