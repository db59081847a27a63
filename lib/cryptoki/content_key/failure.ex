defmodule Cryptoki.ContentKey.Failure do
  @moduledoc false
  # What an error of the token is about: itself, the key and the login, which is told, or what it was given to
  # decrypt, of which nothing is told. Pure.

  alias Cryptoki.Error

  # What no ciphertext has to do with: the token, the login and the call are in no state to decrypt anything.
  @unrelated ~w[timeout busy shutdown token_absent locked key_not_found key_ambiguous session_lost stale_handle
                library_not_loaded panic unsupported pin_unavailable token_ambiguous
                session_handle_invalid session_closed user_not_logged_in user_type_invalid token_not_present
                token_not_recognized token_not_initialized device_removed slot_id_invalid device_memory host_memory
                cryptoki_not_initialized key_handle_invalid object_handle_invalid key_function_not_permitted
                key_type_inconsistent key_size_range mechanism_invalid function_not_supported function_canceled
                function_rejected action_prohibited operation_not_validated operation_active
                operation_not_initialized pin_incorrect pin_invalid pin_len_range pin_expired pin_locked pending
                node_down library_crashed]a

  # Where the token has seen what is encrypted.
  @late ~w[C_Decrypt C_DecryptUpdate C_DecryptFinal C_UnwrapKey]a

  @doc "Whether an error says nothing of a ciphertext."
  @spec unrelated?(Error.t()) :: boolean
  def unrelated?(%Error{reason: reason}) when reason in @unrelated, do: true
  def unrelated?(%Error{code: nil}), do: false
  def unrelated?(%Error{function: function}), do: function != nil and function not in @late
end
