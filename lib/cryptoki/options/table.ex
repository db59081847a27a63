defmodule Cryptoki.Options.Table do
  @moduledoc false
  # Tables of options, of which each row says all that there is to say of one: what is checked, what is
  # documented, and the types come from them. Pure.
  #
  #     padding: [cast: {:one_of, [:pkcs1, :pss]}, must: ":pkcs1 (default) or :pss", type: ":pkcs1 | :pss", doc: "..."]
  #
  # `cast:` is one of the kinds below, or a function of the value; both give `{:ok, value}`, `{:error,
  # sentence}`, or `false` for what is not what it `must:` be. `default:`, `needed: true` and `secret: true` (a
  # value that no message shows) may be there.

  alias Cryptoki.Pin
  alias Cryptoki.Type

  # The longest time that a `receive` can wait.
  @forever 0xFFFFFFFF

  @type row :: keyword
  @type t :: [{atom, row}]
  @type casted :: {:ok, term} | {:error, String.t()} | false
  @type cast :: (kind :: term, value :: term -> casted)

  @doc "Options, checked, with their defaults; each option of the table is there, `nil` without a value."
  @spec cast!(term, t, what :: String.t(), cast) :: %{atom => term}
  def cast!(options, table, what, cast \\ &cast/2) do
    unless is_map(options) or Keyword.keyword?(options) do
      raise ArgumentError, "expected a keyword list or a map, got: #{Type.of(options)}"
    end

    :ok = known!(options, Keyword.keys(table), what)
    Map.new(table, fn {name, row} -> {name, value!(name, options[name], row, cast)} end)
  end

  @doc "Raises `ArgumentError` for an option that is none of `known`."
  @spec known!([{term, term}] | map, [atom], String.t()) :: :ok
  def known!(options, known, what) do
    case for({key, _value} <- pairs(options), key not in known, do: key) do
      [] ->
        :ok

      [key | _others] ->
        raise ArgumentError,
              "unknown #{what} #{inspect(key)}#{near(key, known)}; " <>
                "known: #{Enum.map_join(known, ", ", &inspect/1)}"
    end
  end

  @doc "Raises `ArgumentError` for a list with an option twice: one of both would count for nothing."
  @spec once!(keyword | map) :: :ok
  def once!(options) when is_map(options), do: :ok

  def once!(options) do
    names = Keyword.keys(options)

    case names -- Enum.uniq(names) do
      [] -> :ok
      [name | _others] -> raise ArgumentError, "#{name}: is given twice"
    end
  end

  # A struct is none of options: its name is shown, and not one of its values.
  defp pairs(%struct{}), do: [{struct, nil}]
  defp pairs(options), do: options

  defp near(key, [_ | _] = known) when is_atom(key) do
    distance = &String.jaro_distance(Atom.to_string(key), Atom.to_string(&1))
    best = Enum.max_by(known, distance)
    if distance.(best) > 0.77, do: ", did you mean #{inspect(best)}?", else: ""
  end

  defp near(_key, _known), do: ""

  # nil is an option not given.
  defp value!(name, nil, row, cast) do
    cond do
      row[:default] != nil -> value!(name, row[:default], row, cast)
      row[:needed] -> raise ArgumentError, "#{name}: must be #{row[:must]}, got: nil"
      true -> nil
    end
  end

  defp value!(name, given, row, cast) do
    case if(is_function(row[:cast], 1), do: row[:cast].(given), else: cast.(row[:cast], given)) do
      {:ok, value} -> value
      {:error, sentence} -> raise ArgumentError, "#{name}: #{sentence}"
      _no -> raise ArgumentError, "#{name}: must be #{row[:must]}, got: #{shown(row, given)}"
    end
  end

  defp shown(row, given), do: if(row[:secret], do: Type.of(given), else: inspect(given))

  @doc "The value of a kind that any table may have."
  @spec cast(term, term) :: casted
  def cast(:any, value), do: {:ok, value}
  def cast(:boolean, value), do: is_boolean(value) and {:ok, value}
  def cast(:map, value), do: is_map(value) and {:ok, value}
  def cast(:pin, source), do: Pin.cast(source)
  def cast(:name, value), do: is_atom(value) and not is_boolean(value) and {:ok, value}
  def cast(:milliseconds, value), do: cast({:integer, 1, @forever}, value)
  def cast(:timeout, :infinity), do: {:ok, :infinity}
  def cast(:timeout, value), do: cast(:milliseconds, value)
  def cast(:datetime, value), do: is_struct(value, DateTime) and {:ok, value}
  def cast({:integer, min, max}, n), do: is_integer(n) and n >= min and n <= max and {:ok, n}
  def cast({:one_of, values}, value), do: value in values and {:ok, value}
  def cast(:pairs, %{} = pairs), do: {:ok, pairs}
  def cast(:pairs, pairs), do: Keyword.keyword?(pairs) and {:ok, Map.new(pairs)}

  def cast({:pauses, default}, pauses) do
    with {:ok, pauses} <- cast(:pairs, pauses),
         [] <- Map.keys(pauses) -- [:min, :max],
         %{min: min, max: max} = pauses <- Map.merge(Map.new(default), pauses),
         {:ok, _min} <- cast(:milliseconds, min),
         {:ok, _max} <- cast({:integer, min, @forever}, max) do
      {:ok, pauses}
    else
      _wrong -> false
    end
  end

  # Text in UTF-8 that is not empty and stands on one line.
  def cast(:line, text) do
    is_binary(text) and text != "" and String.valid?(text) and not (text =~ ~r/[\x00-\x1f\x7f]/) and
      {:ok, text}
  end

  def cast({:line_or, words}, value),
    do: if(value in words, do: {:ok, value}, else: cast(:line, value))

  def cast(:iodata, data) when is_binary(data) or is_list(data) do
    {:ok, IO.iodata_to_binary(data)}
  rescue
    ArgumentError -> false
  end

  def cast(_kind, _value), do: false

  @doc "The options as Markdown."
  @spec docs(t) :: String.t()
  def docs(table) do
    Enum.map_join(table, "\n", fn {name, row} ->
      default =
        if row[:default] in [nil, %{}], do: "", else: "Default: `#{inspect(row[:default])}`."

      String.trim_trailing("  * `#{name}:` (`#{row[:type]}`): #{row[:doc]}. #{default}")
    end)
  end

  @doc "The type of one of the options, quoted."
  @spec type(t) :: Macro.t()
  def type(table) do
    table
    |> Enum.map(fn {name, row} -> {name, Code.string_to_quoted!(row[:type])} end)
    |> Enum.reverse()
    |> Enum.reduce(fn type, others -> {:|, [], [type, others]} end)
  end
end
