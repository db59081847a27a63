defmodule Cryptoki.Test.TokenReport do
  @moduledoc false
  # What the referee tests found each token to have, to lack and to refuse: a summary on the terminal, and
  # when every referee test took part the table in guides/tokens.md, which is written anew by a run with
  # every token, and has to say the same as any other run.

  @guide "guides/tokens.md"
  @begin "<!-- written by bin/test --tokens all -->\n"
  @every ~w[softhsm2 kryoptic nss opencryptoki tpm2]a

  @doc "Called when the suite is over."
  @spec publish(map) :: :ok
  def publish(%{modules: []}), do: :ok

  def publish(%{tokens: tokens, results: results, modules: modules}) do
    cells = cells(tokens, results)
    refusals = refusals(tokens, results)
    IO.puts(["\n", summary(tokens, cells), refusals_as_text(refusals), absent(tokens)])

    if length(modules) == Enum.count(Path.wildcard("test/referee/*_test.exs"), &referee?/1),
      do: guide(tokens, cells, refusals)

    :ok
  end

  defp guide(tokens, cells, refusals) do
    [introduction, table] = @guide |> File.read!() |> String.split(@begin)

    if Enum.map(tokens, & &1.name) == @every do
      File.write!(@guide, [introduction, @begin, markdown(tokens, cells, refusals)])
      IO.puts("Written: #{@guide}")
    else
      [header | rows] = for "|" <> row <- String.split(table, "\n"), do: cells_of(row)

      for token <- tokens,
          do: same!(token, Enum.find_index(header, &(&1 == token.title)), rows, cells)
    end
  end

  defp cells_of(row), do: row |> String.split("|") |> Enum.map(&String.trim/1)

  defp same!(token, column, rows, cells) do
    known = for [name | _] = row <- rows, column, into: %{}, do: {name, Enum.at(row, column)}

    for {{mechanism, name}, found} when name == token.name <- cells,
        known["`#{label(mechanism)}`"] != cell(found) do
      raise "#{@guide} has #{inspect(known["`#{label(mechanism)}`"])} for #{label(mechanism)} on " <>
              "#{token.title}, this run found #{cell(found)}: run bin/test --tokens all"
    end
  end

  defp referee?(file), do: File.read!(file) =~ "use Cryptoki.Test.Referee"

  # {mechanism, token} => :checked | :lacks | :listed. A mechanism whose function a token lacks (it
  # wraps, but does not unwrap) is one that it has.
  defp cells(tokens, results) do
    wanted = for {_token, _what, needs} <- results, need <- needs, do: mechanism(need)
    checked = for {name, :checked, needs} <- results, need <- needs, do: {mechanism(need), name}
    listed = Enum.flat_map(tokens, &Map.keys(&1.mechanisms))
    checked = MapSet.new(checked)

    for mechanism <- Enum.uniq(wanted ++ listed), token <- tokens, into: %{} do
      cell =
        cond do
          {mechanism, token.name} in checked -> :checked
          is_map_key(token.mechanisms, mechanism) -> :listed
          true -> :lacks
        end

      {{mechanism, token.name}, cell}
    end
  end

  defp mechanism({mechanism, _functions}), do: mechanism
  defp mechanism(mechanism), do: mechanism

  defp refusals(tokens, results) do
    for token <- tokens,
        {name, {:refuses, text, why}, _needs} <- results,
        name == token.name,
        uniq: true do
      {token.title, text, why}
    end
    |> Enum.sort()
  end

  defp summary(tokens, cells) do
    tested = for {{mechanism, _token}, :checked} <- cells, uniq: true, do: mechanism

    for token <- tokens do
      lacks = for mechanism <- tested, cells[{mechanism, token.name}] == :lacks, do: mechanism
      checked = Enum.count(cells, &match?({{_, name}, :checked} when name == token.name, &1))
      heading = "#{token.title}: #{checked} mechanisms checked; it lacks #{length(lacks)}"
      [heading, if(lacks == [], do: ".\n", else: ":\n"), wrapped(lacks)]
    end
  end

  defp wrapped(names) do
    names
    |> Enum.map(&to_string/1)
    |> Enum.sort()
    |> Enum.chunk_while(
      "   ",
      fn name, line ->
        if String.length(line) + String.length(name) > 98,
          do: {:cont, [line, "\n"], "    " <> name},
          else: {:cont, line <> " " <> name}
      end,
      fn line -> {:cont, if(line == "   ", do: [], else: [line, "\n"]), nil} end
    )
  end

  defp absent(tokens) do
    case @every -- Enum.map(tokens, & &1.name) do
      [] -> []
      absent -> "Not there: #{Enum.join(absent, ", ")}. bin/test --tokens all brings them up.\n"
    end
  end

  defp refusals_as_text([]), do: []

  # One line for each thing a token says, with all that it says it to.
  defp refusals_as_text(refusals) do
    lines =
      for {{token, why}, all} <- Enum.group_by(refusals, &{elem(&1, 0), elem(&1, 2)}) do
        "    #{token}, #{why}: #{Enum.map_join(all, ", ", &elem(&1, 1))}\n"
      end

    ["Listed, but not as asked for:\n", lines]
  end

  defp markdown(tokens, cells, refusals) do
    mechanisms =
      cells |> Map.keys() |> Enum.map(&elem(&1, 0)) |> Enum.uniq() |> Enum.sort_by(&label/1)

    row = fn cells -> ["| ", Enum.intersperse(cells, " | "), " |\n"] end

    [
      "Checked: an independent implementation agrees. Listed: the token has it, no check here uses it.\n\n",
      row.(["mechanism" | Enum.map(tokens, & &1.title)]),
      row.(["---" | Enum.map(tokens, fn _ -> "---" end)]),
      for mechanism <- mechanisms do
        row.(["`#{label(mechanism)}`" | Enum.map(tokens, &cell(cells[{mechanism, &1.name}]))])
      end,
      if(refusals == [], do: [], else: "\nListed by the token, but not as asked for:\n\n"),
      for({token, text, why} <- refusals, do: "  * #{token}, #{text}: #{why}\n")
    ]
  end

  defp label(mechanism) when is_atom(mechanism), do: ":#{mechanism}"
  defp label(code), do: "0x" <> Integer.to_string(code, 16)

  defp cell(:checked), do: "checked"
  defp cell(:listed), do: "listed"
  defp cell(:lacks), do: "-"
end
