defmodule Cryptoki.Test.Reliability do
  @moduledoc false
  # The numbers of `bin/test --safety`, which it collects in a file over several VMs and then writes into
  # guides/reliability.md.

  alias Cryptoki.Test.Recorded

  @guide "guides/reliability.md"
  @begin "<!-- written by bin/test --safety -->\n"

  @doc "One number reached: `{what, row}` and how many, or a text. Without `bin/test --safety`, nothing."
  @spec record(atom, term, term) :: :ok
  def record(what, row, reached),
    do: Recorded.keep("CRYPTOKI_TEST_RELIABILITY", fn -> {what, row, reached} end)

  @doc "Writes the guide anew from what was recorded."
  @spec publish(Path.t()) :: :ok
  def publish(file), do: Recorded.publish(@guide, @begin, file |> Recorded.read() |> tables())

  defp tables(all) do
    exits = for {:exits, {token, work}, runs} <- all, do: {token, work, runs}
    others = for {:number, what, reached} <- all, do: [what, to_string(reached)]
    system = "OTP #{System.otp_release()}, Elixir #{System.version()}"

    [
      "Measured on #{system}, #{System.schedulers_online()} processors, version #{Mix.Project.config()[:version]}.\n\n",
      table(["what", "reached"], others),
      if(exits == [], do: [], else: ["\n", exits(exits)])
    ]
  end

  defp exits(exits) do
    works = exits |> Enum.map(&elem(&1, 1)) |> Enum.uniq()

    rows =
      for {token, runs} <- Enum.group_by(exits, &elem(&1, 0)) do
        [token | for(work <- works, do: runs |> Enum.find_value("-", &count(&1, work)))]
      end

    [
      "VMs that ended by themselves and with their status, over seven ways to end:\n\n",
      table(["token" | works], rows)
    ]
  end

  defp count({_token, work, runs}, work), do: to_string(runs)
  defp count(_other, _work), do: nil

  defp table(header, rows) do
    line = fn cells -> ["| ", Enum.intersperse(cells, " | "), " |\n"] end
    [line.(header), line.(Enum.map(header, fn _ -> "---" end)), Enum.map(rows, line)]
  end
end
