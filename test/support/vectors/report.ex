defmodule Cryptoki.Test.Vectors.Report do
  @moduledoc false
  # What `bin/test --vectors` writes into guides/vectors.md: a row for each family and token, and every
  # disagreement with its cause and what the token answers outside of the library.

  alias Cryptoki.Test.Vectors.{Known, Opinion}

  @guide "guides/vectors.md"
  @begin "<!-- written by bin/test --vectors -->\n"

  @doc "Keeps what a family came to on a token, where `bin/test --vectors` asks for it."
  @spec record(Cryptoki.Test.Token.t(), String.t(), map) :: :ok
  def record(token, family, result) do
    with file when file != nil <- System.get_env("CRYPTOKI_TEST_VECTORS_REPORT") do
      line = {token, family, asked_outside(token, family, result)}
      File.write!(file, Base.encode64(:erlang.term_to_binary(line)) <> "\n", [:append])
    end

    :ok
  end

  # One of each cause is asked again without the library.
  defp asked_outside(token, family, result) do
    disagree =
      for {row, [first | _] = all} <-
            Enum.group_by(result.disagree, &Known.find(token.name, family, &1)),
          row != nil do
        vectors = all |> Enum.uniq_by(&{&1.file, &1.test}) |> length()

        %{
          cause: row.cause,
          asked: length(all),
          vectors: vectors,
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
    lines =
      for line <- file |> File.read!() |> String.split("\n", trim: true),
          do: line |> Base.decode64!() |> :erlang.binary_to_term()

    :ok = up_to_date!(lines)
    lines = for {token, family, result} <- lines, do: {token.title, family, result}
    [introduction, _old] = @guide |> File.read!() |> String.split(@begin)
    File.write!(@guide, [introduction, @begin, "\n", tables(lines)])
    IO.puts("Written: #{@guide}")
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
      "Version #{version} on #{system}, #{sum(lines, :vectors)} vectors, asked #{sum(lines, :asked)} times.\n\n",
      table(
        ["token", "family", "vectors", "asked", "agree", "disagree", "not run"],
        Enum.map(lines, &row/1)
      ),
      "\nWhere a token disagrees, one vector of each cause, asked again outside of the library:\n\n",
      table(
        [
          "token",
          "family",
          "asked",
          "cause",
          "for example",
          "here",
          "by plain C calls",
          "OpenSSL"
        ],
        Enum.flat_map(lines, &causes/1)
      ),
      "\nNot run:\n\n",
      for({token, reasons} <- reasons(lines), do: "  * #{token}: #{reasons}\n")
    ]
  end

  defp sum(lines, what), do: lines |> Enum.map(&Map.fetch!(elem(&1, 2), what)) |> Enum.sum()

  defp row({token, family, result}) do
    disagree = result.disagree |> Enum.map(& &1.asked) |> Enum.sum()
    not_run = result.not_run |> Map.values() |> Enum.sum()
    [token, family, result.vectors, result.asked, result.agree, disagree, not_run]
  end

  defp causes({token, family, result}) do
    for d <- result.disagree do
      [token, family, d.asked, d.cause, "`#{d.example}`", d.library, d.outside, d.openssl]
    end
  end

  defp reasons(lines) do
    for {token, lines} <- Enum.group_by(lines, &elem(&1, 0)) do
      all =
        for {_token, _family, result} <- lines, {why, count} <- result.not_run, reduce: %{} do
          sum -> Map.update(sum, why, count, &(&1 + count))
        end

      {token,
       all |> Enum.sort() |> Enum.map_join("; ", fn {why, count} -> "#{why}: #{count}" end)}
    end
  end

  defp table(header, rows) do
    line = fn cells ->
      ["| ", cells |> Enum.map(&to_string/1) |> Enum.intersperse(" | "), " |\n"]
    end

    [line.(header), line.(Enum.map(header, fn _ -> "---" end)), Enum.map(rows, line)]
  end
end
