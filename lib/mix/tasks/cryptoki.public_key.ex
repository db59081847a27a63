defmodule Mix.Tasks.Cryptoki.PublicKey do
  use Mix.Cryptoki,
    usage: "URI [--der] [--out FILE] [--public] [options]",
    switches: [der: :boolean, out: :string, public: :boolean]

  alias Mix.Cryptoki.{Files, Place, PublicKeys}

  @shortdoc "Writes the public key of a key pair as PEM"

  @moduledoc """
  Writes the public key of a key pair or of a certificate, as other programs read it (PEM with `BEGIN
  PUBLIC KEY`). Of a private key it is the half that is proven to be its own, see `Cryptoki.public_key/3`.

      $ mix cryptoki.public_key "pkcs11:token=payments;object=invoice" --out invoice.pub
      $ openssl pkey -pubin -in invoice.pub -text -noout

    * `--der`, `-d`: DER instead of PEM
    * `--out FILE`, `-o`: where it goes, standard output when not given
    * `--public`, `-p`: no login, for public keys that everybody may see

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    {uri, selector} = Place.key!(arguments, options)

    Place.run(uri, options, fn hsm ->
      with {:ok, der} <- PublicKeys.der(hsm, selector),
           do: der |> PublicKeys.encoded("PUBLIC KEY", options) |> Files.output(options)
    end)
  end
end
