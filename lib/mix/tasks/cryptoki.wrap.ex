defmodule Mix.Tasks.Cryptoki.Wrap do
  use Mix.Cryptoki,
    usage: "URI --key URI [--mechanism NAME] [--out FILE] [options]",
    switches: [key: :string, mechanism: :string, out: :string]

  alias Mix.Cryptoki.{Files, Place, Wrapping}

  @shortdoc "Wraps a key of a token with another one"

  @moduledoc """
  Wraps a key with another key of the same token, to be stored or carried to another token. The first URI
  names the key that wraps. What it gives is the wrapped key alone, as the mechanism makes it.

      $ mix cryptoki.wrap "pkcs11:token=payments;object=kek" --key "pkcs11:object=archive" --out archive.wrapped
      $ mix cryptoki.unwrap "pkcs11:token=other;object=kek" --key "pkcs11:object=archive" --type aes --in archive.wrapped

    * `--key URI`, `-k`: the key to wrap, which has to be extractable
    * #{Mix.Cryptoki.Words.mechanism_docs()}. #{Wrapping.docs()}
    * `--out FILE`, `-o`: where it goes, standard output when not given

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    {uri, wrapping} = Place.key!(arguments, options)
    key = Place.other_key!(options, :key, uri)

    Place.logged_in(uri, options, fn hsm ->
      mechanism = Wrapping.mechanism!(hsm, wrapping, options)

      with {:ok, blob} <- Cryptoki.wrap_key(hsm, wrapping, mechanism, key),
           do: blob |> bytes() |> Files.output(options)
    end)
  end

  # The IV that the token has chosen, and what it wrapped.
  defp bytes({iv, blob}), do: iv <> blob
  defp bytes(blob), do: blob
end
