defmodule Bench.Picture do
  @moduledoc false
  # A curve as SVG: both axes by powers of ten, light or dark as the reader's screen is.

  @width 760
  @height 420
  @left 72
  @right 210
  @top 44
  @bottom 52

  # Told apart by those who see colours differently, too: dashes and places of the labels say the same.
  @light ~w(#0b62a4 #b3401b #1a7a3c #7a3fa0 #8a6d00 #00727a)
  @dark ~w(#6cb6ff #ff9d76 #6fd694 #cfa2f2 #e3c34a #5fd3dc)

  @spec svg(Bench.Curves.curve()) :: iodata
  def svg(%{title: title, x: x, y: y, series: series}) do
    frame = frame(for {_name, points} <- series, point <- points, do: point)
    colours = colours(series)

    [
      ~s(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 #{@width} #{@height}" role="img" aria-label="#{escape(title)}">\n),
      style(),
      ~s(<rect class="paper" width="#{@width}" height="#{@height}"/>\n),
      text(@left, 24, title, "title", "start"),
      grid(frame),
      text(div(@left + @width - @right, 2), @height - 12, x, "axis", "middle"),
      ~s(<text class="axis" text-anchor="middle" transform="translate(16 #{div(@top + @height - @bottom, 2)}\) rotate(-90\)">#{escape(y)}</text>\n),
      for(
        {{name, points}, index} <- Enum.with_index(series),
        do: line(points, colours[name], frame, index)
      ),
      labels(series, colours, frame),
      "</svg>\n"
    ]
  end

  defp style do
    classes = fn colours ->
      for {colour, n} <- Enum.with_index(colours),
          do: ".c#{n}{stroke:#{colour}}.t#{n}{fill:#{colour}}"
    end

    """
    <style>
    text{font-family:system-ui,sans-serif;font-size:12px;fill:#333}.title{font-size:15px;font-weight:600}.tick{font-size:11px;fill:#666}
    .paper{fill:#fff}.grid{stroke:#ddd;stroke-width:1}.line{fill:none;stroke-width:2}.dot{stroke:none}.dash1{stroke-dasharray:5 4}.dash2{stroke-dasharray:1 4}
    #{classes.(@light)}
    @media (prefers-color-scheme:dark){text{fill:#ddd}.tick{fill:#aaa}.paper{fill:#111418}.grid{stroke:#333a42}#{classes.(@dark)}}
    </style>
    """
  end

  # "random" and "random, loop in C" have one colour, and another dash.
  defp colours(series) do
    families = series |> Enum.map(&family/1) |> Enum.uniq()

    for {name, _points} = one <- series, into: %{} do
      members = for other <- series, family(other) == family(one), do: elem(other, 0)
      colour = rem(Enum.find_index(families, &(&1 == family(one))), length(@light))
      {name, {colour, Enum.find_index(members, &(&1 == name))}}
    end
  end

  defp family({name, _points}), do: name |> String.split(", ") |> hd()

  ## The frame

  defp frame(points) do
    {xs, ys} = points |> Enum.filter(fn {x, y} -> x > 0 and y > 0 end) |> Enum.unzip()

    %{
      x: {Enum.min(xs), max(Enum.max(xs), 2 * Enum.min(xs))},
      y: decades(Enum.min(ys), Enum.max(ys))
    }
  end

  defp decades(least, most),
    do:
      {:math.pow(10, floor(:math.log10(least))), :math.pow(10, ceil(:math.log10(most) + 1.0e-9))}

  defp at({x, y}, frame), do: {across(x, frame), up(y, frame)}

  defp across(x, %{x: {least, most}}),
    do: @left + part(x, least, most) * (@width - @left - @right)

  defp up(y, %{y: {least, most}}),
    do: @height - @bottom - part(y, least, most) * (@height - @top - @bottom)

  defp part(value, least, most), do: :math.log(value / least) / :math.log(most / least)

  defp grid(%{x: {from, to}, y: {least, most}} = frame) do
    ys =
      for power <- round(:math.log10(least))..round(:math.log10(most)), do: :math.pow(10, power)

    xs = ticks(from, to)

    [
      for y <- ys do
        [
          ~s(<line class="grid" x1="#{@left}" x2="#{@width - @right}" y1="#{f(up(y, frame))}" y2="#{f(up(y, frame))}"/>\n),
          text(@left - 8, up(y, frame) + 4, short(y), "tick", "end")
        ]
      end,
      for x <- xs do
        [
          ~s(<line class="grid" x1="#{f(across(x, frame))}" x2="#{f(across(x, frame))}" y1="#{@top}" y2="#{@height - @bottom}"/>\n),
          text(across(x, frame), @height - @bottom + 16, short(x), "tick", "middle")
        ]
      end
    ]
  end

  # By tens, or by powers of two where that is what was measured.
  defp ticks(from, to) do
    factor = if to / from >= 100_000 or rem(round(to), 10) == 0, do: 10, else: 4
    first = if factor == 10, do: :math.pow(10, ceil(:math.log10(from))), else: from
    first |> Stream.iterate(&(&1 * factor)) |> Enum.take_while(&(&1 <= to * 1.001))
  end

  defp short(value) when value >= 1_000_000, do: "#{number(value / 1_000_000)} M"
  defp short(value) when value >= 10_000, do: "#{number(value / 1_000)} k"
  defp short(value), do: number(value * 1.0)

  defp number(value) when value == trunc(value), do: Integer.to_string(trunc(value))
  defp number(value), do: :erlang.float_to_binary(value, [:compact, decimals: 2])

  ## The lines

  defp line(points, {colour, dash}, frame, _index) do
    places = for point <- points, do: at(point, frame)
    path = Enum.map_join(places, " ", fn {x, y} -> "#{f(x)},#{f(y)}" end)
    dots = if dash == 0, do: places, else: []

    [
      ~s(<polyline class="line c#{colour} dash#{min(dash, 2)}" points="#{path}"/>\n),
      for(
        {x, y} <- dots,
        do: ~s(<circle class="dot t#{colour}" cx="#{f(x)}" cy="#{f(y)}" r="2.6"/>\n)
      )
    ]
  end

  # Beside the end of each line, as far apart as letters are high.
  defp labels(series, colours, frame) do
    series
    |> Enum.map(fn {name, points} -> {name, points |> List.last() |> at(frame)} end)
    |> Enum.sort_by(fn {_name, {_x, y}} -> y end)
    |> Enum.map_reduce(@top - 14, fn {name, {x, y}}, above ->
      y = max(y + 4, above + 15)
      {colour, _dash} = colours[name]
      {text(max(x, @width - @right) + 8, y, name, "t#{colour}", "start"), y}
    end)
    |> elem(0)
  end

  defp text(x, y, text, class, anchor),
    do:
      ~s(<text class="#{class}" x="#{f(x)}" y="#{f(y)}" text-anchor="#{anchor}">#{escape(text)}</text>\n)

  defp f(number), do: :erlang.float_to_binary(number * 1.0, [:compact, decimals: 1])

  defp escape(text),
    do:
      text
      |> String.replace("&", "&amp;")
      |> String.replace("<", "&lt;")
      |> String.replace(">", "&gt;")
end
