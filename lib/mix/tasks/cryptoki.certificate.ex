defmodule Mix.Tasks.Cryptoki.Certificate do
  use Mix.Cryptoki,
    usage: "URI [--der] [--out FILE] [--public] [options]",
    switches: [der: :boolean, out: :string, public: :boolean]

  alias Mix.Cryptoki.{Files, Place, PublicKeys}

  @shortdoc "Writes a certificate of a token as PEM"

  @moduledoc """
  Writes a certificate that is stored on a token: the one of this name, or, where the URI names a key
  (`type=private`), the one with its public key, whatever it is called.

      $ mix cryptoki.certificate "pkcs11:token=payments;object=www" --out www.pem
      $ openssl x509 -in www.pem -text -noout

  `mix cryptoki.import` stores one, `mix cryptoki.objects "pkcs11:token=payments;type=cert"` lists all.

    * `--der`, `-d`: DER instead of PEM
    * `--out FILE`, `-o`: where it goes, standard output when not given
    * `--public`, `-p`: no login, for certificates that everybody may see

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    {uri, selector} = Place.key!(arguments, options)

    Place.run(uri, options, fn hsm ->
      with {:ok, der} <- certificate(hsm, selector),
           do: der |> PublicKeys.encoded("CERTIFICATE", options) |> Files.output(options)
    end)
  end

  defp certificate(hsm, selector) do
    if selector[:class] in [nil, :certificate] do
      Cryptoki.certificate(hsm, selector)
    else
      with {:ok, key} <- Cryptoki.find_one(hsm, selector), do: Cryptoki.certificate(hsm, key)
    end
  end
end
