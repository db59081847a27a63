defmodule Cryptoki.Test.Vectors.Plain do
  @moduledoc false
  # A token asked by plain C calls out of another program (plain.py), without anything of the library.

  alias Cryptoki.JSON
  alias Cryptoki.Test.{SoftHSM, Token}

  @script "test/support/vectors/plain.py"

  @doc "What came of the calls: a return value for each, and what the last one gave."
  @spec run(Token.t(), [list]) :: String.t()
  def run(token, calls) do
    question = %{
      library: token.library,
      init_args: token.init_args,
      label: token.label,
      pin: SoftHSM.pin(),
      calls: calls
    }

    file = Path.join(SoftHSM.directory(), "plain-#{System.unique_integer([:positive])}.json")
    File.write!(file, JSON.encode!(question))
    command = "exec python3 #{@script} < #{file}"

    try do
      case System.cmd("sh", ["-c", command], stderr_to_stdout: true) do
        {text, 0} -> text |> String.split("\n", trim: true) |> said()
        {text, status} -> raise "#{@script} failed with status #{status}: #{text}"
      end
    after
      File.rm!(file)
    end
  end

  # The preparations went well, or the last line is one of theirs.
  defp said(lines) do
    [function, value, given] = lines |> List.last() |> String.split(" ")
    size = if given == "-", do: 0, else: div(byte_size(given), 2)
    "`#{function}` answers #{value}" <> if(value == "0x0", do: ", #{size} bytes", else: "")
  end
end
