defmodule Cryptoki.Test.PKI.Report do
  @moduledoc false
  # What `bin/test --pki` writes into guides/pki_judges.md: what was judged by whom, the findings that stand, and
  # how many requests of which program were read.

  alias Cryptoki.Test.Recorded
  alias Cryptoki.Test.PKI.{Judges, Known, Programs, Requests}

  @guide "guides/pki_judges.md"
  @begin "<!-- written by bin/test --pki -->\n"

  @doc "Writes the guide anew."
  @spec publish(Path.t()) :: :ok
  def publish(file) do
    lines = Recorded.read(file)
    found = for {:judged, _judges, _certificates, _lists, found} <- lines, row <- found, do: row
    :ok = up_to_date!(found)
    Recorded.publish(@guide, @begin, [judges(lines), named(found), requests(lines)])
  end

  # A row that is not found any more says what is not so.
  defp up_to_date!(found) do
    said = for {judge, reason} <- found, uniq: true, do: {judge, reason}

    case for(row <- Known.all(), {row.judge, row.reason} not in said, do: row) do
      [] -> :ok
      [row | _] -> raise "#{row.judge} does not find it any more: #{inspect(row.finding)}"
    end
  end

  defp judges(lines) do
    rows =
      for judge <- Keyword.keys(Judges.judges()) ++ [:post_quantum_openssl] do
        mine = for {:judged, judges, c, l, _} <- lines, judge in judges, do: {c, l}
        paths = Enum.count(mine, fn {certificates, _} -> certificates > 1 end)

        [certificates, lists] =
          for at <- [0, 1], do: mine |> Enum.map(&elem(&1, at)) |> Enum.sum()

        [judge, version(judge), certificates, lists, paths]
      end

    table(["judge", "release", "certificates", "lists", "paths"], rows)
  end

  defp version(:pkilint), do: pinned("pkilint")
  defp version(:cryptography), do: pinned("cryptography")
  defp version(:openssl), do: word(["openssl", "version"], 1)

  defp version(:other_openssl),
    do: Enum.map_join(Programs.others(), ", ", &word(&1 ++ ["version"], 1))

  defp version(:post_quantum_openssl),
    do: Enum.map_join(Programs.post_quantum(), ", ", &word(&1 ++ ["version"], 1))

  defp version(:certtool), do: word(~w(certtool --version), 1)
  defp version(:nss), do: word(~w(dpkg-query -W -f ${Version} libnss3-tools), 0)
  defp version(:java), do: word(~w(java --version), 1)
  defp version(:webpki), do: locked("rustls-webpki")

  defp pinned(name) do
    [_, version] =
      Regex.run(~r/^#{name}==(.+)$/m, File.read!("test/support/pki/requirements.txt"))

    version
  end

  defp locked(name) do
    lock = File.read!("native/pki_judge/Cargo.lock")
    [_, version] = Regex.run(~r/name = "#{name}"\nversion = "(.+)"/, lock)
    version
  end

  defp word([program | arguments], at) do
    {text, 0} = System.cmd(program, arguments, stderr_to_stdout: true)
    text |> String.split() |> Enum.at(at)
  end

  defp named(found) do
    counts = Enum.frequencies(found)

    rows =
      for row <- Known.all(),
          do: [row.judge, row.reason, counts[{row.judge, row.reason}]]

    ["\n## Findings that stand\n\n", table(["judge", "why it stands", "times"], rows)]
  end

  defp requests(lines) do
    rows =
      for maker <- Requests.makers(), {:requests, ^maker, counts} <- lines do
        [maker | for(what <- [:accepted, :refused, :issued], do: Map.get(counts, what, 0))]
      end

    [
      "\n## Requests\n\n",
      table(["made by", "accepted", "refused", "certified and judged"], rows)
    ]
  end

  defp table(head, rows) do
    line = fn cells -> ["| ", Enum.map_intersperse(cells, " | ", &to_string/1), " |\n"] end
    [line.(head), line.(Enum.map(head, fn _ -> "---" end)), Enum.map(rows, line)]
  end
end
