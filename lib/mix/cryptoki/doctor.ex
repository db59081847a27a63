defmodule Mix.Cryptoki.Doctor do
  @moduledoc false
  # Goes the way of a newcomer: the library, what it is configured by, its slots, the token, the PIN, what the
  # token can do; and stops where the way ends. No PIN is tried unless the command says so.

  alias Cryptoki.{Error, Opening, URI}
  alias Cryptoki.Native.Loader
  alias Mix.Cryptoki.Doctor.{Access, Library, Mechanisms, SoftHSM, Token}
  alias Mix.Cryptoki.Place

  @typedoc "What was found, and what to type about it."
  @type finding :: {:ok | :careful | :wrong, String.t(), [String.t()]}

  @typedoc "What the findings have led to, or that there is no going on."
  @type found(value) :: {:ok, value, [finding]} | {:stop, [finding]}

  @doc "All findings, in the order of the way."
  @spec examine(URI.t(), keyword) :: [finding]
  def examine(uri, options) do
    :ok = Mix.Cryptoki.start()

    steps([
      fn nil -> native() end,
      fn nil -> library(uri, options) end,
      fn where -> slots(where) end,
      fn {where, slots} -> Token.chosen(slots, where.place, uri) end,
      fn slot -> Token.state(slot) end,
      fn slot -> token(slot, uri, options) end
    ])
  end

  # Each step gets what the one before it has found.
  defp steps(steps) do
    {_value, findings} =
      Enum.reduce_while(steps, {nil, []}, fn step, {value, findings} ->
        case step.(value) do
          {:ok, value, more} -> {:cont, {value, findings ++ more}}
          {:stop, more} -> {:halt, {nil, findings ++ more}}
        end
      end)

    findings
  end

  defp native do
    case Loader.error() do
      nil -> {:ok, nil, []}
      sentence -> {:stop, [{:wrong, sentence, []}]}
    end
  end

  defp library(uri, options) do
    with {:ok, where} <- Place.where(uri, options),
         {:ok, path, _nothing} <- Library.file(where.library[:library]),
         {:ok, _path, findings} <- SoftHSM.configuration(path) do
      {:ok, put_in(where.library[:library], path), findings}
    else
      {:error, error} -> {:stop, [Library.unknown(Exception.message(error))]}
      {:stop, findings} -> {:stop, findings}
    end
  end

  defp slots(%{library: library} = where) do
    case Opening.slots(where) do
      {:ok, []} -> {:stop, [Library.without_slots(library[:library])]}
      {:ok, slots} -> {:ok, {where, slots}, [Library.answers(library, slots)]}
      {:error, %Error{} = error} -> {:stop, [Library.refused(library[:library], error)]}
    end
  end

  # The PIN first, which is only looked at; then what needs the token.
  defp token(slot, uri, options) do
    pin = Access.pin(slot, uri, options)
    mechanisms = Mechanisms.wanted(slot, uri, options)
    {:ok, slot, pin ++ mechanisms ++ Access.login(slot, uri, options)}
  end
end
