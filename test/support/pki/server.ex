defmodule Cryptoki.Test.PKI.Server do
  @moduledoc false
  # A program that judges what it reads, line by line, and answers with its findings and a line with a dot.

  use GenServer

  @doc "Asks one question; DER is sent in base64. The first one starts the program, which all tests share."
  @spec ask(atom, (() -> [String.t()]), String.t(), [binary]) :: [String.t()]
  def ask(name, command, question, ders) do
    line = Enum.join([question | Enum.map(ders, &Base.encode64/1)], " ")

    with nil <- Process.whereis(name),
         {:error, reason} <- GenServer.start(__MODULE__, command, name: name),
         do: {:already_started, _pid} = reason

    GenServer.call(name, {:ask, line <> "\n"}, :infinity)
  end

  @impl true
  def init(command) do
    [program | arguments] = command.()
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
