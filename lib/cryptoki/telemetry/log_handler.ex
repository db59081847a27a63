defmodule Cryptoki.Telemetry.LogHandler do
  @moduledoc false
  # One log line for an event, for `Cryptoki.Telemetry.attach_default_logger/1`.

  require Logger

  @spec handle([atom], map, map, %{level: Logger.level(), slower_than: non_neg_integer}) :: :ok
  def handle([:cryptoki | event], measurements, metadata, config) do
    with sentence when sentence != nil <- sentence(event, measurements, metadata, config) do
      level = if well?(event, metadata), do: config.level, else: :warning
      Logger.log(level, fn -> "cryptoki #{inspect(metadata.instance)}: #{sentence}" end)
    end

    :ok
  end

  defp well?([:session, name], _metadata), do: name in [:opened, :reopened]
  defp well?([:call, :exception], _metadata), do: false
  defp well?(_event, %{result: result}), do: result == :ok
  defp well?(_event, _metadata), do: true

  defp sentence([:call, :stop], times, %{result: result} = metadata, config) do
    if result != :ok or milliseconds(times.duration) >= config.slower_than do
      parts = "waited #{shown(times.queue_time)}, token #{shown(times.device_time)}"
      "#{call(metadata)} #{result} in #{shown(times.duration)} (#{parts})"
    end
  end

  defp sentence([:call, :exception], times, metadata, _config),
    do: "#{call(metadata)} raised (#{metadata.kind}) after #{shown(times.duration)}"

  defp sentence([:session, name], _times, %{reason: nil}, _config), do: "session #{name}"

  defp sentence([:session, name], _times, %{reason: reason}, _config),
    do: "session #{name} (#{reason})"

  defp sentence([:login], times, %{result: result}, _config),
    do: "login #{result} in #{shown(times.duration)}"

  # The token and the library have log lines without this; starts and measurements are for charts.
  defp sentence(_event, _measurements, _metadata, _config), do: nil

  defp call(%{operation: operation, mechanism: nil}), do: "#{operation}"
  defp call(%{operation: operation, mechanism: name}), do: "#{operation} #{inspect(name)}"

  defp shown(time), do: "#{Float.round(milliseconds(time), 1)} ms"
  defp milliseconds(time), do: System.convert_time_unit(time, :native, :microsecond) / 1000
end
