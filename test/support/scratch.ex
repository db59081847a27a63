defmodule Cryptoki.Test.Scratch do
  @moduledoc false
  # Files for programs outside, gone with this run.

  alias Cryptoki.Test.SoftHSM

  @doc "A new directory."
  @spec directory(String.t()) :: Path.t()
  def directory(prefix) do
    directory = Path.join(SoftHSM.directory(), "#{prefix}-#{System.unique_integer([:positive])}")
    File.mkdir_p!(directory)
    directory
  end

  @doc "What a function makes of a new directory, which is gone after it."
  @spec within(String.t(), (Path.t() -> result)) :: result when result: term
  def within(prefix, function) do
    directory = directory(prefix)

    try do
      function.(directory)
    after
      File.rm_rf!(directory)
    end
  end

  @doc "Writes a file into a directory; answers its path."
  @spec write(Path.t(), String.t(), iodata) :: Path.t()
  def write(directory, name, data) do
    path = Path.join(directory, name)
    File.write!(path, data)
    path
  end
end
