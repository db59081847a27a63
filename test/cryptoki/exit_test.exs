defmodule Cryptoki.ExitTest do
  use ExUnit.Case, async: true

  alias Cryptoki.Test.{FaultyModule, SoftHSM}

  # A few rounds here; `bin/support/exits` runs a hundred of each.
  @rounds String.to_integer(System.get_env("CRYPTOKI_EXIT_ROUNDS", "4"))
  @script Path.expand("../support/exit.exs", __DIR__)
  @hanging Path.expand("../support/exit_hanging.exs", __DIR__)

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

  for function <- ["C_Initialize", "C_Finalize", "C_Login", "C_GenerateRandom"] do
    test "a VM exits with its status while #{function} hangs for ever" do
      assert {_output, 3} = run_hanging("#{unquote(function)} hang")
    end
  end

  # As OpenSSL does inside of a library: after C_Initialize, when something is needed first.
  test "no destructor that a library registers late runs while a call is in it" do
    assert {_output, 3} = run_hanging("C_OpenSession crash=exit\nC_GenerateRandom hang")
  end

  defp run_hanging(rules) do
    module = FaultyModule.new()
    FaultyModule.control(module, rules)

    uri =
      "pkcs11:token=#{SoftHSM.label()}?module-path=#{module.library}&pin-value=#{SoftHSM.pin()}"

    run(@hanging, [uri, module.journal])
  end

  defp run(way), do: run(@script, [way, SoftHSM.uri()])

  defp run(script, arguments) do
    path = Application.app_dir(:cryptoki, "ebin")
    System.cmd("elixir", ["-pa", path, script | arguments], stderr_to_stdout: true)
  end
end
