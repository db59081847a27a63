# One argument of a mechanism as a field of a C structure, by its type.
#
#     :bytes       a pointer; size: n, list or range, multiple_of: n, inline: true (an array),
#                  inout: true (a pointer to bytes that the token may write)
#     :c_string    a pointer to bytes that end with 0
#     :ulong       CK_ULONG; in: list or range            :byte, :boolean
#     :name        a number with a name; of: its kind     :hash, the name of a hash mechanism
#     :choice      one of a few; of: [name: number]       :flags, a list; of: their structure
#     :key         CK_OBJECT_HANDLE                       :version, a pointer to CK_VERSION
#     :struct      a pointer; of: a structure             :mechanism, a pointer to CK_MECHANISM
#     :tagged      an array of {type, pointer, length}; kind: of the types, of: [type: argument]
#     :templates   an array of {attributes, their number, pointer to the handle of a new key}
#     :room        a pointer to bytes; size: n; `:read` for those that the token writes there
defmodule Cryptoki.Mechanism.Field do
  @moduledoc false

  import Cryptoki.Names, only: [is_name: 1, is_proper_list: 1]

  alias Cryptoki.{Attribute, Names, Type}
  alias Cryptoki.Mechanism.{Hash, OutOfRange}

  @type t ::
          {:ulong | :byte, non_neg_integer}
          | {:bool, boolean}
          | {:bytes, binary | nil}
          | {:inline | :inout, binary}
          | {:handle, term}
          | {:new_handle, nil}
          | {:template, Attribute.wire()}
          | {:struct | :nested, [t]}
          | {:array, [[t]]}

  # CK_ULONG and pointers are as wide as a word wherever the Erlang VM runs on a Unix.
  @word :erlang.system_info(:wordsize)
  @largest Bitwise.bsl(1, 8 * @word) - 1

  @doc """
  The members of a structure; raises when structures, arrays and templates in it stand in each other
  deeper than the native code takes them. What else is wrong with them is for the native code to say.
  """
  @spec bounded!([t], String.t()) :: [t]
  def bounded!(fields, where) do
    if deep?(fields, Attribute.levels()), do: too_deep!(where)
    fields
  end

  @spec too_deep!(String.t()) :: no_return
  def too_deep!(where) do
    levels = Attribute.levels()
    raise ArgumentError, "#{where}: structures stand in each other at most #{levels} deep"
  end

  defp deep?(_members, 0), do: true

  defp deep?(members, levels) when is_proper_list(members),
    do: Enum.any?(members, &deep_member?(&1, levels - 1))

  defp deep?(_other, _levels), do: false

  defp deep_member?({:array, elements}, levels) when is_proper_list(elements),
    do: Enum.any?(elements, &deep?(&1, levels))

  # A structure, or an attribute that is a template.
  defp deep_member?({_struct, members}, levels) when is_proper_list(members),
    do: deep?(members, levels)

  defp deep_member?({_attribute, {:template, template}}, levels), do: deep?(template, levels)
  defp deep_member?(_other, _levels), do: false

  @doc "What an argument that was not given is in C."
  @spec absent(atom) :: t
  def absent(:key), do: {:ulong, 0}
  def absent(_), do: {:bytes, nil}

  @doc "A value as a field. A mistake says where, what was expected and what type was given."
  @spec encode!(atom, keyword, term, String.t()) :: t
  def encode!(:bytes, options, value, where) when is_binary(value) do
    size = byte_size(value)
    sizes = List.wrap(options[:size])
    block = options[:multiple_of] || 1

    if options[:size] && !Enum.any?(sizes, &fits?(size, &1)),
      do: out_of_range(where, "#{span(options[:size])} bytes", size)

    if rem(size, block) != 0, do: out_of_range(where, "a multiple of #{block} bytes", size)

    cond do
      options[:inline] -> {:inline, value}
      options[:inout] -> {:inout, value}
      true -> {:bytes, value}
    end
  end

  def encode!(:c_string, _, value, _) when is_binary(value), do: {:bytes, value <> <<0>>}
  def encode!(:boolean, _, value, _) when is_boolean(value), do: {:bool, value}
  def encode!(:byte, _, value, _) when value in 0..255, do: {:byte, value}
  def encode!(:key, _, {:handle, handle}, _), do: {:handle, handle}

  def encode!(:ulong, options, value, where) when is_integer(value) do
    allowed = options[:in] || 0..@largest
    if value not in allowed, do: out_of_range(where, expected(:ulong, options), value)
    {:ulong, value}
  end

  def encode!(type, _, value, _) when type in [:name, :hash, :flags] and value in 0..@largest,
    do: {:ulong, value}

  def encode!(:name, options, value, where) when is_name(value) do
    kind = options[:of]
    {:ulong, code!(Names.code(kind, value), expected(:name, options), kind, value, where)}
  end

  def encode!(:hash, _, value, where) when is_name(value) do
    code = if value in Hash.names(), do: Names.code(:mechanism, value), else: :error
    {:ulong, code!(code, expected(:hash, []), Hash.names(), value, where)}
  end

  def encode!(:choice, options, value, where) when is_name(value) do
    code = Keyword.fetch(options[:of], value)
    {:ulong, code!(code, expected(:choice, options), [], value, where)}
  end

  def encode!(:flags, options, values, where) when is_proper_list(values) do
    kind = {:flag, options[:of]}

    bits =
      for value <- values do
        if not is_name(value), do: fail(where, "names of flags", Type.of(value))
        code!(Names.code(kind, value), "the name of a flag", kind, value, where)
      end

    {:ulong, Enum.reduce(bits, 0, &Bitwise.bor/2)}
  end

  def encode!(:version, _, {major, minor}, _) when major in 0..255 and minor in 0..255,
    do: {:struct, [{:byte, major}, {:byte, minor}]}

  # The token says there which version the pre-master key was made for.
  def encode!(:version, _, :read, _), do: {:inout, <<0, 0>>}

  def encode!(:room, options, :read, _), do: {:inout, <<0::unit(8)-size(options[:size])>>}
  def encode!(:room, options, value, where), do: encode!(:bytes, options, value, where)

  def encode!(:templates, _, templates, where) when is_proper_list(templates) do
    elements =
      for {template, n} <- Enum.with_index(templates, 1) do
        wire = template!(template, "#{where}: template #{n}")
        [template: wire, ulong: length(wire), struct: [new_handle: nil]]
      end

    {:array, elements}
  end

  def encode!(type, options, value, where),
    do: fail(where, expected(type, options), Type.of(value))

  defp template!(template, where) do
    Attribute.encode!(template)
  rescue
    error in ArgumentError ->
      reraise ArgumentError, [message: "#{where}: #{error.message}"], __STACKTRACE__
  end

  @doc "There is no such tag."
  @spec no_tag!(atom, keyword, String.t()) :: no_return
  def no_tag!(tag, options, where),
    do: fail(where, "one of #{list(Keyword.keys(options[:of]))}", inspect(tag))

  @doc "The element `{type, pointer, length}` of an array, for a field and the name of its type."
  @spec tagged(Names.kind(), atom, t) :: [t]
  def tagged(kind, tag, field),
    do: [{:ulong, Names.code!(kind, tag)} | pointer_and_size(field)]

  @doc "A void pointer and what it points to the length of."
  @spec pointer_and_size(t | [t] | binary | nil) :: [t]
  def pointer_and_size({:bytes, bytes}), do: pointer_and_size(bytes)
  def pointer_and_size({:struct, fields}), do: pointer_and_size(fields)
  def pointer_and_size(nil), do: [{:bytes, nil}, {:ulong, 0}]
  def pointer_and_size(field) when is_tuple(field), do: pointer_and_size([field])

  def pointer_and_size(bytes) when is_binary(bytes),
    do: [{:bytes, bytes}, {:ulong, byte_size(bytes)}]

  def pointer_and_size(fields), do: [{:struct, fields}, {:ulong, sizeof(fields)}]

  # What C's sizeof says of a structure with natural alignment.
  defp sizeof(fields) do
    {size, alignment} =
      Enum.reduce(fields, {0, 1}, fn field, {at, alignment} ->
        {size, align} = extent(field)
        {up(at, align) + size, max(alignment, align)}
      end)

    up(size, alignment)
  end

  defp extent({type, _}) when type in [:bool, :byte], do: {1, 1}
  defp extent({:inline, bytes}), do: {byte_size(bytes), 1}
  defp extent({:nested, fields}), do: {sizeof(fields), @word}
  defp extent(_), do: {@word, @word}

  defp up(size, align), do: div(size + align - 1, align) * align

  defp fits?(size, size), do: true
  defp fits?(_, exact) when is_integer(exact), do: false
  defp fits?(size, range), do: size in range

  defp code!({:ok, code}, _, _, _, _), do: code

  defp code!(:error, expected, candidates, value, where),
    do: fail(where, expected, inspect(value) <> Names.hint(candidates, value))

  defp expected(:bytes, _), do: "a binary"
  defp expected(:c_string, _), do: "a string"
  defp expected(:boolean, _), do: "a boolean"
  defp expected(:byte, _), do: "an integer, 0 to 255"
  defp expected(:key, _), do: "a key"
  defp expected(:hash, _), do: "the name of a hash or its number"
  defp expected(:name, options), do: "the name of #{Names.in_words(options[:of])} or its number"
  defp expected(:choice, options), do: "one of #{list(Keyword.keys(options[:of]))}"
  defp expected(:flags, _), do: "a list of flags or their number"
  defp expected(:version, _), do: "{major, minor}, or :read for what the token says"
  defp expected(:templates, _), do: "a list of templates"
  defp expected(:tagged, _), do: "a list"

  defp expected(:ulong, options) do
    case options[:in] do
      nil -> "an integer of at least 0 that fits CK_ULONG"
      allowed -> "an integer, #{span(allowed)}"
    end
  end

  defp span(first..last//_), do: "#{first} to #{last}"
  defp span(list) when is_list(list), do: Enum.join(list, " or ")
  defp span(only), do: "#{only}"

  defp list(names), do: Enum.map_join(names, ", ", &inspect/1)

  @spec out_of_range(String.t(), String.t(), integer) :: no_return
  defp out_of_range(where, expected, got),
    do: raise(OutOfRange, message: "#{where}: expected #{expected}, got #{got}")

  @doc "Says where, what was expected and what was given."
  @spec fail(String.t(), String.t(), String.t()) :: no_return
  def fail(where, expected, got) do
    raise ArgumentError, "#{where}: expected #{expected}, got #{got}"
  end
end
