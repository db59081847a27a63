defmodule Mix.Tasks.Cryptoki.Objects do
  use Mix.Cryptoki,
    usage: "[URI] [--uris] [--public] [options]",
    switches: [uris: :boolean, public: :boolean]

  alias Mix.Cryptoki.{Files, Place}

  @shortdoc "Lists the keys and other objects of a token"

  @moduledoc """
  Lists the objects of a token: keys with what they may do, certificates, data.

      $ mix cryptoki.objects "pkcs11:token=payments"
      $ mix cryptoki.objects "pkcs11:token=payments;type=private" --uris

  What the URI says of an object (`object`, `id`, `type`) chooses; none is exit status 1.

    * `--uris`, `-u`: a PKCS #11 URI a line instead of the table
    * `--public`, `-p`: no login: only what everybody may see

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    uri = Place.uri!(arguments, options)
    Place.run(uri, options, &list(&1, Cryptoki.URI.to_selector(uri), options))
  end

  defp list(hsm, selector, options) do
    case Cryptoki.find(hsm, selector) do
      {:ok, []} -> {:no, "no object fits"}
      {:ok, keys} -> print(hsm, keys, options)
      {:error, error} -> {:error, error}
    end
  end

  defp print(hsm, keys, options) do
    if options[:uris],
      do: Enum.each(keys, &Place.print_uri/1),
      else: Files.text(Cryptoki.Listing.objects(hsm, keys, Cryptoki.Listing.width()))
  end
end
