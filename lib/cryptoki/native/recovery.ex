defmodule Cryptoki.Recovery do
  @moduledoc false
  # What an error means for the caller and for the instance: what the table says (`Cryptoki.Answers`), and what
  # stands beside it.
  #
  # | failure                                | action       | again | what happens
  # |----------------------------------------|--------------|-------|-------------------------------
  # | `:stale_handle`, nothing executed      | `:resolve`   | 100   | look the keys up in the new epoch, run again
  # | the caller's deadline has passed       | `:answer`    | 0     | the session is overdue if it was running
  # | any answer of a login                  | `:answer`    | 0     | whatever it means, the PIN may have cost a try
  #
  # A PIN refused at the instance's own login never comes this way: see `Cryptoki.Login`.
  # Running again is safe in all rows that say so, also when other calls on the session came before: by the
  # standard the function has refused before it did anything, and what was begun is gone with the session,
  # or was cancelled. "Session handle invalid" is the handle at the time of the call, "user not logged in"
  # and "operation active" say what the call wants first, an invalid handle of an object is no object.
  # Several epochs can pass while a token reboots, one for each session that is opened anew: hence more
  # than one `:resolve` for stale handles. The caller's deadline ends it before that.
  # What the instance does when it cannot connect, or can and nothing else works: `Cryptoki.Reconnect`.

  alias Cryptoki.{Answers, Error}

  @type action :: :answer | :login | :reopened | {:resolve, attempts :: pos_integer}

  # With all C_...Init: functions that only look or prepare.
  # A login is none of them: it may have cost a try.
  @harmless ~w(C_OpenSession C_GetAttributeValue C_FindObjects C_GetObjectSize C_GetSessionInfo
               C_GetTokenInfo C_GetSlotInfo C_GetSlotList C_GetMechanismList C_GetMechanismInfo C_GetInfo
               C_WaitForSlotEvent)a

  @login_functions ~w(C_Login C_LoginUser)a

  # Of a code that is not in the table nobody knows: the PIN may have cost a try. So it may when the library has
  # crashed with it: only one that is known to be good is handed over once more.
  @tried %{untried: :not_tried, doubtful: :doubtful, refused: :refused}

  @typedoc "What became of a PIN that was handed over."
  @type tried :: :accepted | :not_tried | :doubtful | :crashed | :refused

  @doc "What an error of a login, or of an operation with one in it, says of the PIN."
  @spec tried(Error.t()) :: tried
  def tried(%Error{function: function, reason: :library_crashed})
      when function in @login_functions,
      do: :crashed

  def tried(%Error{function: function, code: code}) when function in @login_functions,
    do: @tried[(Answers.row(code) || %{pin: :refused}).pin]

  # Before the login, or in it.
  def tried(%Error{reason: :panic}), do: :doubtful
  def tried(%Error{}), do: :not_tried

  @doc "What to do about a native failure."
  @spec action(Cryptoki.Native.failure() | {:timeout, :queued | :running}) :: action
  def action({:timeout, _state}), do: :answer
  def action({:own, :stale_handle, _detail}), do: {:resolve, 100}
  def action({:own, _reason, _detail}), do: :answer
  def action({:rv, _code, _function, :login}), do: :login
  def action({:rv, _code, _function, :session}), do: :reopened

  def action({:rv, _code, function, _class}) when function in @login_functions, do: :answer

  def action({:rv, code, _function, _class}),
    do: if(match?(%{again: :lookup}, Answers.row(code)), do: {:resolve, 1}, else: :answer)

  @doc "The error as users get it: one from looking or preparing has executed nothing."
  @spec error(Cryptoki.Native.failure()) :: Error.t()
  def error(failure), do: failure |> Error.from_native() |> of_look()

  @doc "The same for one that did not come in time."
  @spec of_look(Error.t()) :: Error.t()
  def of_look(error),
    do: if(prepares?(error.function), do: %{error | executed: false}, else: error)

  @gone ~w[token_absent token_not_present device_removed token_not_recognized slot_id_invalid]a

  @doc "What callers get while the instance is not ready, for the reason that this has: nothing was called."
  @spec refused(:absent | :locked, Error.t()) :: Error.t()
  def refused(:locked, why), do: Error.new(:locked, Exception.message(why))

  def refused(:absent, %Error{code: nil} = why),
    do: %{why | function: nil, executed: false}

  def refused(:absent, %Error{reason: reason} = why) do
    reason = if reason in @gone, do: :token_absent, else: reason
    %Error{reason: reason, detail: "not connected, since #{Error.answered(why)}"}
  end

  @doc "A session that ended with this failure: another one at once, or is the token gone?"
  @spec lost(Cryptoki.Native.failure()) :: :absent | :replace
  def lost({:rv, _code, _function, class}) when class in [:absent, :not_initialized, :device],
    do: :absent

  def lost({:own, reason, _detail})
      when reason in [:library_crashed, :crashed_in_login, :no_process],
      do: :absent

  # Another token is in its slot.
  def lost({:own, :token_absent, _detail}), do: :absent
  def lost(_failure), do: :replace

  defp prepares?(nil), do: false

  defp prepares?(function) do
    function in @harmless or String.ends_with?(Atom.to_string(function), "Init")
  end
end
