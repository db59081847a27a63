defmodule Cryptoki.Group.Failure do
  @moduledoc false
  # What an error of a member says of the member, and with it whether another one may be asked.
  #
  # | what        | of the member                                   | another one                                |
  # |-------------|-------------------------------------------------|--------------------------------------------|
  # | `:call`     | it is well: any member would have answered so   | no                                         |
  # | `:full`     | it is well; so is one in whose queue a call was | yes                                        |
  # | `:key`      | it has not the key that it had                  | yes, and the key is looked for again       |
  # | `:pin`      | out: the next try of a PIN is a person's        | no: the PIN would be tried there as well   |
  # | `:gone`     | out                                             | yes, if nothing was executed or it is pure |
  # | `:device`   | out after three without a success between them  | the same                                   |
  # | `:overdue`  | the same                                        | the same                                   |

  alias Cryptoki.Error

  @type t :: :call | :full | :key | :pin | :gone | :device | :overdue

  @gone ~w[token_absent locked shutdown node_down library_not_loaded library_crashed token_ambiguous
           device_removed token_not_present token_not_recognized token_not_initialized slot_id_invalid
           cryptoki_not_initialized fips_self_test_failed]a
  @device ~w[general_error function_failed device_error device_memory host_memory session_lost session_closed
             session_handle_invalid session_count stale_handle token_resource_exceeded user_not_logged_in
             panic module_misbehaved library_load_failed]a
  @pin ~w[pin_incorrect pin_invalid pin_len_range pin_expired pin_locked pin_unavailable
          user_pin_not_initialized]a
  @key ~w[key_not_found key_ambiguous key_handle_invalid object_handle_invalid]a

  @doc "What it is; `:key` only of a call whose keys the group has looked up."
  @spec of(Error.t()) :: t
  def of(%Error{reason: :busy}), do: :full
  # It has waited for its turn, which says that there are many.
  def of(%Error{reason: :timeout, executed: false}), do: :full
  def of(%Error{reason: :timeout}), do: :overdue
  def of(%Error{reason: reason}) when reason in @pin, do: :pin
  def of(%Error{reason: reason}) when reason in @gone, do: :gone
  def of(%Error{reason: reason}) when reason in @device, do: :device
  def of(%Error{reason: reason}) when reason in @key, do: :key
  # The vendor's: a cluster that has lost its device, say.
  def of(%Error{reason: reason}) when is_integer(reason), do: :device
  def of(%Error{}), do: :call

  @doc "Whether another member may run the call."
  @spec over?(t, Error.t(), pure :: boolean) :: boolean
  def over?(what, _error, _pure) when what in [:call, :pin], do: false
  def over?(_what, %Error{executed: false}, _pure), do: true
  def over?(_what, _error, pure), do: pure
end
