defmodule Mix.Tasks.Cryptoki.Verify do
  use Mix.Task

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

  @switches [
    in: :string,
    signature: :string,
    mechanism: :string,
    format: :string,
    public: :boolean
  ]

  @doc false
  def usage,
    do: "URI --signature FILE [--in FILE] [--mechanism NAME] [--format raw|der] [options]"

  @impl true
  def run(argv) do
    Mix.Cryptoki.run(__MODULE__, argv, @switches, fn arguments, options ->
      {uri, selector} = Mix.Cryptoki.key!(arguments, options)
      path = options[:signature] || raise ArgumentError, "--signature is missing"
      signature = Mix.Cryptoki.read!(path)
      verify = &verify(&1, selector, signature, options)

      if options[:public],
        do: Mix.Cryptoki.public(uri, options, verify),
        else: Mix.Cryptoki.logged_in(uri, options, verify)
    end)
  end

  defp verify(hsm, selector, signature, options) do
    mechanism = Mix.Cryptoki.mechanism!(hsm, selector, options)

    valid? =
      Mix.Cryptoki.progress("verifying", fn count ->
        data = Mix.Cryptoki.input(options, count)
        Cryptoki.valid?(hsm, selector, mechanism, data, signature, Mix.Cryptoki.format(options))
      end)

    if valid?, do: IO.puts("valid"), else: {:no, "not valid"}
  end
end
