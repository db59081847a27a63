defmodule Cryptoki.CrowdTest do
  use ExUnit.Case, async: true

  alias Cryptoki.Test.SoftHSM

  # What is promised of answers holds where nobody can look for them, and where 20 000 wait at once.

  @moduletag timeout: 600_000

  @script Path.expand("../support/crowd.exs", __DIR__)
  @callers 20_000
  @signals Path.expand("../support/signals.exs", __DIR__)
  @rounds 400
  @pinned if System.find_executable("taskset"), do: false, else: "taskset is not there"

  test "20 000 callers on all schedulers" do
    crowd("elixir", [])
  end

  test "20 000 callers on one scheduler" do
    assert crowd("elixir", ["--erl", "+S 1"])[:schedulers] == 1
  end

  @tag skip: @pinned
  test "20 000 callers on one processor" do
    crowd("taskset", ["-c", processor(), "elixir"])
  end

  # OTP 27 to 29 lose signals, or crash, where a process leaves references behind for which it never waits.
  for question <- ~w(status random) do
    test "whoever asks for #{question} and never waits gets what others send it" do
      ebin = Application.app_dir(:cryptoki, "ebin")
      arguments = ["-pa", ebin, @signals, SoftHSM.uri(), "#{@rounds}", unquote(question)]
      assert {output, 0} = System.cmd("elixir", arguments, stderr_to_stdout: true)
      assert {[lost: 0], _binding} = Code.eval_string(output)
    end
  end

  # One that this process may use.
  defp processor do
    {text, 0} = System.cmd("taskset", ["-cp", System.pid()])
    [first] = Regex.run(~r/(\d+)[-,\d]*\s*$/, text, capture: :all_but_first)
    first
  end

  defp crowd(command, arguments) do
    ebin = Application.app_dir(:cryptoki, "ebin")
    arguments = arguments ++ ["-pa", ebin, @script, SoftHSM.uri(), "#{@callers}"]
    {output, status} = System.cmd(command, arguments, stderr_to_stdout: true)
    assert status == 0, output
    {told, _binding} = Code.eval_string(output)
    assert told[:wrong] == 0 and told[:stray] == 0, output
    assert told[:answered] + told[:gave_up] == @callers
    # Those without a time of their own, and whoever had it.
    assert told[:answered] >= @callers - div(@callers, 3)
    told
  end
end
