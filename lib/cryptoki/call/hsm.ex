defmodule Cryptoki.HSM do
  @moduledoc false
  # What stands for an HSM in a call, found without asking any process: an instance, or the session of
  # `Cryptoki.with_session/3` that this process holds. And how it comes to hold one.

  alias Cryptoki.{Call, Error, Instances, Session, Target}
  alias Cryptoki.Native.Wait

  @type t :: Session.t() | GenServer.name() | pid

  @doc "What `hsm` names, for one call with the options of `Options.call!/2`."
  @spec target(t | term, map) :: {:ok, Target.t()} | {:error, Error.t()}
  def target(hsm, options \\ %{})

  def target(%Session{} = session, options),
    do: {:ok, session |> held!() |> with_options(options)}

  def target(hsm, options) do
    case Instances.lookup(hsm) do
      {:ok, target} -> {:ok, with_options(target, options)}
      :error -> {:error, Instances.missing(hsm)}
    end
  end

  defp with_options(target, options) do
    %{
      target
      | deadline: Wait.deadline(options[:timeout] || target.timeout),
        metadata: options[:metadata] || %{}
    }
  end

  defp held!(%Session{owner: owner, target: target} = session) when owner == self(),
    do: %{target | session: session}

  defp held!(%Session{owner: owner}) do
    raise ArgumentError,
          "this session belongs to #{inspect(owner)}, the process that called with_session/3; " <>
            "#{inspect(self())} cannot use it"
  end

  @doc "Runs a function with a session of its own; a session inside a session is the same one."
  @spec with_session(t | term, map, (Session.t() -> result)) :: result | {:error, Error.t()}
        when result: term
  def with_session(hsm, options, fun) do
    with {:ok, session, give_back} <- take(hsm, options) do
      try do
        fun.(session)
      after
        give_back.()
      end
    end
  end

  @doc "A session and what gives it back: for those that cannot stand in one function."
  @spec take(t | term, map) :: {:ok, Session.t(), (() -> :ok)} | {:error, Error.t()}
  def take(%Session{} = session, _options) do
    _ = held!(session)
    {:ok, session, fn -> :ok end}
  end

  def take(hsm, options) do
    with {:ok, target} <- target(hsm, options),
         {:ok, leased} <- Call.lease(target) do
      session = %Session{owner: self(), target: %{target | queue: leased}}
      # Whatever was left behind is cancelled or closed before anybody else gets it.
      {:ok, session, fn -> Wait.give_back(leased) end}
    end
  end
end
