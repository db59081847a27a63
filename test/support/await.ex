defmodule Cryptoki.Test.Await do
  @moduledoc false
  # What no message tells is asked again until it holds, with a breath between: whoever asks without one takes a
  # processor from what is waited for. The test's own time limit ends it otherwise.

  # Milliseconds.
  @breath 2

  @doc "Waits until it holds."
  @spec await((() -> as_boolean(term))) :: :ok
  def await(holds?) do
    unless holds?.() do
      receive after: (@breath -> :ok)
      await(holds?)
    end

    :ok
  end
end
