defmodule Cryptoki.Test.Guide do
  @moduledoc false
  # Runs the Elixir of a guide, from top to bottom, in one binding. Blocks of ```elixir are code, or
  # `iex>` with results: `#Name<...>` is compared as text, anything else as a value.

  import ExUnit.Assertions

  @doc "Runs a guide with texts in it replaced, and stops what it has started."
  @spec run(Path.t(), %{String.t() => String.t()}) :: :ok
  def run(file, replacements) do
    for {block, line} <- file |> File.read!() |> blocks(), reduce: {[], environment(file)} do
      state -> block |> replace(replacements) |> steps(line) |> Enum.reduce(state, &step/2)
    end

    {:links, links} = Process.info(self(), :links)
    for pid <- links, is_pid(pid), do: stop(pid)
    :ok
  end

  defp environment(file), do: %{__ENV__ | file: file, function: nil, module: nil}

  defp stop(pid) do
    Process.unlink(pid)
    Supervisor.stop(pid)
  catch
    :exit, _no_supervisor -> :ok
  end

  defp blocks(text) do
    for [{_, _}, {from, length}] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, text, return: :index) do
      line = text |> binary_part(0, from) |> String.split("\n") |> length()
      {binary_part(text, from, length), line}
    end
  end

  defp replace(text, replacements),
    do: Enum.reduce(replacements, text, fn {from, to}, text -> String.replace(text, from, to) end)

  # {code, expected or nil, line}
  defp steps("iex>" <> _ = block, line) do
    block
    |> String.split(~r/^iex> /m, trim: true)
    |> Enum.map_reduce(line, fn text, line ->
      [first | rest] = String.split(text, "\n")
      {more, expected} = Enum.split_while(rest, &String.starts_with?(&1, "...>"))
      more = Enum.map(more, &String.replace_prefix(&1, "...>", ""))
      step = {Enum.join([first | more], "\n"), String.trim(Enum.join(expected, "\n")), line}
      {step, line + length(rest)}
    end)
    |> elem(0)
  end

  defp steps(block, line), do: [{block, "", line}]

  defp step({code, expected, line}, {binding, env}) do
    quoted = Code.string_to_quoted!(code, line: line, file: env.file)
    {value, binding, env} = Code.eval_quoted_with_env(quoted, binding, env)
    if expected != "", do: compare(value, expected, binding, "#{env.file}:#{line}: #{code}")
    {binding, env}
  end

  defp compare(value, "#" <> _ = expected, _binding, where),
    do: assert(inspect(value) == expected, "#{where}: #{inspect(value)}")

  defp compare(value, expected, binding, where) do
    {expected, _binding} = Code.eval_string(expected, binding)
    assert value == expected, "#{where}\n#{inspect(value)} is not #{inspect(expected)}"
  end
end
