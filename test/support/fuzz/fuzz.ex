defmodule Cryptoki.Test.Fuzz do
  @moduledoc false
  # Changed inputs for the targets, from a corpus in test/fuzz. A seed is the whole of a run: the same
  # one gives the same inputs again, on however many cores.

  alias Cryptoki.Test.Fuzz.{DERMutation, Mutation, Targets}

  @directory Path.expand("../../fuzz", __DIR__)
  # Changes are made to changed inputs as well; after this many to an input of the corpus again.
  @depth 8
  # As many are changed one after the other, by a process of its own: the unit that has a seed.
  @share 50_000
  # A second of work, and 128 MB, for an input of some kilobytes: no input may cost as much.
  @reductions 50_000_000
  @words 16_000_000

  @doc "The inputs a target starts from: one a line, in hexadecimal; or Erlang terms."
  @spec corpus(atom) :: [term]
  def corpus(target) do
    if Targets.all()[target] == :term do
      {:ok, terms} = :file.consult(Path.join(@directory, "#{target}.terms"))
      terms
    else
      for line <- File.stream!(Path.join(@directory, "#{target}.hex")),
          do: line |> String.trim() |> Base.decode16!(case: :lower)
    end
  end

  @doc """
  Runs a target on its corpus, with `more` of it, and on `count` changed inputs; raises with the first that
  breaks a rule, that leaves a message behind, or that takes too much, and with the seed that comes to it soonest.
  """
  @spec run(atom, non_neg_integer, integer, [term]) :: :ok
  def run(target, count, seed, more \\ []) do
    0..div(max(count - 1, 0), @share)
    |> Task.async_stream(
      &share(target, min(@share, count - &1 * @share), seed + &1, more),
      ordered: false,
      timeout: :infinity
    )
    |> Enum.each(fn {:ok, answer} -> with {:broken, text} <- answer, do: raise(text) end)
  end

  defp share(target, count, seed, more) do
    table = :ets.new(:last, [:public])
    heap = %{size: @words, kill: true, error_logger: false}
    work = fn -> exit({:done, inputs(target, count, seed, more, table)}) end
    {pid, monitor} = :erlang.spawn_opt(work, [:monitor, max_heap_size: heap])

    receive do
      {:DOWN, ^monitor, :process, ^pid, {:done, :ok}} -> :ok
      {:DOWN, ^monitor, :process, ^pid, {:done, text}} -> broken(seed, text)
      {:DOWN, ^monitor, :process, ^pid, reason} -> broken(seed, killed(target, reason, table))
    end
  end

  defp broken(seed, text), do: {:broken, "#{text}\n(--seed #{seed})"}

  defp killed(target, reason, table),
    do: "#{target}: #{inspect(reason)}\non #{quoted(:ets.lookup(table, :input))}"

  defp inputs(target, count, seed, more, table) do
    :rand.seed(:exsss, seed)
    corpus = corpus(target) ++ more
    Enum.each(corpus, &one(target, &1, table))
    changed(target, Targets.all()[target], List.to_tuple(corpus), table, nil, 0, count)
  catch
    {:broken, text} -> text
  end

  defp changed(_target, _kind, _seeds, _table, _input, _depth, 0), do: :ok

  defp changed(target, kind, seeds, table, _input, 0, left) do
    input = elem(seeds, :rand.uniform(tuple_size(seeds)) - 1)
    changed(target, kind, seeds, table, input, :rand.uniform(@depth), left)
  end

  defp changed(target, kind, seeds, table, input, depth, left) do
    input = change(kind, input, seeds)
    one(target, input, table)
    changed(target, kind, seeds, table, input, depth - 1, left - 1)
  end

  defp change(:term, input, _seeds), do: Mutation.term(input)
  defp change(:bytes, input, seeds), do: Mutation.bytes(input, seeds)

  # One in four as bytes; whatever DER is inside another one is changed as such.
  defp change(:der, input, seeds) do
    if :rand.uniform(4) == 1,
      do: Mutation.bytes(input, seeds),
      else: DERMutation.change(input, seeds)
  end

  defp one(target, input, table) do
    :ets.insert(table, {:input, input})
    {:reductions, before} = Process.info(self(), :reductions)
    Targets.run(target, input)

    [reductions: now, message_queue_len: left] =
      Process.info(self(), [:reductions, :message_queue_len])

    if now - before > @reductions, do: raise("it takes #{now - before} reductions")
    if left > 0, do: raise("it leaves a message behind")
  rescue
    error ->
      place = Exception.format_stacktrace(__STACKTRACE__)
      throw({:broken, "#{target}: #{Exception.message(error)}\non #{quoted(input)}\n#{place}"})
  end

  defp quoted(input), do: inspect(input, limit: :infinity, printable_limit: :infinity)
end
