defmodule Cryptoki.Test.ErlangExamples do
  @moduledoc false
  # Runs what stands in documents as it would be typed into Erlang's shell: `1> ...`, with `.. ` in
  # front of further lines. A match that fails is a failure.

  @doc "The examples of a text, each a list of expressions: a `1>` begins the next."
  @spec examples(String.t()) :: [[String.t()]]
  def examples(text) do
    ~r/^ *(\d+)> (.*(?:\n *\.\. .*)*)/m
    |> Regex.scan(text, capture: :all_but_first)
    |> Enum.map(fn [number, code] -> {number, String.replace(code, ~r/^ *\.\. /m, "")} end)
    |> Enum.chunk_while(
      [],
      fn
        {"1", code}, [] -> {:cont, [code]}
        {"1", code}, done -> {:cont, Enum.reverse(done), [code]}
        {_number, code}, done -> {:cont, [code | done]}
      end,
      &{:cont, Enum.reverse(&1), []}
    )
    |> Enum.reject(&(&1 == []))
  end

  @doc "The texts of the `?DOC`s of a source file, with what each belongs to: `-spec sign`."
  @spec docs(Path.t()) :: [{String.t(), String.t()}]
  def docs(file) do
    ~r/^\?(?:MODULE)?DOC\("((?:[^"\\]|\\.)*)"\)\.\s+(\S*\s*\w*)/m
    |> Regex.scan(File.read!(file), capture: :all_but_first)
    |> Enum.map(fn [text, owner] -> {owner, String.replace(text, ~r/\\(.)/, "\\1")} end)
  end

  @doc "Evaluates the expressions of an example one after the other; answers the last value."
  @spec run([String.t()], keyword) :: term
  def run(expressions, bindings \\ []) do
    Enum.reduce(expressions, {nil, bindings}, fn code, {_value, bindings} ->
      {:value, value, bindings} = :erl_eval.exprs(parse(code), bindings)
      {value, bindings}
    end)
    |> elem(0)
  end

  @doc "The expressions of a text, for `:erl_eval`."
  @spec parse(String.t()) :: [tuple]
  def parse(code) do
    with {:ok, tokens, _line} <- :erl_scan.string(to_charlist(code)),
         {:ok, expressions} <- :erl_parse.parse_exprs(tokens) do
      expressions
    else
      error -> raise "this is not Erlang: #{code}: #{inspect(error)}"
    end
  end
end
