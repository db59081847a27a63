defmodule Cryptoki.Test.Reasons do
  @moduledoc false
  # A formatter of ExUnit beside its own: why tests were left out, a line for each test, and what failed, in the files
  # that CRYPTOKI_TEST_SKIPPED and CRYPTOKI_TEST_FAILED name. bin/test says both at its end, where nothing hides it.

  use GenServer

  @impl true
  def init(_opts), do: {:ok, %{skipped: [], failed: []}}

  @impl true
  def handle_cast({:test_finished, %{state: {kind, reason}}}, reasons)
      when kind in [:skipped, :excluded],
      do: {:noreply, %{reasons | skipped: [[one_line(reason), "\n"] | reasons.skipped]}}

  def handle_cast({:test_finished, %{state: {:failed, failures}} = test}, %{failed: failed} = all) do
    text = ExUnit.Formatter.format_test_failure(test, failures, length(failed) + 1, 120, &plain/2)
    {:noreply, %{all | failed: [[text, "\n"] | failed]}}
  end

  def handle_cast(
        {:module_finished, %{state: {:failed, failures}} = module},
        %{failed: failed} = all
      ) do
    number = length(failed) + 1
    text = ExUnit.Formatter.format_test_all_failure(module, failures, number, 120, &plain/2)
    {:noreply, %{all | failed: [[text, "\n"] | failed]}}
  end

  def handle_cast({:suite_finished, _times}, %{skipped: skipped, failed: failed} = reasons) do
    write("CRYPTOKI_TEST_SKIPPED", skipped)
    write("CRYPTOKI_TEST_FAILED", Enum.reverse(failed))
    {:noreply, reasons}
  end

  def handle_cast(_event, reasons), do: {:noreply, reasons}

  defp write(variable, lines) do
    if file = System.get_env(variable), do: File.write!(file, lines)
  end

  defp one_line(reason), do: String.replace(reason, ~r/\s+/, " ")

  defp plain(:diff_enabled?, _default), do: false
  defp plain(_part, text), do: text
end
