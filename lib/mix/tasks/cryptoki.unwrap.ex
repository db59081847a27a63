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

  alias Mix.Cryptoki.{Files, Place, Words, Wrapping}

  # name => {class, key type, what such keys are usually for}
  @types [
    aes: {:secret_key, :aes, [encrypt: true, decrypt: true]},
    hmac: {:secret_key, :generic_secret, [sign: true, verify: true]},
    rsa: {:private_key, :rsa, [sign: true]},
    ec: {:private_key, :ec, [sign: true]},
    ed25519: {:private_key, :ec_edwards, [sign: true]},
    x25519: {:private_key, :ec_montgomery, [derive: true]}
  ]

  @shortdoc "Makes a key of a token of a wrapped one"

  @moduledoc """
  Makes a key of what `mix cryptoki.wrap` or another program has wrapped, and prints its PKCS #11 URI. The
  first URI names the key that unwraps. It is sensitive and not extractable unless `--attribute` says
  otherwise; if the token has a key of its name already, nothing is made.

      $ mix cryptoki.unwrap "pkcs11:token=other;object=kek" --key "pkcs11:object=archive;id=%03" --type aes --in archive.wrapped

    * `--key URI`, `-k`: the label (`object`) and the `id` of the new key
    * `--type NAME`, `-t`: #{Enum.map_join(@types, ", ", fn {name, _row} -> "`#{name}`" end)}
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
    template = template!(named, options)
    blob = Files.whole(options)

    Place.logged_in(uri, options, fn hsm ->
      mechanism = Wrapping.mechanism!(hsm, unwrapping, options)

      with :ok <- Place.free(hsm, named),
           {:ok, key} <- Cryptoki.unwrap_key(hsm, unwrapping, mechanism, blob, template),
           do: Place.print_uri(key)
    end)
  end

  defp template!(named, options) do
    type = options[:type] || raise ArgumentError, "--type is missing"

    {class, key_type, usual} =
      @types[Words.name(type)] ||
        raise ArgumentError, "--type #{type} is none of #{Enum.join(Keyword.keys(@types), ", ")}"

    kept = [token: true, private: true, sensitive: true, extractable: false]

    ([class: class, key_type: key_type] ++ kept)
    |> Keyword.merge(named)
    |> Keyword.merge(uses(options, usual, class))
    |> Keyword.merge(Words.template!(options, :attribute))
  end

  # A private key does not verify, encrypt or wrap: tokens refuse these attributes for it.
  defp uses(options, usual, class) do
    case Words.uses!(options) do
      [] -> usual
      uses when class == :private_key -> Keyword.take(uses, [:sign, :decrypt, :unwrap, :derive])
      uses -> uses
    end
  end
end
