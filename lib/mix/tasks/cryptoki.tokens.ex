defmodule Mix.Tasks.Cryptoki.Tokens do
  use Mix.Task

  @shortdoc "Lists the tokens of a PKCS #11 library"

  @moduledoc """
  Lists the slots of a PKCS #11 library and the tokens in them. No PIN is needed.

      $ mix cryptoki.tokens --library /usr/lib/softhsm/libsofthsm2.so
      $ mix cryptoki.tokens "pkcs11:token=payments?module-name=softhsm2"

  With a URI only the tokens that fit it are shown, and none is exit status 1.

    * `--uris`, `-u`: a PKCS #11 URI a line instead of the table

  #{Mix.Cryptoki.docs()}
  """

  @doc false
  def usage, do: "[URI] [--uris] [options]"

  @impl true
  def run(argv) do
    Mix.Cryptoki.run(__MODULE__, argv, [uris: :boolean], fn arguments, options ->
      uri = Mix.Cryptoki.uri!(arguments, options)

      with {:ok, all, fitting} <- Mix.Cryptoki.slots(uri, options) do
        slots = if arguments == [], do: all, else: fitting

        cond do
          slots == [] -> {:no, "no token fits"}
          options[:uris] -> Enum.each(fitting, &IO.puts(uri(&1.token)))
          true -> IO.write(Cryptoki.Listing.tokens(slots, Cryptoki.Listing.width()))
        end
      end
    end)
  end

  defp uri(token) do
    fields = [:manufacturer, :model, :serial]

    [token: token.label]
    |> Keyword.merge(Enum.map(fields, &{&1, token[&1]}))
    |> Cryptoki.URI.new()
  end
end
