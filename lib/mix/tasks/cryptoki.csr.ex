defmodule Mix.Tasks.Cryptoki.Csr do
  use Mix.Cryptoki,
    usage: "URI --subject NAME [--san NAME]... [--der] [--out FILE] [options]",
    switches: [subject: :string, san: :keep, der: :boolean, out: :string]

  alias Mix.Cryptoki.{Files, Place, PublicKeys}

  @shortdoc "Makes a certificate request for a key of a token"

  @moduledoc """
  Makes a certificate request (PKCS #10) for a key pair of a token, signed by it, to be sent to a
  certificate authority.

      $ mix cryptoki.csr "pkcs11:token=payments;object=www" --subject "/C=DE/O=Acme/CN=www.acme.test" --san www.acme.test --out www.csr
      $ openssl req -in www.csr -verify -noout

    * `--subject NAME`, `-s`: whom the certificate is for, as OpenSSL writes it
    * `--san NAME`: one more name of it, as often as there are: a host, an address, an e-mail address, a URI
    * `--der`, `-d`: DER instead of PEM
    * `--out FILE`, `-o`: where it goes, standard output when not given

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    {uri, selector} = Place.key!(arguments, options)
    subject = options[:subject] || raise ArgumentError, "--subject is missing"
    names = Keyword.get_values(options, :san)
    names = if names == [], do: [], else: [subject_alt_name: names]

    Place.logged_in(uri, options, fn hsm ->
      with {:ok, der} <- Cryptoki.X509.csr(hsm, selector, [subject: subject] ++ names),
           do: der |> PublicKeys.encoded("CERTIFICATE REQUEST", options) |> Files.output(options)
    end)
  end
end
