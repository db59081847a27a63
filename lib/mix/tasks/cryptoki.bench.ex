defmodule Mix.Tasks.Cryptoki.Bench do
  use Mix.Cryptoki,
    usage: "URI [--sessions COUNT] [--seconds SECONDS] [--mechanism NAME] [options]",
    switches: [sessions: :integer, seconds: :integer, mechanism: :string]

  alias Cryptoki.Table
  alias Mix.Cryptoki.{Files, Place, Signing}

  @shortdoc "Measures how many calls a second a token takes, and says how many sessions that wants"

  @moduledoc """
  Signs with a key of the token, or asks it for random bytes where the URI names no key, with 1, 2, 4 ... callers at once, each
  with a session to itself, and shows how many calls a second come through. The last line says what to write for `sessions:`,
  the fewest that reach nine tenths of the most.

      $ mix cryptoki.bench "pkcs11:token=payments;object=invoice"
      callers  calls a second  milliseconds a call
      -------  --------------  -------------------
      1        101             9.90
      2        200             10.00
      4        396             10.10
      8        410             19.51
      sessions: 4

    * `--sessions COUNT`, `-s`: how many there may be, 16 when not given; a token that has fewer is measured with those
    * `--seconds SECONDS`: how long each line takes, 2 when not given
    * #{Mix.Cryptoki.Words.mechanism_docs()}. Without it as for `mix cryptoki.sign`

  It is measured from here to the token and back: what else calls the token meanwhile is not seen. Signatures are made of 32 bytes,
  and thrown away; a key that asks for a login at each use, or counts its uses, is not for this.

  #{Mix.Cryptoki.docs()}
  """

  @enough 0.9
  @header ["callers", "calls a second", "milliseconds a call"]

  defp task(arguments, options) do
    uri = Place.uri!(arguments, options)
    most = positive!(options, :sessions, 16)
    milliseconds = 1000 * positive!(options, :seconds, 2)
    options = Keyword.put(options, :sessions, most)

    if uri.object || uri.id do
      {uri, selector} = Place.key!(arguments, options)
      Place.logged_in(uri, options, &signs(&1, selector, options, milliseconds))
    else
      Place.public(
        uri,
        options,
        &measure(&1, fn hsm -> Cryptoki.random(hsm, 32) end, milliseconds)
      )
    end
  end

  defp positive!(options, name, default) do
    case Keyword.get(options, name, default) do
      number when number > 0 -> number
      number -> raise ArgumentError, "--#{name} #{number} is not one or more"
    end
  end

  defp signs(hsm, selector, options, milliseconds) do
    mechanism = Signing.mechanism!(hsm, selector, options)
    data = :binary.copy(<<7>>, 32)
    measure(hsm, &Cryptoki.sign(&1, selector, mechanism, data), milliseconds)
  end

  defp measure(hsm, call, milliseconds) do
    with {:ok, _first} <- call.(hsm),
         {:ok, %{sessions: %{open: open}}} <- Cryptoki.status(hsm),
         {:ok, rates} <- rates(hsm, call, callers(open), milliseconds) do
      table = Table.format(@header, Enum.map(rates, &row/1), :infinity)
      Files.text([table, "sessions: #{enough(rates)}\n"])
    end
  end

  # 1, 2, 4 and so on, up to as many as there are sessions.
  defp callers(open) do
    doubled = 1 |> Stream.iterate(&(2 * &1)) |> Enum.take_while(&(&1 < open))
    doubled ++ [max(open, 1)]
  end

  defp rates(hsm, call, callers, milliseconds) do
    rates = for count <- callers, do: {count, rate(hsm, call, count, milliseconds)}

    case for({_count, {:error, error}} <- rates, do: error) do
      [] -> {:ok, rates}
      [error | _rest] -> {:error, error}
    end
  end

  defp rate(hsm, call, callers, milliseconds) do
    begun = System.monotonic_time(:microsecond)
    until = begun + 1000 * milliseconds
    work = fn -> loop(hsm, call, until, 0) end
    counts = 1..callers |> Enum.map(fn _ -> Task.async(work) end) |> Task.await_many(:infinity)

    Enum.find(counts, &is_tuple/1) ||
      1.0e6 * Enum.sum(counts) / (System.monotonic_time(:microsecond) - begun)
  end

  defp loop(hsm, call, until, count) do
    case System.monotonic_time(:microsecond) < until and call.(hsm) do
      false -> count
      {:ok, _result} -> loop(hsm, call, until, count + 1)
      {:error, _error} = error -> error
    end
  end

  defp row({callers, rate}) do
    each = :erlang.float_to_binary(1000 * callers / max(rate, 0.001), decimals: 2)
    [Integer.to_string(callers), Integer.to_string(round(rate)), each]
  end

  defp enough(rates) do
    most = rates |> Enum.map(&elem(&1, 1)) |> Enum.max()
    {callers, _rate} = Enum.find(rates, fn {_callers, rate} -> rate >= @enough * most end)
    callers
  end
end
