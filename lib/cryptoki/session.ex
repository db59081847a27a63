defmodule Cryptoki.Session do
  @moduledoc """
  One session for one process, given to the function of `Cryptoki.with_session/3`.

  It stands wherever an instance does. Only the process that opened it may use it, and only until
  the function ends: another process gets an `ArgumentError`, a later call a
  `%Cryptoki.Error{reason: :session_lost}`.
  """

  # `there` is its host, of a session on another node; `member` the group and its member, of a session of a group.
  @enforce_keys [:owner, :target]
  defstruct [:owner, :target, :there, :member]

  @typedoc "Its fields are private."
  @type t :: %__MODULE__{}

  defimpl Inspect do
    def inspect(session, _opts),
      do: "#Cryptoki.Session<#{Kernel.inspect(session.target.name || session.target.instance)}>"
  end
end
