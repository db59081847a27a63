defmodule Mix.Tasks.Cryptoki.Objects do
  use Mix.Task

  @shortdoc "Lists the keys and other objects of a token"

  @moduledoc """
  Lists the objects of a token: keys with what they may do, certificates, data.

      $ mix cryptoki.objects "pkcs11:token=payments"
      $ mix cryptoki.objects "pkcs11:token=payments;type=private" --uris

  What the URI says of an object (`object`, `id`, `type`) chooses; none is exit status 1.

    * `--uris`, `-u`: a PKCS #11 URI a line instead of the table
    * `--public`, `-p`: no login: only what everybody may see

  #{Mix.Cryptoki.docs()}
  """

  @doc false
  def usage, do: "[URI] [--uris] [--public] [options]"

  @impl true
  def run(argv) do
    Mix.Cryptoki.run(__MODULE__, argv, [uris: :boolean, public: :boolean], fn arguments,
                                                                              options ->
      uri = Mix.Cryptoki.uri!(arguments, options)
      list = &list(&1, Cryptoki.URI.to_selector(uri), options)

      if options[:public],
        do: Mix.Cryptoki.public(uri, options, list),
        else: Mix.Cryptoki.logged_in(uri, options, list)
    end)
  end

  defp list(hsm, selector, options) do
    case Cryptoki.find(hsm, selector) do
      {:ok, []} -> {:no, "no object fits"}
      {:ok, keys} -> print(hsm, keys, options)
      {:error, error} -> {:error, error}
    end
  end

  defp print(hsm, keys, options) do
    if options[:uris],
      do: Enum.each(keys, &Mix.Cryptoki.print_uri/1),
      else: IO.write(Cryptoki.Listing.objects(hsm, keys, Cryptoki.Listing.width()))
  end
end
