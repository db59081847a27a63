defmodule Cryptoki.Test.Fuzz do
  @moduledoc false
  # Changed inputs for the targets, from a corpus in test/fuzz. A seed is the whole of a run: the same
  # one gives the same inputs again.

  alias Cryptoki.Test.Fuzz.{Mutation, Targets}

  @directory Path.expand("../../fuzz", __DIR__)
  # Changes are made to changed inputs as well; after this many to an input of the corpus again.
  @depth 8

  @doc "The inputs a target starts from: one a line, in hexadecimal; or Erlang terms."
  @spec corpus(atom) :: [term]
  def corpus(target) do
    case Targets.all()[target] do
      :bytes ->
        for line <- File.stream!(Path.join(@directory, "#{target}.hex")),
            do: line |> String.trim() |> Base.decode16!(case: :lower)

      :term ->
        {:ok, terms} = :file.consult(Path.join(@directory, "#{target}.terms"))
        terms
    end
  end

  @doc "Runs a target on its corpus and on `count` changed inputs; raises with the first that breaks a rule."
  @spec run(atom, non_neg_integer, integer) :: :ok
  def run(target, count, seed) do
    :rand.seed(:exsss, seed)
    corpus = corpus(target)
    Enum.each(corpus, &one(target, &1))
    seeds = List.to_tuple(corpus)
    changed(target, Targets.all()[target], seeds, nil, 0, count)
  end

  defp changed(_target, _kind, _seeds, _input, _depth, 0), do: :ok

  defp changed(target, kind, seeds, _input, 0, left) do
    input = elem(seeds, :rand.uniform(tuple_size(seeds)) - 1)
    changed(target, kind, seeds, input, :rand.uniform(@depth), left)
  end

  defp changed(target, kind, seeds, input, depth, left) do
    input = if kind == :bytes, do: Mutation.bytes(input, seeds), else: Mutation.term(input)
    one(target, input)
    changed(target, kind, seeds, input, depth - 1, left - 1)
  end

  defp one(target, input) do
    Targets.run(target, input)
  rescue
    error ->
      reraise "#{target}: #{Exception.message(error)}\non #{inspect(input, limit: :infinity, printable_limit: :infinity)}",
              __STACKTRACE__
  end
end
