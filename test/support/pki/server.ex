defmodule Cryptoki.Test.PKI.Server do
  @moduledoc false
  # A program that judges what it reads, line by line, and answers with its findings and a line with a dot.

  use GenServer

  @spec start_link({name :: atom, [String.t()]}) :: GenServer.on_start()
  def start_link({name, command}), do: GenServer.start_link(__MODULE__, command, name: name)

  def child_spec({name, _command} = argument),
    do: %{id: name, start: {__MODULE__, :start_link, [argument]}}

  @doc "Asks one question; DER is sent in base64."
  @spec ask(atom, String.t(), [binary]) :: [String.t()]
  def ask(name, question, ders) do
    line = Enum.join([question | Enum.map(ders, &Base.encode64/1)], " ")
    GenServer.call(name, {:ask, line <> "\n"}, :infinity)
  end

  @impl true
  def init([program | arguments]) do
    options = [:binary, :exit_status, line: 65_536, args: arguments]
    {:ok, Port.open({:spawn_executable, program}, options)}
  end

  @impl true
  def handle_call({:ask, line}, _from, port) do
    Port.command(port, line)
    {:reply, answer(port, []), port}
  end

  defp answer(port, findings) do
    receive do
      {^port, {:data, {:eol, "."}}} -> Enum.reverse(findings)
      {^port, {:data, {_eol_or_part, finding}}} -> answer(port, [finding | findings])
      {^port, {:exit_status, status}} -> raise "the judge ended with status #{status}"
    end
  end
end
