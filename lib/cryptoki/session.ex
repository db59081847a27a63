defmodule Cryptoki.Session do
  @moduledoc """
  One session for one process, given to the function of `Cryptoki.with_session/3`.

  It stands wherever an instance does. Only the process that opened it may use it, and only until
  the function ends: another process gets an `ArgumentError`, a later call a
  `%Cryptoki.Error{reason: :session_lost}`.
  """

  alias Cryptoki.{Error, Names, Request, Target}

  @enforce_keys [:owner, :target]
  defstruct [:owner, :target]

  @typedoc "Its fields are private."
  @type t :: %__MODULE__{owner: pid, target: Target.t()}

  # Behind `Cryptoki.with_session/3`; a session inside a session is the same one.
  @doc false
  @spec run(t | term, map, (t -> result)) :: result | {:error, Error.t()} when result: term
  def run(hsm, options, fun)

  def run(%__MODULE__{} = session, _options, fun) do
    _ = target!(session)
    fun.(session)
  end

  def run(hsm, options, fun) do
    with {:ok, session, give_back} <- take(hsm, options) do
      try do
        fun.(session)
      after
        give_back.()
      end
    end
  end

  # A session and what gives it back: for those that cannot stand in one function.
  @doc false
  @spec take(t | term, map) :: {:ok, t, (() -> :ok)} | {:error, Error.t()}
  def take(%__MODULE__{} = session, _options) do
    _ = target!(session)
    {:ok, session, fn -> :ok end}
  end

  def take(hsm, options) do
    with {:ok, target} <- Target.fetch(hsm, options),
         {:ok, pinned} <- Request.pin(target) do
      session = %__MODULE__{owner: self(), target: %{target | queue: pinned}}
      # Whatever was left behind is cancelled or closed before anybody else gets it.
      {:ok, session, fn -> Request.unpin(pinned) end}
    end
  end

  # Behind `Cryptoki.session_info/2`.
  @doc false
  @spec info(t | term, map) :: {:ok, map} | {:error, Error.t()}
  def info(hsm, options) do
    with {:ok, target} <- Target.fetch(hsm, options),
         {:ok, info} <- Request.run(target, {:session_info}) do
      state = Names.name(:session_state, info.state)
      {:ok, %{info | state: state, flags: Names.flags(:session, info.flags)}}
    end
  end

  # Behind `Cryptoki.validation_flags/2`.
  @doc false
  @spec validation_flags(t | term, map) :: {:ok, non_neg_integer} | {:error, Error.t()}
  def validation_flags(hsm, options) do
    {:ok, kind} = Names.code(:validation_indicator, :last_validation_ok)

    with {:ok, target} <- Target.fetch(hsm, options),
         do: Request.run(target, {:validation_flags, kind})
  end

  @doc false
  @spec target!(t) :: Target.t()
  def target!(%__MODULE__{owner: owner, target: target} = session) when owner == self(),
    do: %{target | session: session}

  def target!(%__MODULE__{owner: owner}) do
    raise ArgumentError,
          "this session belongs to #{inspect(owner)}, the process that called with_session/3; " <>
            "#{inspect(self())} cannot use it"
  end

  defimpl Inspect do
    def inspect(session, _opts),
      do: "#Cryptoki.Session<#{Kernel.inspect(Cryptoki.Target.called(session.target))}>"
  end
end
