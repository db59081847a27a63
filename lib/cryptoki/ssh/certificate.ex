defmodule Cryptoki.SSH.Certificate do
  @moduledoc false
  # What stands in an SSH certificate (OpenSSH's PROTOCOL.certkeys), from options that are checked
  # first. Pure.

  alias Cryptoki.{Options, SSH.Wire}

  @options [:type, :key_id, :principals, :serial, :comment] ++
             [:valid_after, :valid_before, :days, :hours, :critical_options, :extensions]

  # Clocks differ.
  @backdated 60
  @most 0xFFFFFFFFFFFFFFFF

  @types %{user: 1, host: 2}

  # What OpenSSH knows, of user certificates: of others a server refuses critical options and
  # ignores extensions.
  @critical_options [
    force_command: "force-command",
    source_address: "source-address",
    verify_required: "verify-required"
  ]

  @permits [
    permit_x11_forwarding: "permit-X11-forwarding",
    permit_agent_forwarding: "permit-agent-forwarding",
    permit_port_forwarding: "permit-port-forwarding",
    permit_pty: "permit-pty",
    permit_user_rc: "permit-user-rc"
  ]
  @extensions [no_touch_required: "no-touch-required"] ++ @permits
  @flags ["verify-required" | Keyword.values(@extensions)]

  @type t :: map

  @doc "The options there are."
  @spec options() :: [atom]
  def options, do: @options

  @doc "The options, checked, as the fields of a certificate; `now` in seconds."
  @spec fields!(keyword, non_neg_integer) :: t
  def fields!(options, now) do
    type = type!(options[:type])
    {valid_after, valid_before} = valid!(options, now)

    %{
      type: type,
      key_id: text!(options[:key_id], :key_id),
      principals: principals!(options[:principals]),
      serial: serial!(options[:serial]),
      comment: comment!(options[:comment]),
      valid_after: valid_after,
      valid_before: valid_before,
      critical_options:
        pairs!(options[:critical_options] || [], :critical_options, type, @critical_options),
      extensions: pairs!(options[:extensions] || extensions(type), :extensions, type, @extensions)
    }
  end

  defp extensions(:user), do: Keyword.keys(@permits)
  defp extensions(:host), do: []

  @doc "What is signed."
  @spec to_be_signed(t, Wire.key(), binary, authority :: binary) :: binary
  def to_be_signed(fields, key, nonce, authority) do
    IO.iodata_to_binary([
      Wire.string(Wire.certificate_type(key.type)),
      Wire.string(nonce),
      key.fields,
      <<fields.serial::64, @types[fields.type]::32>>,
      Wire.string(fields.key_id),
      Wire.string(Enum.map(fields.principals, &Wire.string/1)),
      <<fields.valid_after::64, fields.valid_before::64>>,
      Wire.string(Enum.map(fields.critical_options, &pair/1)),
      Wire.string(Enum.map(fields.extensions, &pair/1)),
      # Reserved.
      Wire.string(""),
      Wire.string(authority)
    ])
  end

  defp pair({name, true}), do: [Wire.string(name), Wire.string("")]
  defp pair({name, value}), do: [Wire.string(name), Wire.string(Wire.string(value))]

  ## The options

  defp type!(type) when is_map_key(@types, type), do: type
  defp type!(other), do: wrong!(:type, "must be :user or :host", other)

  defp text!(text, name) do
    if is_binary(text) and text != "" and String.valid?(text) and not (text =~ ~r/[\x00-\x1f]/),
      do: text,
      else: wrong!(name, "must be text on one line", text)
  end

  @doc "What may stand behind a key on its line."
  @spec comment!(String.t() | nil) :: String.t() | nil
  def comment!(nil), do: nil
  def comment!(""), do: ""
  def comment!(text), do: text!(text, :comment)

  # None at all is good for every name, which is nothing to come by accident.
  defp principals!(:any), do: []

  defp principals!([_ | _] = names) do
    for name <- names do
      # What separates names in ssh-keygen and in sshd's files.
      if is_binary(name) and name =~ ~r/[\s,]/,
        do: wrong!(:principals, "are names without spaces and commas", name),
        else: text!(name, :principals)
    end
  end

  defp principals!(other),
    do: wrong!(:principals, "must be a list of names, or :any for a certificate for all", other)

  # Revocation lists name certificates by it.
  defp serial!(nil), do: :binary.decode_unsigned(:crypto.strong_rand_bytes(8))
  defp serial!(serial) when serial in 0..@most, do: serial
  defp serial!(other), do: wrong!(:serial, "must be from 0 to 2^64-1", other)

  defp valid!(options, now) do
    ends =
      for {name, value} <- Keyword.take(options, [:valid_before, :days, :hours]),
          value != nil,
          do: {name, value}

    valid_after = time!(options[:valid_after], :valid_after, :always, 0)

    valid_before =
      case ends do
        [valid_before: time] -> time!(time, :valid_before, :forever, @most)
        [{unit, count}] -> (valid_after || now) + seconds!(unit, count)
        _other -> raise ArgumentError, "one of valid_before:, days: and hours: is needed"
      end

    valid_after = valid_after || max(now - @backdated, 0)

    if valid_before <= valid_after,
      do: raise(ArgumentError, "valid_before: must be later than valid_after:")

    {valid_after, valid_before}
  end

  defp time!(nil, _name, _word, _number), do: nil
  defp time!(word, _name, word, number), do: number

  defp time!(%DateTime{} = time, name, word, _number) do
    seconds = DateTime.to_unix(time)
    if seconds >= 0, do: seconds, else: no_time!(name, word, time)
  end

  defp time!(other, name, word, _number), do: no_time!(name, word, other)

  @spec no_time!(atom, atom, term) :: no_return
  defp no_time!(name, word, value),
    do: wrong!(name, "must be a DateTime from 1970 on or #{inspect(word)}", value)

  defp seconds!(:days, count), do: 24 * seconds!(:hours, count, :days)
  defp seconds!(:hours, count), do: seconds!(:hours, count, :hours)

  defp seconds!(:hours, count, _name) when is_integer(count) and count in 1..1_000_000,
    do: 3600 * count

  defp seconds!(:hours, other, name), do: wrong!(name, "must be a number above 0", other)

  # In the order of their names, each once.
  defp pairs!(pairs, option, type, known) when is_list(pairs) or is_map(pairs) do
    pairs =
      for pair <- pairs do
        {name, value} = if is_tuple(pair) and tuple_size(pair) == 2, do: pair, else: {pair, true}
        name = name!(name, option, type, known)
        {name, value!(name, value, option)}
      end

    names = Enum.map(pairs, &elem(&1, 0))

    if Enum.uniq(names) == names,
      do: Enum.sort(pairs),
      else: wrong!(option, "have a name twice", names)
  end

  defp pairs!(other, option, _type, _known),
    do: wrong!(option, "must be a list or a map", other)

  # Other people's names have the domain they are from.
  defp name!(name, option, type, known) when is_binary(name) do
    cond do
      name =~ ~r/\A[!-~]+@[!-~]+\z/ -> name
      name in Keyword.values(known) and type == :user -> name
      true -> wrong!(option, no_name(type), name)
    end
  end

  defp name!(name, option, :user, known) when is_atom(name) do
    Options.known!([{name, true}], Keyword.keys(known), "name in #{option}:")
    known[name]
  end

  defp name!(name, option, type, _known), do: wrong!(option, no_name(type), name)

  defp no_name(:host), do: "of a host certificate can be names with @ and a domain only"
  defp no_name(:user), do: "must be names of OpenSSH, or ones with @ and a domain"

  defp value!(_name, true, _option), do: true

  defp value!(name, _value, option) when name in @flags,
    do: wrong!(option, "wants #{name} without a value", name)

  defp value!("source-address" = name, value, option) do
    addresses = if is_binary(value), do: String.split(value, ","), else: value

    if is_list(addresses) and addresses != [] and Enum.all?(addresses, &network?/1),
      do: Enum.join(addresses, ","),
      else: wrong!(option, "wants addresses or networks as #{name}", value)
  end

  defp value!(_name, value, option), do: text!(value, option)

  defp network?(text) when is_binary(text) do
    {address, bits} =
      case String.split(text, "/") do
        [address] -> {address, nil}
        [address, bits] -> {address, Integer.parse(bits)}
        _other -> {"", nil}
      end

    case {:inet.parse_strict_address(to_charlist(address)), bits} do
      {{:ok, _address}, nil} -> true
      {{:ok, address}, {bits, ""}} -> bits in 0..if(tuple_size(address) == 4, do: 32, else: 128)
      _other -> false
    end
  end

  defp network?(_other), do: false

  @spec wrong!(atom, String.t(), term) :: no_return
  defp wrong!(name, text, value),
    do: raise(ArgumentError, "#{name}: #{text}, got: #{inspect(value)}")
end
