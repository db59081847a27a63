defmodule Cryptoki.Test.AnswersGuide do
  @moduledoc false
  # The table of guides/errors.md that is written from `Cryptoki.Answers`: `MIX_ENV=test mix run --no-start -e
  # Cryptoki.Test.AnswersGuide.write`.

  alias Cryptoki.Answers
  alias Cryptoki.Test.Recorded

  @guide "guides/errors.md"
  @mark "<!-- written from native/cryptoki_ffi/recovery.txt -->\n"

  @session %{
    keep: "kept",
    reopen: "opened anew",
    cancel: "cancelled, or opened anew",
    end: "ended"
  }
  @again %{
    no: "no",
    once: "once",
    login: "once, after a login",
    lookup: "once, after a look at its keys"
  }
  @instance %{
    nil => "",
    absent: "`:absent`",
    reinitialize: "`:absent`, the library is initialised anew",
    locked: "`:locked`, after a login"
  }
  @pin %{
    refused: "refused, as far as anybody knows",
    doubtful: "tried once more",
    untried: "was not tried"
  }

  @doc "Whether the guide has the table as it is."
  @spec current?() :: boolean
  def current?, do: @guide |> File.read!() |> String.ends_with?(@mark <> "\n" <> text())

  @doc "Writes it."
  @spec write() :: :ok
  def write, do: Recorded.publish(@guide, @mark, text())

  defp text do
    heading = ["answer", "executed", "session", "runs again", "instance", "a PIN, to a login"]

    rows =
      for row <- Answers.rows() do
        [
          "`:#{row.name}`",
          to_string((row.executed == :maybe && "maybe") || "no"),
          @session[row.session],
          @again[row.again],
          @instance[row.instance],
          @pin[row.pin]
        ]
      end

    [heading, Enum.map(heading, fn _ -> "---" end) | rows]
    |> Enum.map_join(&("| " <> Enum.join(&1, " | ") <> " |\n"))
  end
end
