defmodule Mix.Tasks.Cryptoki.Verify do
  use Mix.Cryptoki,
    usage:
      "URI --signature FILE [--in FILE] [--mechanism NAME] [--format raw|der] [--public] [options]",
    switches: [
      in: :string,
      signature: :string,
      mechanism: :string,
      format: :string,
      public: :boolean
    ]

  alias Mix.Cryptoki.{Files, Place, Signing}

  @shortdoc "Verifies a signature with a key of a token"

  @moduledoc """
  Verifies a signature in the token: exit status 0 when it is valid, 1 when not.

      $ mix cryptoki.verify "pkcs11:token=payments;object=invoice" --in invoice.pdf --signature invoice.sig

    * `--signature FILE`, `-s`: the signature
    * `--in FILE`, `-i`: what was signed, standard input when not given
    * `--mechanism NAME`, `-m` and `--format der`, `-f`: as `mix cryptoki.sign` has them
    * `--public`, `-p`: no login, for public keys that everybody may see

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    {uri, selector} = Place.key!(arguments, options)
    path = options[:signature] || raise ArgumentError, "--signature is missing"
    signature = Files.read!(path)
    Place.run(uri, options, &verify(&1, selector, signature, options))
  end

  defp verify(hsm, selector, signature, options) do
    mechanism = Signing.mechanism!(hsm, selector, options)

    valid? =
      Files.progress("verifying", fn count ->
        data = Files.input(options, count)
        Cryptoki.valid?(hsm, selector, mechanism, data, signature, Signing.format(options))
      end)

    if valid?, do: Files.text("valid\n"), else: {:no, "not valid"}
  end
end
