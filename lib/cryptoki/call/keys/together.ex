defmodule Cryptoki.Keys.Together do
  @moduledoc false
  # The attributes of many objects, so many in a request: one request each costs more than most tokens take to answer.

  alias Cryptoki.{Attribute, Call, Error, Key}
  alias Cryptoki.Native.Wait

  @size 64

  @doc "Handles, as many as are read together."
  @spec chunks([handle]) :: Enumerable.t() when handle: tuple
  def chunks(handles), do: Stream.chunk_every(handles, @size)

  @doc "What tells keys from each other, of each; the error where one cannot be read alone, or of the request."
  @spec read(Cryptoki.Target.t(), [handle], [Attribute.name()]) ::
          {:ok, [map | {:error, Error.t()}]} | {:error, Error.t()}
        when handle: tuple
  def read(target, handles, names) do
    with {:ok, answers} <- each(target, handles, names), do: more(target, handles, answers, names)
  end

  # What is public of a certificate is its value: a second request for all that have one.
  defp more(target, handles, answers, names) do
    missing = fn attributes -> Key.fingerprint_attributes(attributes[:class]) -- names end

    case for({handle, %{} = read} <- Enum.zip(handles, answers), missing.(read) != [], do: handle) do
      [] ->
        {:ok, answers}

      wanted ->
        others = Key.fingerprint_attributes(:certificate) -- names

        with {:ok, values} <- each(target, wanted, others) do
          values = Map.new(Enum.zip(wanted, values))
          {:ok, Enum.zip_with(handles, answers, &merge(&2, values[&1]))}
        end
    end
  end

  defp merge(answer, nil), do: answer
  defp merge(%{} = answer, %{} = more), do: Map.merge(answer, more)
  defp merge(_answer, {:error, _error} = error), do: error

  defp each(target, handles, names) do
    with {:ok, answers} <- Call.run(target, {:attributes_of, handles, Attribute.types!(names)}),
         do: {:ok, Enum.map(answers, &decoded(&1, names))}
  end

  defp decoded({:error, failure}, _names), do: {:error, Wait.error(failure)}
  defp decoded(answer, names), do: Attribute.decode(answer, names)
end
