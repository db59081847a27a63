defmodule Cryptoki.Test.Mutants do
  @moduledoc false
  # Protections taken out, one at a time: the tests that stand for a claim have to notice.
  #
  # A mutant of `test/mutants/*.exs` is `{claim, file, from, to, tests}`: `from` stands once in the file, `to` takes
  # its place, and one of the test files must fail. `kryoptic` before the tests means: on that main token.

  alias Cryptoki.Test.{Reliability, Scratch}

  @slowest "600"

  @type mutant :: %{
          claim: String.t(),
          file: Path.t(),
          from: String.t(),
          to: String.t(),
          token: String.t() | nil,
          tests: [Path.t(), ...]
        }

  @doc "All of them, or those whose claim, file or tests contain a text."
  @spec all(String.t()) :: [mutant]
  def all(text \\ "") do
    for list <-
          [File.cwd!(), "test/mutants/*.exs"] |> Path.join() |> Path.wildcard() |> Enum.sort(),
        {claim, file, from, to, tests} <- list |> Code.eval_file() |> elem(0),
        mutant = mutant(claim, file, from, to, List.wrap(tests)),
        Enum.any?([claim, file | mutant.tests], &String.contains?(&1, text)),
        do: mutant
  end

  defp mutant(claim, file, from, to, [:kryoptic | tests]),
    do: %{mutant(claim, file, from, to, tests) | token: "kryoptic"}

  defp mutant(claim, file, from, to, tests),
    do: %{claim: claim, file: file, from: from, to: to, token: nil, tests: tests}

  @doc "Why a mutant says nothing about the sources as they are; nil when it does."
  @spec fault(mutant) :: String.t() | nil
  def fault(%{file: file, from: from, to: to, tests: tests} = mutant) do
    source = read(file)

    cond do
      from == to or tests == [] ->
        "changes nothing, or no test is to notice it"

      missing = Enum.find(tests, &(not File.exists?(Path.join(File.cwd!(), &1)))) ->
        "no #{missing}"

      (count = count(source, from)) != 1 ->
        "stands #{count} times in #{file}: #{from}"

      true ->
        unreadable(file, mutated(source, mutant))
    end
  end

  defp read(file) do
    case File.read(Path.join(File.cwd!(), file)) do
      {:ok, source} -> source
      {:error, :enoent} -> ""
    end
  end

  defp count(source, from), do: length(String.split(source, from)) - 1

  defp unreadable(file, source) do
    with ".ex" <- Path.extname(file),
         {:error, {_where, message, token}} <- Code.string_to_quoted(source),
         do: "is no Elixir any more: #{inspect(message)} #{token}",
         else: (_readable -> nil)
  end

  defp mutated(source, %{from: from, to: to}), do: String.replace(source, from, to)

  @doc "Runs those with a text in them, and ends the VM with 1 when one survives."
  @spec main(String.t()) :: :ok
  def main(text) do
    mutants = all(text)
    for mutant <- mutants, fault = fault(mutant), do: raise("#{mutant.claim}: #{fault}")
    if run(mutants) > 0, do: System.halt(1), else: :ok
  end

  @doc "Records what cargo-mutants has found, from the folders that it writes."
  @spec cargo([Path.t()]) :: :ok
  def cargo(directories) do
    count = fn name ->
      for directory <- directories, reduce: 0 do
        sum ->
          sum + ([directory, name <> ".txt"] |> Path.join() |> File.stream!() |> Enum.count())
      end
    end

    noticed = count.("caught") + count.("timeout")
    row = "#{noticed} of #{noticed + count.("missed")}"
    Reliability.record(:number, "changes by cargo-mutants that a test noticed", row)
  end

  @doc """
  Runs mutants in copies of the project, as many beside each other as there are copies; prints each
  that survives and answers how many did.
  """
  @spec run([mutant], copies :: pos_integer) :: non_neg_integer
  def run(mutants, copies \\ 2) do
    free = for number <- 1..copies, do: copy(number)
    {:ok, pool} = Agent.start_link(fn -> free end)

    results =
      mutants
      |> Task.async_stream(&in_a_copy(pool, &1), max_concurrency: copies, timeout: :infinity)
      |> Enum.map(fn {:ok, result} -> result end)

    told(results)
  end

  defp in_a_copy(pool, mutant) do
    directory = Agent.get_and_update(pool, fn [directory | rest] -> {directory, rest} end)

    try do
      {judged(directory, mutant), mutant} |> tap(&tell/1)
    after
      Agent.update(pool, &[directory | &1])
    end
  end

  defp judged(directory, mutant) do
    source = read(mutant.file)
    path = Path.join(directory, mutant.file)
    File.write!(path, mutated(source, mutant))

    try do
      case test(directory, mutant) do
        {_output, 0} -> :survived
        {_output, 124} -> :noticed
        {output, _status} -> if output =~ ~r/^  1\) /m, do: :noticed, else: {:broken, output}
      end
    after
      File.write!(path, source)
    end
  end

  @doc "The tests of one mutant, in a copy as it is."
  @spec test(Path.t(), mutant) :: {binary, non_neg_integer}
  def test(directory, mutant) do
    environment = [
      {"CRYPTOKI_TEST_TOKENS", nil},
      {"SOFTHSM2_CONF", nil},
      {"CRYPTOKI_TEST_MAIN_TOKEN", mutant.token},
      {"CARGO_TARGET_DIR", Path.join(directory, "_build/native")},
      {"MIX_ENV", "test"}
    ]

    arguments = [
      @slowest,
      "mix",
      "test",
      "--include",
      "safety",
      "--max-failures",
      "1" | mutant.tests
    ]

    opts = [cd: directory, env: environment, stderr_to_stdout: true]
    System.cmd("timeout", arguments, opts)
  end

  # The files that git knows, and what was built of them.
  defp copy(number) do
    directory = Scratch.directory("mutants-#{number}")
    {files, 0} = System.cmd("git", ["ls-files"], cd: File.cwd!())

    for file <- String.split(files, "\n", trim: true) do
      to = Path.join(directory, file)
      File.mkdir_p!(Path.dirname(to))
      File.cp!(Path.join(File.cwd!(), file), to)
    end

    {_output, 0} = System.cmd("cp", ["-a", Path.join(File.cwd!(), "_build"), directory])
    directory
  end

  defp tell({:noticed, mutant}), do: IO.puts("noticed   #{mutant.claim}")

  defp tell({:survived, mutant}),
    do: IO.puts("SURVIVED  #{mutant.claim}\n          #{mutant.file}: #{mutant.from}")

  defp tell({{:broken, output}, mutant}),
    do: IO.puts("NOT RUN   #{mutant.claim}\n#{output |> String.slice(-2000..-1) || output}")

  defp told(results) do
    count = fn what -> Enum.count(results, &match?({^what, _mutant}, &1)) end
    {noticed, survived} = {count.(:noticed), count.(:survived)}
    broken = length(results) - noticed - survived
    row = "#{noticed} of #{length(results)}"
    Reliability.record(:number, "protections taken out that a test noticed", row)
    IO.puts("\n#{noticed} noticed, #{survived} survived, #{broken} not run")
    survived + broken
  end
end
