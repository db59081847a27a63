defmodule Mix.Cryptoki.Doctor.Mechanisms do
  @moduledoc false
  # Whether the token has the mechanisms that somebody wants, or what comes in their place.

  alias Cryptoki.{Error, Names, Prehash, URI}
  alias Mix.Cryptoki.{Doctor, Place, Words}
  alias Mix.Cryptoki.Doctor.Token

  @doc "The names of `--for`; raises `ArgumentError` for one that the standard does not have."
  @spec names!(keyword) :: [atom]
  def names!(options) do
    for text <- String.split(options[:for] || "", ",", trim: true) do
      name = Words.name(text)

      case Names.code(:mechanism, name) do
        {:ok, _code} ->
          name

        :error ->
          raise ArgumentError,
                "--for #{text}: there is no such mechanism" <> Names.hint(all(), name)
      end
    end
  end

  defp all, do: Keyword.keys(Names.all(:mechanism))

  @doc "A finding for each of them."
  @spec wanted(map, URI.t(), keyword) :: [Doctor.finding()]
  def wanted(slot, uri, options) do
    case names!(options) do
      [] -> []
      names -> slot |> mechanisms(uri, options) |> judged(names, slot)
    end
  end

  # Without a login: the list is public.
  defp mechanisms(slot, uri, options),
    do: slot |> Token.uri(uri) |> Place.public(options, &Cryptoki.mechanisms/1)

  defp judged({:ok, mechanisms}, names, slot), do: Enum.map(names, &judge(&1, mechanisms, slot))

  defp judged({:error, %Error{} = error}, _names, _slot),
    do: [{:wrong, Exception.message(error), []}]

  defp judge(name, mechanisms, slot) do
    plain = Prehash.plain(name)

    cond do
      name in mechanisms ->
        {:ok, "the token has #{name}", []}

      plain in mechanisms ->
        {:ok,
         "the token has no #{name}, and has #{plain}: Cryptoki.sign/5 and verify/6 hash in this VM",
         []}

      true ->
        uri = Token.shell(Place.token_uri(slot.token))

        {:wrong, "the token has no #{name}#{near(name, mechanisms)}",
         ["mix cryptoki.mechanisms #{uri}"]}
    end
  end

  defp near(name, mechanisms) do
    text = Atom.to_string(name)

    mechanisms
    |> Enum.filter(&is_atom/1)
    |> Enum.map(&{String.jaro_distance(text, Atom.to_string(&1)), &1})
    |> Enum.filter(fn {distance, _name} -> distance > 0.8 end)
    |> Enum.sort(:desc)
    |> Enum.take(3)
    |> case do
      [] -> ""
      near -> "; it has " <> Enum.map_join(near, ", ", fn {_distance, name} -> "#{name}" end)
    end
  end
end
