defmodule Cryptoki.SSH.Certificate do
  @moduledoc false
  # What stands in an SSH certificate (OpenSSH's PROTOCOL.certkeys), from options that are checked
  # first. Pure.

  alias Cryptoki.{Options, SSH.Wire}
  alias Cryptoki.Options.Table
  alias Cryptoki.SSH.SourceAddress

  # Clocks differ.
  @backdated 60
  @most 0xFFFFFFFFFFFFFFFF
  @longest 1_000_000
  # SSHKEY_CERT_MAX_PRINCIPALS of OpenSSH, which does not read a certificate with more.
  @most_principals 256

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
  @texts ["force-command", "source-address"]
  @flags ["verify-required" | Keyword.values(@extensions)]

  @type t :: map

  @doc "The options, as a table."
  @spec options() :: Table.t()
  def options do
    [
      type: [
        cast: {:one_of, [:user, :host]},
        must: ":user or :host",
        needed: true,
        type: ":user | :host",
        doc: "whom it is for, needed"
      ],
      key_id: [
        cast: :line,
        must: "text on one line",
        needed: true,
        type: "String.t()",
        doc: "text for the log of the server, needed"
      ],
      principals: [
        cast: &principals/1,
        must: "a list of names, or :any for a certificate for all",
        needed: true,
        type: "[String.t(), ...] | :any",
        doc:
          "the names of users or hosts that it is for, needed, #{@most_principals} at most; `:any` puts none " <>
            "into it, which OpenSSH before 10.3 takes for every name in places, and newer ones for no name at all"
      ],
      valid_before: [
        cast: &time(&1, :forever, @most),
        must: "a DateTime from 1970 on or :forever",
        type: "DateTime.t() | :forever",
        doc:
          "when it ends; or in its place `days:` or `hours:` from now, or from `valid_after:` on. One of " <>
            "them is needed"
      ],
      days: [
        cast: {:integer, 1, @longest},
        must: "a number above 0, at most #{@longest}",
        type: "pos_integer",
        doc: "how many days it is valid"
      ],
      hours: [
        cast: {:integer, 1, @longest},
        must: "a number above 0, at most #{@longest}",
        type: "pos_integer",
        doc: "how many hours it is valid"
      ],
      valid_after: [
        cast: &time(&1, :always, 0),
        must: "a DateTime from 1970 on or :always",
        type: "DateTime.t() | :always",
        doc: "when it begins. Default: a minute ago, since clocks differ"
      ],
      serial: [
        cast: {:integer, 0, @most},
        must: "from 0 to 2^64-1",
        type: "non_neg_integer",
        doc: "a number of 64 bits for revocation lists. Default: one by chance"
      ],
      critical_options: [
        cast: &{:ok, &1},
        must: "a list or a map",
        type: "keyword | map | [{String.t(), String.t()}]",
        default: [],
        doc:
          "of user certificates: `force_command: \"text\"`, `source_address: [\"10.0.0.0/8\"]` (addresses, and " <>
            "networks without bits behind their mask), `verify_required: true`"
      ],
      extensions: [
        cast: &{:ok, &1},
        must: "a list or a map",
        type: "[atom | String.t() | {String.t(), String.t()}] | map",
        doc:
          "of user certificates, a list of `:permit_x11_forwarding`, `:permit_agent_forwarding`, " <>
            "`:permit_port_forwarding`, `:permit_pty`, `:permit_user_rc`, which is the default, and " <>
            "`:no_touch_required`. Both options take names of others as well, with `@` and a domain: " <>
            "`[{\"login@github.com\", \"alice\"}]`"
      ],
      comment: [
        cast: &comment/1,
        must: "text on one line",
        type: "String.t()",
        doc: "what stands behind the certificate. Default: the comment of the key, or `key_id:`"
      ]
    ]
  end

  @doc "What may stand behind a key on its line."
  @spec comment(term) :: Table.casted()
  def comment(""), do: {:ok, ""}
  def comment(text), do: Table.cast(:line, text)

  # None at all is good for every name, which is nothing to come by accident.
  defp principals(:any), do: {:ok, []}
  defp principals([_ | _] = names), do: principals(names, 0, names)
  defp principals(_other), do: false

  defp principals([], count, names) when count <= @most_principals, do: {:ok, names}

  defp principals([], count, _names),
    do: {:error, "has #{count} names, and OpenSSH takes #{@most_principals} at most"}

  defp principals([name | rest], count, names) do
    cond do
      Table.cast(:line, name) == false ->
        {:error, "must be text on one line, got: #{inspect(name)}"}

      # What separates names in ssh-keygen and in sshd's files.
      name =~ ~r/[\s,]/ ->
        {:error, "are names without spaces and commas, got: #{inspect(name)}"}

      true ->
        principals(rest, count + 1, names)
    end
  end

  defp principals(_improper, _count, _names), do: false

  defp time(word, word, number), do: {:ok, number}

  defp time(%DateTime{} = time, _word, _number) do
    seconds = DateTime.to_unix(time)
    seconds >= 0 and {:ok, seconds}
  end

  defp time(_other, _word, _number), do: false

  @doc "The options, checked, as the fields of a certificate; `now` in seconds."
  @spec fields!(keyword, non_neg_integer) :: t
  def fields!(options, now) do
    type = options[:type]
    {valid_after, valid_before} = valid!(options, now)
    extensions = options[:extensions] || extensions(type)

    %{
      type: type,
      key_id: options[:key_id],
      principals: options[:principals],
      # Revocation lists name certificates by it.
      serial: options[:serial] || :binary.decode_unsigned(:crypto.strong_rand_bytes(8)),
      comment: options[:comment],
      valid_after: valid_after,
      valid_before: valid_before,
      critical_options:
        pairs!(options[:critical_options], :critical_options, type, @critical_options),
      extensions: pairs!(extensions, :extensions, type, @extensions)
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

  defp valid!(options, now) do
    begins = options[:valid_after]

    ends =
      case Keyword.take(options, [:valid_before, :days, :hours]) do
        [valid_before: seconds] -> seconds
        [days: days] -> (begins || now) + 24 * 3600 * days
        [hours: hours] -> (begins || now) + 3600 * hours
        _other -> raise ArgumentError, "one of valid_before:, days: and hours: is needed"
      end

    begins = begins || max(now - @backdated, 0)

    unless begins < ends,
      do: raise(ArgumentError, "valid_before: must be later than valid_after:")

    {begins, ends}
  end

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

  defp value!(name, true, _option) when name in @flags, do: true

  defp value!(name, _value, option) when name in @flags,
    do: wrong!(option, "wants #{name} without a value", name)

  defp value!(name, true, option) when name in @texts,
    do: wrong!(option, "wants #{name} with a value", name)

  defp value!(_name, true, _option), do: true

  defp value!("source-address" = name, value, option) do
    case SourceAddress.list(value) do
      {:ok, text} -> text
      {:error, why} -> wrong!(option, "wants addresses or networks as #{name}#{why}", value)
    end
  end

  defp value!(_name, value, option) do
    case Table.cast(:line, value) do
      {:ok, text} -> text
      false -> wrong!(option, "must be text on one line", value)
    end
  end

  @spec wrong!(atom, String.t(), term) :: no_return
  defp wrong!(name, text, value),
    do: raise(ArgumentError, "#{name}: #{text}, got: #{inspect(value)}")
end
