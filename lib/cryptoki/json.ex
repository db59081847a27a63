defmodule Cryptoki.JSON do
  @moduledoc false
  # JSON as JOSE needs it (RFC 8259): members in the order of their names, and no name twice, which
  # RFC 7515 section 4 leaves no other answer to. Strings and numbers, and all of reading, are left to
  # OTP's `json` where there is one (27); below stands what older releases lack.
  #
  # build/json.ex reads cargo's lines for the compile task, before this module is compiled.

  alias Cryptoki.JSON.Reader

  @compile {:no_warn_undefined, :json}

  @doc "Whether OTP has `json`."
  @spec otp?() :: boolean
  def otp?, do: Code.ensure_loaded?(:json)

  @doc """
  The text of maps with names as strings or atoms, lists, strings, numbers, booleans and nil. Raises
  `ArgumentError` for anything else.
  """
  @spec encode!(term) :: String.t()
  def encode!(term), do: term |> value() |> IO.iodata_to_binary()

  defp value(nil), do: "null"
  defp value(boolean) when is_boolean(boolean), do: Atom.to_string(boolean)
  defp value(integer) when is_integer(integer), do: Integer.to_string(integer)
  defp value(float) when is_float(float), do: :io_lib_format.fwrite_g(float)
  defp value(text) when is_binary(text), do: string(text)
  defp value(list) when is_list(list), do: [?[, Enum.map_intersperse(list, ?,, &value/1), ?]]

  defp value(map) when is_map(map) and not is_struct(map) do
    members = map |> Enum.map(fn {name, value} -> {name(name), value} end) |> Enum.sort()

    case members -- Enum.uniq_by(members, &elem(&1, 0)) do
      [] ->
        [
          ?{,
          Enum.map_intersperse(members, ?,, &[string(elem(&1, 0)), ?:, value(elem(&1, 1))]),
          ?}
        ]

      [{name, _value} | _] ->
        raise ArgumentError, "JSON: the name #{inspect(name)} is there twice"
    end
  end

  # Only what kind of thing it is: it may be a secret in the wrong place.
  defp value(other),
    do: raise(ArgumentError, "JSON has no form of #{Cryptoki.Pin.kind_of(other)}")

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

  @doc "What a text says; `:error` when it is not JSON, or has a name twice in one object."
  @spec decode(binary) :: {:ok, term} | :error
  def decode(text), do: if(otp?(), do: decode_by_otp(text), else: Reader.decode(text))

  defp decode_by_otp(text) do
    decoders = %{
      null: nil,
      object_start: fn _outer -> %{} end,
      object_push: fn name, value, object ->
        if is_map_key(object, name), do: throw(:twice), else: Map.put(object, name, value)
      end,
      object_finish: fn object, outer -> {object, outer} end
    }

    {value, _outer, rest} = :json.decode(text, nil, decoders)
    if rest =~ ~r/\A[ \t\r\n]*\z/, do: {:ok, value}, else: :error
  rescue
    _not_json -> :error
  catch
    :twice -> :error
  end
end
