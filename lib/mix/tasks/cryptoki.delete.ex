defmodule Mix.Tasks.Cryptoki.Delete do
  use Mix.Cryptoki,
    usage: "URI [--all] [--yes] [options]",
    switches: [all: :boolean, yes: :boolean]

  alias Cryptoki.Listing
  alias Mix.Cryptoki.Place

  @shortdoc "Destroys an object of a token"

  @moduledoc """
  Destroys an object of a token, after a question at the terminal. A key that is destroyed is gone for ever,
  and with it what only it can decrypt.

      $ mix cryptoki.delete "pkcs11:token=payments;object=old;type=private"
      $ mix cryptoki.delete "pkcs11:token=payments;object=old" --all --yes

  A URI that fits several objects, as both halves of a key pair, destroys none, and no object is exit
  status 1.

    * `--all`, `-a`: all objects that fit
    * `--yes`, `-y`: without a question

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    {uri, selector} = Place.key!(arguments, options)

    Place.logged_in(uri, options, fn hsm ->
      with {:ok, objects} <- Cryptoki.find(hsm, selector), do: delete(hsm, objects, options)
    end)
  end

  defp delete(_hsm, [], _options), do: {:no, "no object fits"}

  defp delete(hsm, objects, options) do
    IO.write(:stderr, Listing.objects(hsm, objects, :infinity))
    count = length(objects)

    if count > 1 and !options[:all] do
      raise ArgumentError,
            "#{count} objects fit, nothing is destroyed: add type= to the URI, or say --all"
    end

    what = if count == 1, do: "this object", else: "these #{count} objects"
    :ok = Place.confirm!("Destroy #{what} for ever?", options)
    Enum.find_value(objects, :ok, &destroy(hsm, &1))
  end

  defp destroy(hsm, object), do: with(:ok <- Cryptoki.destroy(hsm, object), do: nil)
end
