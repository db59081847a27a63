defmodule Cryptoki.Test.Vectors.Report do
  @moduledoc false
  # What `bin/test --vectors` writes into guides/vectors.md: a row for each family and token, and every
  # disagreement with its cause and what the token answers outside of the library.

  alias Cryptoki.Test.Recorded
  alias Cryptoki.Test.Vectors.{Families, Known, Opinion}

  @guide "guides/vectors.md"
  @begin "<!-- written by bin/test --vectors -->\n"

  @doc "Keeps what a family came to on a token, where `bin/test --vectors` asks for it."
  @spec record(Cryptoki.Test.Token.t(), String.t(), map) :: :ok
  def record(token, family, result) do
    Recorded.keep("CRYPTOKI_TEST_VECTORS_REPORT", fn ->
      {token, family, asked_outside(token, family, result)}
    end)
  end

  # One of each cause is asked again without the library.
  defp asked_outside(token, family, result) do
    disagree =
      for {row, all} <- Enum.group_by(result.disagree, &Known.find(token.name, family, &1)),
          row != nil do
        first = Enum.min_by(all, &{&1.file, &1.test, &1.way})

        %{
          cause: row.cause,
          asked: length(all),
          example: "#{first.file} #{first.test}",
          library: library(first),
          outside: Known.ask(token, row, first),
          openssl: Opinion.ask(family, first)
        }
      end

    %{result | disagree: disagree}
  end

  defp library(%{kind: :refused, text: text}), do: text
  defp library(%{kind: :broken, text: text}), do: text
  defp library(%{kind: :accepted, text: text}), do: "accepted, " <> text
  defp library(%{kind: :differs, text: text}), do: "another answer, " <> text

  @doc "Writes the guide anew."
  @spec publish(Path.t()) :: :ok
  def publish(file) do
    lines = Recorded.read(file)
    :ok = complete!(lines)
    :ok = up_to_date!(lines)
    order = Enum.map(Families.all(), & &1.title)

    place = fn {token, family, _result} ->
      {Enum.find_index(order, &(&1 == family)), token.name}
    end

    lines = for line <- Enum.sort_by(lines, place), do: put_elem(line, 0, elem(line, 0).title)
    Recorded.publish(@guide, @begin, tables(lines))
  end

  defp complete!(lines) do
    tokens = lines |> Enum.map(&elem(&1, 0).name) |> Enum.uniq() |> Enum.sort()

    if tokens == [:kryoptic, :softhsm2],
      do: :ok,
      else: raise("#{@guide} is written with both tokens: bin/test --vectors --tokens kryoptic")
  end

  # A row that no vector belongs to any more says what is not so.
  defp up_to_date!(lines) do
    tokens = Enum.map(lines, &elem(&1, 0).name)
    seen = for {_token, _family, result} <- lines, d <- result.disagree, do: d.cause

    case Enum.filter(Known.all(), &(&1.token in tokens and &1.cause not in seen)) do
      [] ->
        :ok

      [row | _] ->
        raise "#{row.family} on #{row.token} has no disagreement any more: #{row.cause}"
    end
  end

  defp tables(lines) do
    system = "OTP #{System.otp_release()}, Elixir #{System.version()}"
    version = Mix.Project.config()[:version]

    [
      "Version #{version} on #{system}: #{sum(lines, :vectors)} vectors, asked #{sum(lines, :asked)} times, ",
      "#{by(lines, :one_call)} in one call, #{by(lines, :pieces)} in pieces, #{by(lines, :message)} by message.\n\n",
      table(
        ["family", "token", "vectors", "asked", "agree", "disagree", "not run"],
        Enum.map(lines, &row/1)
      ),
      "\n## Disagreements\n\n",
      "A vector of each cause, asked again by plain C calls out of another program, and OpenSSL's opinion of it.\n\n",
      table(
        ["family", "token", "asked", "cause", "for example", "here", "plain C calls", "OpenSSL"],
        Enum.flat_map(lines, &causes/1)
      ),
      "\n## Not run\n\n",
      table(["token", "why", "vectors"], reasons(lines))
    ]
  end

  defp sum(lines, what), do: lines |> Enum.map(&Map.fetch!(elem(&1, 2), what)) |> Enum.sum()

  defp by(lines, kind), do: lines |> Enum.map(&Map.get(elem(&1, 2).ways, kind, 0)) |> Enum.sum()

  defp row({token, family, result}) do
    disagree = result.disagree |> Enum.map(& &1.asked) |> Enum.sum()
    not_run = result.not_run |> Map.values() |> Enum.sum()
    [family, token, result.vectors, result.asked, result.agree, disagree, not_run]
  end

  defp causes({token, family, result}) do
    for d <- Enum.sort_by(result.disagree, & &1.example) do
      [family, token, d.asked, d.cause, "`#{d.example}`", d.library, d.outside, d.openssl]
    end
  end

  defp reasons(lines) do
    all =
      for {token, _family, result} <- lines, {why, count} <- result.not_run, reduce: %{} do
        sum -> Map.update(sum, {token, why}, count, &(&1 + count))
      end

    for {{token, why}, count} <- Enum.sort(all), do: [token, why, count]
  end

  defp table(header, rows) do
    line = fn cells ->
      ["| ", cells |> Enum.map(&to_string/1) |> Enum.intersperse(" | "), " |\n"]
    end

    [line.(header), line.(Enum.map(header, fn _ -> "---" end)), Enum.map(rows, line)]
  end
end
