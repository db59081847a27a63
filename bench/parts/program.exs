defmodule Bench.Program do
  @moduledoc false
  # A program that answers "CASE THREADS MILLISECONDS SIZE" with numbers: bench/limit.c, bench/python.py, bench/vm.exs.

  # Milliseconds beyond those of the measurement: a program that hangs is an error.
  @patience 120_000

  @spec start(Path.t(), [binary], [{charlist, charlist}]) :: port
  def start(command, arguments, environment \\ []) do
    path = System.find_executable(command) || command
    options = [:binary, :exit_status, {:line, 200}, args: arguments, env: environment]
    Port.open({:spawn_executable, path}, options)
  end

  @spec ask(port, binary, pos_integer, non_neg_integer, non_neg_integer) :: [integer]
  def ask(port, case, threads, milliseconds, size) do
    Port.command(port, "#{case} #{threads} #{milliseconds} #{size}\n")

    receive do
      {^port, {:data, {:eol, line}}} ->
        for word <- String.split(line), do: String.to_integer(word)

      {^port, {:exit_status, status}} ->
        raise "#{case}: the program has ended with #{status}"
    after
      milliseconds + @patience -> raise "no answer to #{case}"
    end
  end

  @doc "Operations a second; where there was time for none, as if it were one."
  @spec rate(port, binary, pos_integer, non_neg_integer, non_neg_integer) :: float
  def rate(port, case, threads, milliseconds, size \\ 0) do
    [operations, nanoseconds | _] = ask(port, case, threads, milliseconds, size)
    max(operations, 1) * 1.0e9 / nanoseconds
  end

  @doc "Microseconds that a tenth of the operations of one thread do not exceed."
  @spec tenth(port, binary, non_neg_integer, non_neg_integer) :: float
  def tenth(port, case, milliseconds, size) do
    [_, _, nanoseconds] = ask(port, case, 1, milliseconds, size)
    nanoseconds / 1000
  end

  @doc "Ends it, and waits for that."
  @spec stop(port) :: :ok
  def stop(port) do
    {:os_pid, pid} = Port.info(port, :os_pid)
    Port.close(port)
    gone(pid)
  end

  defp gone(pid) do
    if File.dir?("/proc/#{pid}") do
      _ = System.cmd("kill", ["-KILL", "#{pid}"], stderr_to_stdout: true)
      Process.sleep(10)
      gone(pid)
    else
      :ok
    end
  end
end
