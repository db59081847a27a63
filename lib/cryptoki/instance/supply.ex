defmodule Cryptoki.Supply do
  @moduledoc false
  # How many sessions an instance asks its token for. A token that says it has no more is not asked for
  # more until one has gone, or the pause is over; any other failure says nothing of how many there may be.
  # Pauses double while sessions are missing, and nothing but all of them ends that.

  alias Cryptoki.{Reconnect, Error}

  # What means a limit, of sessions or of what they take.
  @limits ~w[session_count device_memory token_resource_exceeded]a

  defstruct [:wanted, :limit, shortage: nil, failures: 0, timer: nil]

  @type t :: %__MODULE__{
          wanted: pos_integer,
          limit: pos_integer,
          shortage: Error.t() | nil,
          failures: non_neg_integer,
          timer: reference | nil
        }

  @spec new(pos_integer) :: t
  def new(wanted), do: %__MODULE__{wanted: wanted, limit: wanted}

  @doc "Sessions were asked for, so many are open now, and that kept the others from being opened."
  @spec asked(t, open :: non_neg_integer, shortage :: Error.t() | nil) :: t
  def asked(%__MODULE__{} = supply, _open, nil), do: %{supply | shortage: nil}

  def asked(%__MODULE__{} = supply, open, %Error{reason: reason} = shortage) do
    limit = if reason in @limits, do: open, else: supply.limit
    %{supply | shortage: shortage, limit: limit}
  end

  @doc "One is gone, which makes room, or the pause is over."
  @spec again(t) :: t
  def again(%__MODULE__{wanted: wanted} = supply), do: %{supply | limit: wanted}

  @doc "Has the calling process sent `message` when it is time to ask for those that are missing."
  @spec remind(t, open :: non_neg_integer, %{min: pos_integer, max: pos_integer}, message :: term) ::
          t
  def remind(%__MODULE__{wanted: wanted} = supply, open, _pauses, _message) when open >= wanted do
    if supply.timer, do: Process.cancel_timer(supply.timer)
    new(wanted)
  end

  def remind(%__MODULE__{timer: nil, failures: failures} = supply, _open, pauses, message) do
    pause = Reconnect.delay(%Reconnect{failures: failures + 1}, pauses)
    %{supply | failures: failures + 1, timer: Process.send_after(self(), message, pause)}
  end

  def remind(supply, _open, _pauses, _message), do: supply

  @doc "The reminder has come."
  @spec reminded(t) :: t
  def reminded(supply), do: again(%{supply | timer: nil})
end
