defmodule Cryptoki.Group.Verbs do
  @moduledoc false
  # What each verb is in a group: where it goes, whether it may run again on another member when it may have been
  # executed, and which of its arguments name keys. A verb that is not here is refused.
  #
  # Where: `:any` member that has the keys; `:home`, the one for writes when it is there, else any; `:writes`; `{:made,
  # template}`, there when the template makes an object of the token, else any; `:object`, where the key's session is,
  # else there; `:group`, answered by the group; `:member`, asked of members only.
  # Again: `:pure`; `:once`; `{:option, name}` of `failover:`; `:cipher`, by what is encrypted how.

  alias Cryptoki.{Mechanism, Names}
  alias Cryptoki.Mechanism.IV

  require Names

  @type use :: atom | {:answer, atom}
  @type row ::
          {where :: term, again :: term, keys :: [{pos_integer, use}],
           mechanism :: pos_integer | nil}

  # By their names: the modules stand above this one.
  @rows [
    {"Operations",
     sign: {:any, {:option, :sign}, [{1, :sign}], 2},
     sign_recover: {:any, {:option, :sign}, [{1, :sign_recover}], 2},
     verify: {:any, :pure, [{1, :verify}], 2},
     verify_recover: {:any, :pure, [{1, :verify_recover}], 2},
     digest: {:any, :pure, [], 1},
     random: {:any, :pure, [], nil},
     seed_random: {:writes, :once, [], nil}},
    {"Ciphers",
     encrypt: {:any, :cipher, [{1, :encrypt}], 2}, decrypt: {:any, :pure, [{1, :decrypt}], 2}},
    {"KeyTransport",
     wrap_key: {:any, {:option, :wrap_key}, [{1, :wrap}, {3, :decrypt}], 2},
     unwrap_key: {{:made, 4}, :once, [{1, :unwrap}], 2},
     derive_key: {{:made, 3}, :once, [{1, :derive}], 2},
     encapsulate_key: {{:made, 3}, :once, [{1, :encapsulate}], 2},
     decapsulate_key: {{:made, 4}, :once, [{1, :decapsulate}], 2}},
    {"Objects",
     find: {:home, :pure, [], nil},
     find_one: {:any, :pure, [{1, :any}], nil},
     attributes: {:any, :pure, [{1, :any}], nil},
     size: {:any, :pure, [{1, :any}], nil},
     public_key: {:any, :pure, [{1, {:answer, :public_key}}], nil},
     certificate: {:any, :pure, [{1, {:answer, :certificate}}], nil},
     create: {{:made, 1}, :once, [], nil},
     generate_key: {{:made, 2}, :once, [], 1},
     generate_key_pair: {{:made, 2}, :once, [], 1},
     update: {:object, :once, [{1, :any}], nil},
     copy: {:object, :once, [{1, :any}], nil},
     destroy: {:object, :once, [{1, :any}], nil}},
    {"CheckValue", check_value: {:any, :pure, [{1, :secret_key}], nil}},
    {"Import", import_key: {{:made, 2}, :once, [], nil}},
    {"Import.Certificate", import_certificate: {{:made, 2}, :once, [], nil}},
    {"Information",
     status: {:group, :pure, [], nil},
     stop: {:group, :pure, [], nil},
     library_info: {:home, :pure, [], nil},
     slots: {:home, :pure, [], nil},
     token_info: {:home, :pure, [], nil},
     mechanisms: {:home, :pure, [], nil},
     mechanism_info: {:home, :pure, [], nil},
     session: {:home, :pure, [], nil},
     validation_flags: {:home, :pure, [], nil}},
    {"Unlock", unlock: {:member, :once, [], nil}},
    {"Subscriptions", server: {:member, :once, [], nil}},
    # On a session, which is one member's.
    {"HSM", take: {:any, :once, [], nil}},
    {"Operation", restore: {:any, :once, [], nil}},
    # What is made with keys.
    {"PublicKey", to_sign_here: {:any, :pure, [{1, :sign}], nil}},
    {"JWS.Algorithm", for_key_here: {:any, :pure, [{1, {:argument, 2}}], nil}},
    {"Certificates", same_key_here: {:any, :pure, [{1, :private_key}], nil}},
    {"ContentKey.Holder", read: {:any, :pure, [{1, :wanted}], nil}},
    {"SSL", asks_for_pin: {:any, :pure, [{1, :wanted}], nil}},
    {"Transfer.Travel",
     out_here: {:any, :once, [{1, :sign}, {2, :wrap}], nil},
     into_here: {:writes, :once, [{2, :unwrap}], nil},
     through_here: {:any, :once, [{2, :unwrap}, {3, :wrap}], nil}}
  ]

  # CKA_TOKEN, which a template may say by its number.
  @token 1
  @operations Module.concat("Cryptoki", "Operations")

  @doc "What is known of a verb; `start` is that of its kind."
  @spec row(module, atom, [term]) :: row | nil
  def row(@operations, :start, [_session, :digest | _rest]), do: {:any, :once, [], 3}

  def row(@operations, :start, [_session, kind | _]),
    do: {:any, :once, [{2, key(kind)}], 3}

  def row(module, function, arguments) do
    case row(module, function) do
      {where, again, [{at, {:argument, which}}], mechanism} ->
        {where, again, [{at, Enum.at(arguments, which)}], mechanism}

      row ->
        row
    end
  end

  for {name, rows} <- @rows, module = Module.concat("Cryptoki", name), {function, row} <- rows do
    defp row(unquote(module), unquote(function)), do: unquote(Macro.escape(row))
  end

  defp row(_module, _function), do: nil

  defp key(:message_sign), do: :sign
  defp key(:message_verify), do: :verify
  defp key(:message_encrypt), do: :encrypt
  defp key(:message_decrypt), do: :decrypt
  defp key(kind) when kind in [:sign, :verify, :encrypt, :decrypt], do: kind
  # It is refused where it is begun.
  defp key(_other), do: :any

  @doc "Whether it may run again on another member though it may have been executed."
  @spec again?(term, [term], [atom]) :: boolean
  def again?(:pure, _arguments, _failover), do: true
  def again?(:once, _arguments, _failover), do: false
  def again?({:option, name}, _arguments, failover), do: name in failover

  # With an IV of the caller's it comes to the same; one of the token's is spent, and a signature beside it made.
  def again?(:cipher, [_hsm, _key, mechanism, _data, options], failover),
    do: :encrypt in failover or not (own_iv?(mechanism) or option(options, :sign) != nil)

  defp own_iv?(mechanism) do
    match?(%IV{given: :token}, Mechanism.iv(mechanism))
  rescue
    # It is refused where it runs.
    ArgumentError -> true
  end

  @doc "One of the options, which may be anything."
  @spec option(term, atom | non_neg_integer) :: term
  def option(%{} = options, name), do: Map.get(options, name)

  def option(options, name) when Names.is_proper_list(options) do
    case List.keyfind(options, name, 0) do
      {_name, value} -> value
      # What is no option is refused where it runs.
      _none -> nil
    end
  end

  def option(_other, _name), do: nil

  @doc "Whether a template makes an object of the token."
  @spec of_token?(term) :: boolean
  def of_token?(template) do
    Enum.any?([template, option(template, :public), option(template, :private)], fn part ->
      Enum.any?([:token, @token], &(option(part, &1) not in [nil, false, 0, <<0>>]))
    end)
  end
end
