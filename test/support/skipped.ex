defmodule Cryptoki.Test.Skipped do
  @moduledoc false
  # A formatter of ExUnit beside its own: why tests were left out, a line for each test, in the file
  # that CRYPTOKI_TEST_SKIPPED names. bin/test adds them up.

  use GenServer

  @impl true
  def init(_opts), do: {:ok, []}

  @impl true
  def handle_cast({:test_finished, %{state: {kind, reason}}}, reasons)
      when kind in [:skipped, :excluded],
      do: {:noreply, [reason | reasons]}

  def handle_cast({:suite_finished, _times}, reasons) do
    if file = System.get_env("CRYPTOKI_TEST_SKIPPED"),
      do: File.write!(file, Enum.map(reasons, &[one_line(&1), "\n"]))

    {:noreply, reasons}
  end

  def handle_cast(_event, reasons), do: {:noreply, reasons}

  defp one_line(reason), do: String.replace(reason, ~r/\s+/, " ")
end
