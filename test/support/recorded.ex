defmodule Cryptoki.Test.Recorded do
  @moduledoc false
  # What several VMs of one run have come to, in a file that an environment variable names, and the guide that is
  # written from it: what stands above its mark stays.

  @doc "Keeps one term, where the variable names a file."
  @spec keep(String.t(), (() -> term)) :: :ok
  def keep(variable, term) do
    with file when file != nil <- System.get_env(variable) do
      line = term.() |> :erlang.term_to_binary() |> Base.encode64()
      File.write!(file, line <> "\n", [:append])
    end

    :ok
  end

  @doc "Keeps what was judged, where `bin/test --pki` asks for it."
  @spec pki(tuple) :: :ok
  def pki(line), do: keep("CRYPTOKI_TEST_PKI_REPORT", fn -> line end)

  @doc "All terms in a file."
  @spec read(Path.t()) :: [term]
  def read(file) do
    for line <- file |> File.read!() |> String.split("\n", trim: true),
        do: line |> Base.decode64!() |> :erlang.binary_to_term()
  end

  @doc "Writes what stands below the mark of a guide anew."
  @spec publish(Path.t(), String.t(), iodata) :: :ok
  def publish(guide, mark, text) do
    [introduction, _old] = guide |> File.read!() |> String.split(mark)
    File.write!(guide, [introduction, mark, "\n", text])
    IO.puts("Written: #{guide}")
  end
end
