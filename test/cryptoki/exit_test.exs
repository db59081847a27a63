defmodule Cryptoki.ExitTest do
  use ExUnit.Case, async: true

  # A few rounds here; `bin/support/exits` runs a hundred of each.
  @rounds String.to_integer(System.get_env("CRYPTOKI_EXIT_ROUNDS", "4"))
  @script Path.expand("../support/exit.exs", __DIR__)

  @ways [
    halt: 3,
    end_of_script: 0,
    uncaught: 1,
    stop: 3,
    sigterm: 0,
    halt_without_flush: 3,
    application_stop: 0
  ]

  for {way, status} <- @ways do
    @tag timeout: :infinity
    test "a VM that ends by #{way} while processes sign exits with #{status}, #{@rounds} times" do
      runs =
        1..@rounds
        |> Task.async_stream(fn _round -> run(unquote(to_string(way))) end,
          max_concurrency: 2,
          timeout: :infinity
        )
        |> Enum.map(fn {:ok, {_output, _status} = run} -> run end)

      # A signal would show as 128 and its number: 139 is a segmentation fault.
      assert for({output, status} <- runs, status != unquote(status), do: {status, output}) == []
    end
  end

  defp run(way) do
    paths = Enum.flat_map([:cryptoki], &["-pa", to_string(:code.lib_dir(&1)) <> "/ebin"])
    arguments = paths ++ [@script, way, Cryptoki.Test.SoftHSM.uri()]
    System.cmd("elixir", arguments, stderr_to_stdout: true)
  end
end
