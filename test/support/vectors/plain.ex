defmodule Cryptoki.Test.Vectors.Plain do
  @moduledoc false
  # A token asked by plain C calls out of another program (plain.py), without anything of the library.

  alias Cryptoki.JSON
  alias Cryptoki.Test.{SoftHSM, Token}

  @script "test/support/vectors/plain.py"

  @doc """
  The last call that was made: its name, its return value and how many bytes it gave. Those after one that
  failed are not made.
  """
  @spec run(Token.t(), [list]) :: {String.t(), non_neg_integer, non_neg_integer}
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
        {text, 0} -> text |> String.split("\n", trim: true) |> List.last() |> said()
        {text, status} -> raise "#{@script} failed with status #{status}: #{text}"
      end
    after
      File.rm!(file)
    end
  end

  defp said(line) do
    [function, "0x" <> value, given] = String.split(line, " ")
    size = if given == "-", do: 0, else: div(byte_size(given), 2)
    {function, String.to_integer(value, 16), size}
  end
end
