defmodule Cryptoki.Prompt do
  @moduledoc false
  # Asks the person at the terminal. What is secret is not echoed, or not asked for.
  #
  # OTP asks for passwords in its shells (`:io.get_password/1`), but below OTP 28 not in a VM without
  # one, which is where Mix runs. There a `stty` holds the terminal silent. It is a process of its own
  # that ends with the VM, so that the terminal echoes again whatever becomes of the VM.

  alias Cryptoki.Error

  # File descriptor 3 is what the VM has for its standard error.
  @silence """
  exec 3<&2 2>/dev/null
  before=$(stty -g <&3) && stty -echo <&3 || exit 1
  echo silent
  read -r _
  stty "$before" <&3
  """

  # How often an empty line is asked about.
  @attempts 3

  @type answer :: {:ok, String.t()} | {:error, Error.t()}

  @doc "Asks for a secret in a shell of Erlang or Elixir, also a remote one."
  @spec shell_secret(String.t()) :: answer
  def shell_secret(question) do
    IO.write(question)

    # Of OTP 28 and newer get_password/0 asks `:user`, which does not silence the shell's terminal.
    case :io.get_password(Process.group_leader()) do
      {:error, :enotsup} ->
        silently("")

      answer ->
        # Nor is the end of the line echoed there.
        if System.otp_release() >= "28", do: IO.write("\n")
        line(answer)
    end
  end

  @doc "Asks for a secret on the terminal of the VM, also when its standard input is none."
  @spec secret(String.t()) :: answer
  def secret(question), do: secret(question, @attempts)

  # A token would count an empty PIN as a wrong one.
  defp secret(_question, 0), do: line(:eof)

  defp secret(question, attempts) do
    with {:ok, ""} <- silently(question), do: secret(question, attempts - 1)
  end

  defp silently(question) do
    case silence() do
      {:ok, silent} ->
        try do
          IO.write(:stderr, question)
          line(read())
        after
          speak(silent)
          IO.write(:stderr, "\n")
        end

      :error ->
        {:error, Error.new(:pin_unavailable, "there is no terminal to ask for it without echo")}
    end
  end

  @doc "Asks for a line in a shell."
  @spec ask(String.t()) :: answer
  def ask(question), do: line(IO.gets(question))

  @doc "Whether the person at the VM's terminal says yes, in so many letters."
  @spec confirmed?(String.t()) :: boolean
  def confirmed?(question) do
    IO.write(:stderr, question <> " Type yes: ")
    line(read()) == {:ok, "yes"}
  end

  @doc "Whether somebody sees what is written to the standard error."
  @spec terminal?() :: boolean
  def terminal?, do: match?({_, 0}, System.cmd("sh", ["-c", "test -t 2"]))

  defp line(line) when is_binary(line) or is_list(line),
    do: {:ok, line |> to_string() |> String.trim_trailing("\n") |> String.trim_trailing("\r")}

  defp line(_eof_or_error), do: {:error, Error.new(:pin_unavailable, "nothing was entered")}

  defp silence do
    arguments = [:binary, :exit_status, args: ["-c", @silence]]

    with sh when sh != nil <- System.find_executable("sh") do
      port = Port.open({:spawn_executable, sh}, arguments)

      receive do
        {^port, {:data, _silent}} -> {:ok, port}
        {^port, {:exit_status, _no_terminal}} -> :error
      end
    else
      nil -> :error
    end
  end

  defp speak(port) do
    Port.command(port, "\n")

    receive do
      {^port, {:exit_status, _status}} -> :ok
    end
  end

  # The VM may have begun to read a terminal that is its standard input: nobody else can.
  defp read do
    if standard_input_terminal?() do
      IO.gets("")
    else
      case File.open("/dev/tty", [:read, :raw, :binary], &read_line(&1, "")) do
        {:ok, line} -> line
        {:error, _no_terminal} -> :eof
      end
    end
  end

  # A raw file reads until it has as many bytes as it was asked for, also from a terminal.
  defp read_line(terminal, line) do
    case :file.read(terminal, 1) do
      {:ok, byte} when byte != "\n" -> read_line(terminal, line <> byte)
      # A signal is no answer.
      {:error, reason} when reason in [:eintr, :eagain] -> read_line(terminal, line)
      _end_of_line_or_file -> line
    end
  end

  defp standard_input_terminal? do
    if Code.ensure_loaded?(:prim_tty) and function_exported?(:prim_tty, :isatty, 1) do
      apply(:prim_tty, :isatty, [:stdin]) == true
    else
      case File.read_link("/proc/self/fd/0") do
        {:ok, device} -> device =~ ~r"^/dev/(pts/|tty|console)"
        {:error, _not_linux} -> true
      end
    end
  end
end
