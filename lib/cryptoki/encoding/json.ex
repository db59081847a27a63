defmodule Cryptoki.JSON do
  @moduledoc false
  # JSON as JOSE needs it (RFC 8259): members in the order of their names, and no name twice, which
  # RFC 7515 section 4 leaves no other answer to. Strings and numbers, and all of reading, are left to
  # OTP's `json` where there is one (27); below stands what older releases lack.
  #
  # build/json.ex reads cargo's lines for the compile task, before this module is compiled.

  alias Cryptoki.JSON.Reader

  @compile {:no_warn_undefined, :json}

  # Objects and arrays stand in each other this deep at most, both ways.
  # As in the reader.
  @digits 400
  @levels 64

  @doc "Whether OTP has `json`."
  @spec otp?() :: boolean
  def otp? do
    # Asked once: a module that is not there is looked for on the disk each time.
    with nil <- :persistent_term.get(__MODULE__, nil) do
      there? = Code.ensure_loaded?(:json)
      :persistent_term.put(__MODULE__, there?)
      there?
    end
  end

  @doc """
  The text of maps with names as strings or atoms, lists, strings, numbers, booleans and nil. Raises
  `ArgumentError` for anything else.
  """
  @spec encode!(term) :: String.t()
  def encode!(term), do: term |> value(@levels) |> IO.iodata_to_binary()

  defp value(nil, _levels), do: "null"
  defp value(boolean, _levels) when is_boolean(boolean), do: Atom.to_string(boolean)
  defp value(integer, _levels) when is_integer(integer), do: Integer.to_string(integer)
  defp value(float, _levels) when is_float(float), do: :io_lib_format.fwrite_g(float)
  defp value(text, _levels) when is_binary(text), do: string(text)

  defp value(deep, 0) when is_list(deep) or is_map(deep) do
    raise ArgumentError, "JSON: lists and maps stand in each other at most #{@levels} deep"
  end

  # No improper one, which has no length.
  defp value(list, levels) when length(list) >= 0,
    do: [?[, Enum.map_intersperse(list, ?,, &value(&1, levels - 1)), ?]]

  defp value(map, levels) when is_map(map) and not is_struct(map) do
    members = map |> Enum.map(fn {name, value} -> {name(name), value} end) |> Enum.sort()

    case members -- Enum.uniq_by(members, &elem(&1, 0)) do
      [] ->
        [
          ?{,
          Enum.map_intersperse(members, ?,, fn {name, member} ->
            [string(name), ?:, value(member, levels - 1)]
          end),
          ?}
        ]

      [{name, _value} | _] ->
        raise ArgumentError, "JSON: the name #{inspect(name)} is there twice"
    end
  end

  # Only what kind of thing it is: it may be a secret in the wrong place.
  defp value(other, _levels),
    do: raise(ArgumentError, "JSON has no form of #{Cryptoki.Type.of(other)}")

  defp name(name) when is_binary(name), do: name
  defp name(name) when is_atom(name) and name not in [nil, true, false], do: Atom.to_string(name)
  defp name(_other), do: raise(ArgumentError, "JSON: the names of a map are strings or atoms")

  defp string(text) do
    unless String.valid?(text), do: raise(ArgumentError, "JSON: a string must be UTF-8")
    [?", escape(text), ?"]
  end

  defp escape(text) do
    if text =~ ~r/["\\\x00-\x1f]/,
      do: for(<<c::utf8 <- text>>, do: escaped(c)),
      else: text
  end

  defp escaped(c) when c in [?", ?\\], do: [?\\, c]
  defp escaped(?\n), do: "\\n"
  defp escaped(?\r), do: "\\r"
  defp escaped(?\t), do: "\\t"
  defp escaped(c) when c < 0x20, do: "\\u" <> String.pad_leading(Integer.to_string(c, 16), 4, "0")
  defp escaped(c), do: <<c::utf8>>

  @doc """
  What a text says; `:error` when it is not JSON, has a name twice in one object, or stands in itself
  more than 64 deep.
  """
  @spec decode(binary) :: {:ok, term} | :error
  def decode(text), do: if(otp?(), do: decode_by_otp(text), else: Reader.decode(text, @levels))

  # What is collected comes with the levels that are left.
  defp decode_by_otp(text) do
    decoders = %{
      null: nil,
      integer: fn digits ->
        if byte_size(digits) > @digits, do: throw(:too_long), else: String.to_integer(digits)
      end,
      object_start: fn {levels, _outer} -> {deeper(levels), %{}} end,
      object_push: fn name, value, {levels, object} ->
        if is_map_key(object, name), do: throw(:twice)
        {levels, Map.put(object, name, value)}
      end,
      object_finish: fn {_levels, object}, outer -> {object, outer} end,
      array_start: fn {levels, _outer} -> {deeper(levels), []} end,
      array_push: fn value, {levels, values} -> {levels, [value | values]} end,
      array_finish: fn {_levels, values}, outer -> {Enum.reverse(values), outer} end
    }

    {value, _outer, rest} = :json.decode(text, {@levels, nil}, decoders)
    if rest =~ ~r/\A[ \t\r\n]*\z/, do: {:ok, value}, else: :error
  rescue
    _not_json -> :error
  catch
    refused when refused in [:twice, :deep, :too_long] -> :error
  end

  defp deeper(0), do: throw(:deep)
  defp deeper(levels), do: levels - 1
end
