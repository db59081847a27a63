# Stands in for the application :telemetry, which Debian does not package, with the functions of its
# interface that are used here. A handler that raises is detached, as there. Loaded by tests that then
# unload it: while it is there, every call of the VM emits.
defmodule :telemetry do
  @table __MODULE__.Handlers

  def start do
    :ets.new(@table, [:named_table, :public, :bag])
    :ok
  end

  def attach_many(id, events, fun, config) do
    if :ets.match(@table, {:_, id, :_, :_}) == [] do
      for event <- events, do: :ets.insert(@table, {event, id, fun, config})
      :ok
    else
      {:error, :already_exists}
    end
  end

  def attach(id, event, fun, config), do: attach_many(id, [event], fun, config)

  def detach(id) do
    if :ets.match(@table, {:_, id, :_, :_}) == [] do
      {:error, :not_found}
    else
      :ets.match_delete(@table, {:_, id, :_, :_})
      :ok
    end
  end

  def execute(event, measurements, metadata) do
    for {_event, id, fun, config} <- :ets.lookup(@table, event) do
      try do
        fun.(event, measurements, metadata, config)
      catch
        _kind, _reason -> detach(id)
      end
    end

    :ok
  end
end
