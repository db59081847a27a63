defmodule Cryptoki.Recovery do
  @moduledoc false
  # What an error means for the caller and for the instance: the one table.
  #
  # | failure                                | action       | again | what happens
  # |----------------------------------------|--------------|-------|-------------------------------
  # | `:session` session handle invalid      | `:reopened`  | 1     | the session thread has reopened, and tried again if the call names no object; else look the keys up, run again; other sessions are looked at first
  # | `:operation_active`                    | `:answer`    | 0     | the session thread has cancelled and tried again once
  # | `:login` user not logged in            | `:login`     | 1     | log in, run again
  # | `:stale_handle`, nothing executed      | `:resolve`   | 100   | look the keys up in the new epoch, run again
  # | object or key handle invalid           | `:resolve`   | 1     | somebody else destroyed it; look it up, run again
  # | `:absent` token gone                   | `:answer`    | 0     | the session ends and the instance goes absent, see `lost/1`
  # | `:not_initialized` somebody finalised  | `:answer`    | 0     | the same
  # | `:pin` at a context-specific login     | `:answer`    | 0     | the caller's PIN, the caller's error
  # | the caller's deadline has passed       | `:answer`    | 0     | the session is overdue if it was running
  # | `:device`, everything else             | `:answer`    | 0     | the caller gets the error
  #
  # A PIN refused at the instance's own login never comes this way: see `Cryptoki.Login`.
  # Running again is safe in all of these: the library has refused before it did anything. Several
  # epochs can pass while a token reboots, one for each session that is opened anew: hence more than
  # one `:resolve` for stale handles. The caller's deadline ends it before that.
  #
  # What the instance does when it cannot connect, or can and nothing else works, is here as well:
  # `delay/2`, `reinitialize?/2` and `stuck/2`.

  alias Cryptoki.Error

  @type action :: :answer | :login | :reopened | {:resolve, attempts :: pos_integer}

  @object_handle_invalid 0x82
  @key_handle_invalid 0x60

  # With all C_...Init: functions that only look or prepare.
  @harmless ~w(C_OpenSession C_Login C_LoginUser C_GetAttributeValue C_FindObjects
               C_GetObjectSize C_GetSessionInfo C_GetTokenInfo C_GetSlotInfo C_GetSlotList)a

  @doc "What to do about a native failure."
  @spec action(Cryptoki.Native.failure() | {:timeout, :queued | :running}) :: action
  def action({:timeout, _state}), do: :answer
  def action({:own, :stale_handle, _detail}), do: {:resolve, 100}
  def action({:own, _reason, _detail}), do: :answer
  def action({:rv, _code, _function, :login}), do: :login
  def action({:rv, _code, _function, :session}), do: :reopened

  def action({:rv, code, _function, _class})
      when code in [@object_handle_invalid, @key_handle_invalid],
      do: {:resolve, 1}

  def action({:rv, _code, _function, _class}), do: :answer

  @doc "The error as users get it: one from looking or preparing has executed nothing."
  @spec error(Cryptoki.Native.failure()) :: Error.t()
  def error(failure) do
    error = Error.from_native(failure)
    if prepares?(error.function), do: %{error | executed: false}, else: error
  end

  @doc "A session that ended with this failure: another one at once, or is the token gone?"
  @spec lost(Cryptoki.Native.failure()) :: :absent | :replace
  def lost({:rv, _code, _function, class}) when class in [:absent, :not_initialized, :device],
    do: :absent

  def lost(_failure), do: :replace

  # OpenSC 0.23 answers CKR_GENERAL_ERROR for ever after pcscd was restarted.
  @troubles [:device_error, :function_failed, :general_error]
  @patience 3

  @doc "How many troubles of the library in a row this error makes, after so many before it."
  @spec troubles(Error.t(), non_neg_integer) :: non_neg_integer
  def troubles(%Error{reason: reason}, before)
      when reason in [:cryptoki_not_initialized | @troubles],
      do: before + 1

  def troubles(_error, _before), do: 0

  @doc "Whether the library is to be initialised anew, after so many troubles of which this was the last."
  @spec reinitialize?(Error.t() | nil, non_neg_integer) :: boolean
  def reinitialize?(%Error{reason: :cryptoki_not_initialized}, troubles), do: troubles > 0
  def reinitialize?(_error, troubles), do: troubles > 0 and rem(troubles, @patience) == 0

  # What an error of these says may be about the caller's data: CKR_GENERAL_ERROR for a bad ciphertext.
  @by_data ~w(Decrypt Verify UnwrapKey DeriveKey Decapsulate)
  @device_error 0x30

  @typedoc "Sessions opened anew for device errors in a row, and how much had worked before."
  @type fruitless :: {worked :: non_neg_integer, count :: non_neg_integer}

  @doc "Counts one more, which begins anew when anything has worked."
  @spec fruitless(Cryptoki.Native.failure(), worked :: non_neg_integer, fruitless) :: fruitless
  def fruitless({:rv, code, function, :device}, worked, {before, count} = known) do
    cond do
      code != @device_error and String.contains?(Atom.to_string(function), @by_data) -> known
      worked != before -> {worked, 1}
      true -> {before, count + 1}
    end
  end

  @doc """
  Whether connecting works and nothing else does, now that one more is counted: then what the
  token server counts, so that the library is initialised anew next, after a growing delay.
  """
  @spec stuck(fruitless, fruitless) ::
          {:stuck, %{failures: non_neg_integer, troubles: non_neg_integer}} | :no
  def stuck(same, same), do: :no

  def stuck(_before, {_worked, count}) when rem(count, @patience) == 0,
    do: {:stuck, %{failures: div(count, @patience) - 1, troubles: count - 1}}

  def stuck(_before, _now), do: :no

  @doc """
  Milliseconds until the next attempt to connect: doubles from `min` to `max`, less up to a half of
  it, so that instances do not knock in step.
  """
  @spec delay(%{min: pos_integer, max: pos_integer}, failures :: non_neg_integer) :: pos_integer
  def delay(%{min: min, max: max}, failures) do
    full = min(max, min * Integer.pow(2, min(failures, 20)))
    full - :rand.uniform(div(full, 2) + 1) + 1
  end

  defp prepares?(nil), do: false

  defp prepares?(function) do
    function in @harmless or String.ends_with?(Atom.to_string(function), "Init")
  end
end
