defmodule Mix.Tasks.Cryptoki.Certificate do
  use Mix.Cryptoki,
    usage: "URI [--chain] [--der] [--out FILE] [--public] [options]",
    switches: [chain: :boolean, der: :boolean, out: :string, public: :boolean]

  alias Cryptoki.X509
  alias Mix.Cryptoki.{Files, Place, PublicKeys}

  @shortdoc "Writes a certificate of a token as PEM"

  @moduledoc """
  Writes a certificate that is stored on a token: the one of this name, or, where the URI names a key
  (`type=private`), the one with its public key, whatever it is called.

      $ mix cryptoki.certificate "pkcs11:token=payments;object=www" --out www.pem
      $ openssl x509 -in www.pem -text -noout

  `mix cryptoki.import` stores one, `mix cryptoki.objects "pkcs11:token=payments;type=cert"` lists all.

    * `--chain`, `-c`: the certificate of the key that the URI names, and those above it that the token has,
      without the root: what a server sends
    * `--der`, `-d`: DER instead of PEM
    * `--out FILE`, `-o`: where it goes, standard output when not given
    * `--public`, `-p`: no login, for certificates that everybody may see

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    {uri, selector} = Place.key!(arguments, options)

    if options[:chain] && options[:der],
      do: raise(ArgumentError, "--chain is PEM: leave --der out")

    Place.run(uri, options, fn hsm ->
      with {:ok, ders} <- certificates(hsm, selector, options[:chain]) do
        ders |> Enum.map(&PublicKeys.encoded(&1, "CERTIFICATE", options)) |> Files.output(options)
      end
    end)
  end

  defp certificates(hsm, selector, true), do: X509.chain(hsm, selector)

  defp certificates(hsm, selector, _one),
    do: with({:ok, der} <- certificate(hsm, selector), do: {:ok, [der]})

  defp certificate(hsm, selector) do
    if selector[:class] in [nil, :certificate] do
      Cryptoki.certificate(hsm, selector)
    else
      with {:ok, key} <- Cryptoki.find_one(hsm, selector), do: Cryptoki.certificate(hsm, key)
    end
  end
end
