defmodule Cryptoki.Session do
  @moduledoc """
  One session for one process, given to the function of `Cryptoki.with_session/3`.

  It stands wherever an instance does. Only the process that opened it may use it, and only until
  the function ends: another process gets an `ArgumentError`, a later call a
  `%Cryptoki.Error{reason: :session_lost}`.
  """

  alias Cryptoki.{Error, Request, Target}

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
    with {:ok, target} <- Target.fetch(hsm, options),
         {:ok, pinned} <- Request.pin(target) do
      try do
        fun.(%__MODULE__{owner: self(), target: %{target | queue: pinned}})
      after
        # Whatever the function left behind is cancelled or closed before anybody else gets it.
        Request.unpin(pinned)
      end
    end
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
