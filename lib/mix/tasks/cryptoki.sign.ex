defmodule Mix.Tasks.Cryptoki.Sign do
  use Mix.Task

  @shortdoc "Signs a file or standard input with a key of a token"

  @moduledoc """
  Signs with a key that stays in its token.

      $ mix cryptoki.sign "pkcs11:token=payments;object=invoice" --in invoice.pdf --out invoice.sig
      $ cat invoice.pdf | mix cryptoki.sign "pkcs11:token=payments;object=invoice" > invoice.sig

    * `--in FILE`, `-i`: what to sign, standard input when not given
    * `--out FILE`, `-o`: where the signature goes, standard output when not given
    * `--mechanism NAME`, `-m`: such as `ecdsa_sha384` or, with arguments,
      `rsa_pkcs_pss:hash=sha256,mgf=mgf1_sha256,salt_len=32`. Without it `sha256_rsa_pkcs`, `ecdsa_sha256`,
      `eddsa`, `ml_dsa`, `sha256_hmac` or `aes_cmac`, as the key is
    * `--format der`, `-f`: an ECDSA signature as X.509 and `openssl dgst` have it; `raw`, the default,
      is r and s as PKCS #11 has it

  More than 1 MiB is given to the token in pieces, which not every mechanism allows.

  #{Mix.Cryptoki.docs()}
  """

  @switches [in: :string, out: :string, mechanism: :string, format: :string]

  @doc false
  def usage, do: "URI [--in FILE] [--out FILE] [--mechanism NAME] [--format raw|der] [options]"

  @impl true
  def run(argv) do
    Mix.Cryptoki.run(__MODULE__, argv, @switches, fn arguments, options ->
      {uri, selector} = Mix.Cryptoki.key!(arguments, options)
      Mix.Cryptoki.logged_in(uri, options, &sign(&1, selector, options))
    end)
  end

  defp sign(hsm, selector, options) do
    mechanism = Mix.Cryptoki.mechanism!(hsm, selector, options)

    signed =
      Mix.Cryptoki.progress("signing", fn count ->
        data = Mix.Cryptoki.input(options, count)
        Cryptoki.sign(hsm, selector, mechanism, data, Mix.Cryptoki.format(options))
      end)

    with {:ok, signature} <- signed, do: Mix.Cryptoki.output(signature, options)
  end
end
