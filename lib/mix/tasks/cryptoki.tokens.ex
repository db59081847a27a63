defmodule Mix.Tasks.Cryptoki.Tokens do
  use Mix.Cryptoki,
    usage: "[URI] [--uris] [options]",
    switches: [uris: :boolean]

  alias Mix.Cryptoki.{Files, Place}

  @shortdoc "Lists the tokens of a PKCS #11 library"

  @moduledoc """
  Lists the slots of a PKCS #11 library and the tokens in them. No PIN is needed.

      $ mix cryptoki.tokens --library /usr/lib/softhsm/libsofthsm2.so
      $ mix cryptoki.tokens "pkcs11:token=payments?module-name=softhsm2"

  With a URI only the tokens that fit it are shown, and none is exit status 1.

    * `--uris`, `-u`: a PKCS #11 URI a line instead of the table

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    uri = Place.uri!(arguments, options)

    with {:ok, all, fitting} <- Place.slots(uri, options) do
      slots = if arguments == [], do: all, else: fitting

      cond do
        slots == [] -> {:no, "no token fits"}
        options[:uris] -> fitting |> Enum.map(&[Place.token_uri(&1.token), "\n"]) |> Files.text()
        true -> Files.text(Cryptoki.Listing.tokens(slots, Cryptoki.Listing.width()))
      end
    end
  end
end
