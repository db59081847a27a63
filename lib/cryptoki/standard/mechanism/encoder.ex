# The arguments of a mechanism, checked and put into the members of its C structure.
#
# A structure is a keyword list: `arguments` in the order people read them, `name: type` or
# `name: {type, options}`, and `layout`, the members of the C structure in their order, each with
# its source:
#
#     :iv                      the argument, as its type goes into C
#     {:size, :iv}             its length in bytes; {:bits, :iv} in bits
#     {:count, :data}          how many elements it has
#     {:given, :key}           whether it was given, a CK_BBOOL
#     {:which, [key: 4], 1}    the number of the first one given, or the last number
#     {:nested, layout}        a structure by value; {:pointer, layout} a pointer to one
#     {:room_for_bits, :n}     a pointer to as many bits that the token writes; {:room_for_bytes, :n}
#     {:each_given, kind, [:pin]}, {:count_given, [:pin]}   an array of {type, pointer, length}
#     {:ulong, 1}, {:bytes, nil}                            always this
#     {:new_handle, nil}       where the token puts the handle of a key it makes
#
# or `{:raw, :iv}`: the parameter is the argument's bytes.
#
# `answer` says what comes back in the parameter, for `Cryptoki.Beside`.
#
# `iv` names the argument that is the IV, `tag` the one that says how long the tag is, in bits or bytes,
# or how many bytes it has.
#
# Options of an argument: `none` (an IV may be left to the token), `token` (how many bytes it then has),
# `default`, `derive` (from others), `optional` (NULL when not given),
# `as` (other names), `not_with`, and what `Cryptoki.Mechanism.Field` says of its type.
defmodule Cryptoki.Mechanism.Encoder do
  @moduledoc false

  import Cryptoki.Names, only: [is_name: 1, is_proper_list: 1]

  alias Cryptoki.Mechanism.{Field, Hash}
  alias Cryptoki.Names
  alias Cryptoki.Type

  # Nobody asks a token for more in a parameter.
  @room 65_536

  @type structure :: keyword
  @type given :: %{optional(atom) => term}

  @doc """
  The parameter of a mechanism. `where` starts every error message; `context` says what derived
  arguments need to know.
  """
  @spec encode!(structure, given, String.t(), keyword) :: binary | [Field.t()]
  def encode!(structure, given, where, context) do
    arguments = structure[:arguments]
    {values, fields} = fields!(arguments, rename!(arguments, given, where), where, context)
    complete!(arguments, values, where)

    case structure[:layout] do
      {:raw, name} -> elem(Map.fetch!(fields, name), 1)
      layout -> members(layout, fields)
    end
  end

  @doc "The type of an argument by any of its names."
  @spec type(keyword, atom) :: atom | nil
  def type(arguments, name) do
    with {_, type} <- find(arguments, name), do: kind(type)
  end

  @doc "What an argument was given, by any of its names, or its default."
  @spec given(keyword, atom, given) :: term
  def given(arguments, own, given) do
    options = options(arguments[own])
    Enum.find_value([own | options[:as] || []], options[:default], &given[&1])
  end

  @doc "The options of an argument."
  @spec options(keyword, atom) :: keyword
  def options(arguments, own), do: options(arguments[own])

  @doc "Arguments as a map: names that are atoms, each once."
  @spec pairs!(term, String.t()) :: given
  def pairs!(arguments, where) when is_proper_list(arguments) or is_map(arguments) do
    Enum.reduce(if(is_struct(arguments), do: [arguments], else: arguments), %{}, fn
      {name, _}, done when is_map_key(done, name) -> twice(name, where)
      {name, value}, done when is_atom(name) -> Map.put(done, name, value)
      _, _ -> raise ArgumentError, "#{where}: arguments are a keyword list or a map"
    end)
  end

  def pairs!(other, where) do
    type = Type.of(other)
    raise ArgumentError, "#{where}: expected a keyword list or a map, got #{type}"
  end

  defp rename!(arguments, given, where) do
    Enum.reduce(given, %{}, fn {name, value}, done ->
      case find(arguments, name) do
        {own, _} when is_map_key(done, own) -> twice(own, where)
        {own, _} -> Map.put(done, own, value)
        nil -> unknown(arguments, name, where)
      end
    end)
  end

  defp find(arguments, name) do
    Enum.find(arguments, fn {own, type} -> name == own or name in (options(type)[:as] || []) end)
  end

  @spec twice(atom, String.t()) :: no_return
  defp twice(name, where) do
    raise ArgumentError, "#{where}: argument #{inspect(name)} is given twice"
  end

  @spec unknown(keyword, atom, String.t()) :: no_return
  defp unknown(arguments, name, where) do
    names = Enum.flat_map(arguments, fn {own, type} -> [own | options(type)[:as] || []] end)
    near = Names.hint(names, name)
    raise ArgumentError, "#{where}: there is no argument #{inspect(name)}#{near}"
  end

  # Values (given, derived from those before, or the default) and the fields made of them, which
  # are `{:absent, field}` without a value.
  defp fields!(arguments, given, where, context) do
    Enum.reduce(arguments, {%{}, %{}}, fn {name, type}, {values, fields} ->
      options = options(type)
      value = value(own(given[name], options, context), options, values, context)
      field = field!(name, type, value, given, where, context)
      {Map.put(values, name, value), Map.put(fields, name, field)}
    end)
  end

  # An IV that the token is to choose: bytes that it writes over, or none.
  defp own(:token, options, context) do
    case {options[:token], context[:iv]} do
      {size, :over} when size != nil -> <<0::unit(8)-size(size)>>
      {_size, :behind} -> ""
      _not_here -> :token
    end
  end

  defp own(given, _, _), do: given

  defp complete!(arguments, values, where) do
    missing =
      for {name, type} <- arguments,
          values[name] == nil and options(type)[:optional] != true,
          not waits?(options(type)[:derive], values),
          do: name

    if missing != [] do
      takes = Enum.map_join(arguments, ", ", fn {name, _} -> "#{name}:" end)
      raise ArgumentError, "#{where}: #{missing(missing)} missing; it takes #{takes}"
    end
  end

  # What derives from a missing argument is not missing itself.
  defp waits?({_, other}, values), do: values[other] == nil
  defp waits?(_, _), do: false

  defp value(nil, options, values, context) do
    with nil <- derive(options[:derive], values, context), do: options[:default]
  end

  defp value(given, _, _, _), do: given

  defp derive(nil, _, _), do: nil
  defp derive(:hash_of_mechanism, _, context), do: Hash.of_mechanism(context[:mechanism])
  defp derive({:mgf_of, name}, values, _), do: Hash.mgf(hash(values[name]))
  defp derive({:digest_size_of, name}, values, _), do: Hash.size(hash(values[name]))

  defp derive({:plaintext_size, mac}, values, context) do
    case {context[:plaintext_size], context[:ciphertext_size], values[mac]} do
      {nil, size, mac} when is_integer(size) and is_integer(mac) -> max(size - mac, 0)
      {size, _, _} -> size
    end
  end

  defp hash(code) when is_integer(code), do: Names.name(:mechanism, code)
  defp hash(name), do: name

  defp missing([name]), do: "argument #{inspect(name)} is"
  defp missing(names), do: "arguments #{Enum.map_join(names, " and ", &inspect/1)} are"

  defp field!(_, type, nil, _, _, _), do: {:absent, Field.absent(kind(type))}

  defp field!(name, type, value, given, where, context) do
    # None at all, which only makes sense where the token may choose one.
    if value == "" and options(type)[:none] && context[:direction] == :out,
      do: {:inout, ""},
      else: given!(name, type, value, given, where, context[:nested])
  end

  defp given!(name, type, value, given, where, nested) do
    other = options(type)[:not_with]

    if other && given[other] != nil do
      raise ArgumentError, "#{where}: give #{inspect(name)} or #{inspect(other)}, not both"
    end

    where = where <> ": argument " <> Names.shown(name)
    value!(kind(type), options(type), value, where, nested)
  end

  # What has others in it; whatever has not is a field.

  defp value!(:struct, options, value, where, nested),
    do: {:struct, encode!(options[:of], pairs!(value, where), where, nested: nested)}

  defp value!(:mechanism, _, spec, where, nested) do
    {code, parameter} = nested.(spec)
    {:struct, [{:ulong, code} | Field.pointer_and_size(parameter)]}
  rescue
    error in ArgumentError ->
      reraise ArgumentError, [message: "#{where}: #{error.message}"], __STACKTRACE__
  end

  defp value!(:tagged, options, values, where, nested) when is_proper_list(values),
    do: {:array, Enum.map(values, &element!(&1, options, where, nested))}

  defp value!(type, options, value, where, _nested),
    do: Field.encode!(type, options, value, where)

  defp element!(tag, options, where, nested) when is_name(tag),
    do: element!({tag, nil}, options, where, nested)

  defp element!({tag, value}, options, where, nested) when is_name(tag) do
    type = options[:of][tag] || Field.no_tag!(tag, options, where)
    settings = options(type)

    field =
      if value == nil and settings[:optional],
        do: Field.absent(kind(type)),
        else: value!(kind(type), settings, value, "#{where}: #{inspect(tag)}", nested)

    Field.tagged(options[:kind], tag, field)
  end

  defp element!(value, _, where, _nested),
    do: Field.fail(where, "a list of {tag, value}", Type.of(value))

  defp kind({type, _}), do: type
  defp kind(type), do: type

  defp options({_, options}), do: options
  defp options(_), do: []

  # Members of the C structure.

  defp members(layout, fields), do: for({_, source} <- layout, do: member(source, fields))

  defp member(name, fields) when is_atom(name) do
    with {:absent, field} <- Map.fetch!(fields, name), do: field
  end

  defp member({:size, name}, fields), do: {:ulong, size(fields[name])}
  defp member({:bits, name}, fields), do: {:ulong, 8 * size(fields[name])}
  defp member({:given, name}, fields), do: {:bool, given?(fields[name])}
  defp member({:nested, layout}, fields), do: {:nested, members(layout, fields)}
  defp member({:pointer, layout}, fields), do: {:struct, members(layout, fields)}

  defp member({:room_for_bits, name}, fields), do: room(div(number(name, fields) + 7, 8))
  defp member({:room_for_bytes, name}, fields), do: room(number(name, fields))
  defp member({:count, name}, fields), do: {:ulong, length(elem(fields[name], 1))}

  defp member({:which, numbers, none}, fields) do
    {:ulong, Enum.find_value(numbers, none, fn {name, n} -> given?(fields[name]) && n end)}
  end

  defp member({:each_given, kind, names}, fields) do
    {:array, for(name <- names, given?(fields[name]), do: Field.tagged(kind, name, fields[name]))}
  end

  defp member({:count_given, names}, fields), do: {:ulong, Enum.count(names, &given?(fields[&1]))}
  defp member({type, _} = always, _) when type in [:ulong, :bytes, :new_handle], do: always

  defp number(name, fields) do
    {:ulong, number} = Map.fetch!(fields, name)
    number
  end

  defp room(size) when size in 0..@room, do: {:inout, <<0::unit(8)-size(size)>>}
  defp room(size), do: raise(ArgumentError, "no token gives #{size} bytes at a time")

  defp size({:absent, _}), do: 0
  defp size({_, bytes}), do: byte_size(bytes)

  defp given?(field), do: not match?({:absent, _}, field)
end
