defmodule Mix.Tasks.Cryptoki.Unwrap do
  use Mix.Cryptoki,
    usage:
      "URI --key URI --type NAME [--in FILE] [--mechanism NAME] [--for USES] [--attribute NAME=VALUE]... [options]",
    switches: [
      key: :string,
      type: :string,
      in: :string,
      mechanism: :string,
      for: :string,
      attribute: :keep
    ]

  alias Mix.Cryptoki.{Files, Place, Templates, Words, Wrapping}

  @shortdoc "Makes a key of a token of a wrapped one"

  @moduledoc """
  Makes a key of what `mix cryptoki.wrap` or another program has wrapped, and prints its PKCS #11 URI. The
  first URI names the key that unwraps. It is sensitive and not extractable unless `--attribute` says
  otherwise; if the token has a key of its name already, nothing is made.

      $ mix cryptoki.unwrap "pkcs11:token=other;object=kek" --key "pkcs11:object=archive;id=%03" --type aes --in archive.wrapped

    * `--key URI`, `-k`: the label (`object`) and the `id` of the new key
    * `--type NAME`, `-t`: #{Templates.docs()}
    * `--in FILE`, `-i`: the wrapped key, standard input when not given
    * #{Words.mechanism_docs()}. #{Wrapping.docs()}
    * #{Words.uses_docs()}; without it
      what keys of this type are usually for
    * `--attribute NAME=VALUE`, `-a`: one more attribute, as often as wanted

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    {uri, unwrapping} = Place.key!(arguments, options)
    named = options |> Place.other_key!(:key, uri) |> Keyword.delete(:class)
    template = Templates.key!(named, options)
    blob = Files.whole(options)

    Place.logged_in(uri, options, fn hsm ->
      mechanism = Wrapping.mechanism!(hsm, unwrapping, options)

      with :ok <- Place.free(hsm, named),
           {:ok, key} <- Cryptoki.unwrap_key(hsm, unwrapping, mechanism, blob, template),
           do: Place.print_uri(key)
    end)
  end
end
