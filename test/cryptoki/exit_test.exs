defmodule Cryptoki.ExitTest do
  use ExUnit.Case, async: true

  alias Cryptoki.Test.{FaultyModule, SoftHSM}

  # Calls that hang; test/safety/exit_matrix_test.exs has the rest.

  @script Path.expand("../support/exit_hanging.exs", __DIR__)

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

    ebin = Application.app_dir(:cryptoki, "ebin")
    arguments = ["-pa", ebin, @script, uri, module.journal]
    System.cmd("elixir", arguments, stderr_to_stdout: true)
  end
end
