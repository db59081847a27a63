defmodule Cryptoki.BenchTest do
  use ExUnit.Case, async: true

  # What bin/bench draws and computes; what it measures is nothing for a test.

  for part <- ~w(program measure calls world picture waits),
      do: Code.require_file("bench/parts/#{part}.exs")

  :ok = Cryptoki.Test.TLS.start(:xmerl)

  alias Bench.{Measure, Picture, Waits}

  @curve %{
    name: "callers",
    title: "Callers & <sessions>",
    x: "callers",
    y: "calls a second",
    series: [
      {"random", [{1, 10_000}, {2, 19_000}, {1024, 190_000}]},
      {"random, loop in C", [{1, 900_000}, {1024, 900_000}]},
      {"rsa", [{1, 0.5}, {1024, 2}]}
    ]
  }

  test "a picture is XML, and has each line inside of its frame" do
    svg = IO.iodata_to_binary(Picture.svg(@curve))
    {document, _rest} = svg |> String.to_charlist() |> :xmerl_scan.string(quiet: true)
    assert [_, _, _] = :xmerl_xpath.string(~c"//polyline", document)
    assert svg =~ "Callers &amp; &lt;sessions&gt;"

    for [_, points] <- Regex.scan(~r/points="([^"]+)"/, svg), point <- String.split(points) do
      [x, y] = for number <- String.split(point, ","), do: elem(Float.parse(number), 0)
      assert x >= 72 and x <= 550 and y >= 44 and y <= 368
    end
  end

  # One server waits load / (1 - load) of a call; two, loaded to a half, a third of one.
  test "waits are those of Erlang's formula" do
    assert_in_delta Waits.wait(1, 0.5, 10), 10, 1.0e-9
    assert_in_delta Waits.wait(1, 0.9, 10), 90, 1.0e-9
    assert_in_delta Waits.wait(2, 0.5, 9), 3, 1.0e-9
  end

  test "medians, spreads and quantiles" do
    assert Measure.median([3, 1, 2]) == 2
    assert Measure.spread([1, 2, 4]) == 1.5
    assert Measure.quantile(Enum.to_list(1..1000), 0.999) == 1000
  end
end
