defmodule Mix.Tasks.Cryptoki.Sign do
  use Mix.Cryptoki,
    usage: "URI [--in FILE] [--out FILE] [--mechanism NAME] [--format raw|der] [options]",
    switches: [in: :string, out: :string, mechanism: :string, format: :string]

  alias Mix.Cryptoki.{Files, Place, Signing}

  @shortdoc "Signs a file or standard input with a key of a token"

  @moduledoc """
  Signs with a key that stays in its token.

      $ mix cryptoki.sign "pkcs11:token=payments;object=invoice" --in invoice.pdf --out invoice.sig
      $ cat invoice.pdf | mix cryptoki.sign "pkcs11:token=payments;object=invoice" > invoice.sig

    * `--in FILE`, `-i`: what to sign, standard input when not given
    * `--out FILE`, `-o`: where the signature goes, standard output when not given
    * #{Mix.Cryptoki.Words.mechanism_docs()}. Without it
      `sha256_rsa_pkcs`, `ecdsa_sha256`, `eddsa`, `ml_dsa`, `sha256_hmac` or `aes_cmac`, as the key is
    * `--format der`, `-f`: an ECDSA signature as X.509 and `openssl dgst` have it; `raw`, the default,
      is r and s as PKCS #11 has it

  More than 1 MiB is given to the token in pieces, which not every mechanism allows.

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    {uri, selector} = Place.key!(arguments, options)
    Place.logged_in(uri, options, &sign(&1, selector, options))
  end

  defp sign(hsm, selector, options) do
    mechanism = Signing.mechanism!(hsm, selector, options)

    signed =
      Files.progress("signing", fn count ->
        data = Files.input(options, count)
        Cryptoki.sign(hsm, selector, mechanism, data, Signing.format(options))
      end)

    with {:ok, signature} <- signed, do: Files.output(signature, options)
  end
end
