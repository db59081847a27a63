defmodule Mix.Tasks.Cryptoki.Mechanisms do
  use Mix.Cryptoki,
    usage: "[URI] [--mechanism NAME] [--for USE] [--names] [options]",
    switches: [mechanism: :string, for: :string, names: :boolean]

  alias Cryptoki.{Listing, Table}
  alias Mix.Cryptoki.{Files, Place, Words}

  @shortdoc "Lists what a token can do"

  @moduledoc """
  Lists the mechanisms of a token: what each is for and the sizes of its keys, in bits or bytes as the
  standard has it for the mechanism. No PIN is needed.

      $ mix cryptoki.mechanisms "pkcs11:token=payments"
      $ mix cryptoki.mechanisms "pkcs11:token=payments" --for sign
      $ mix cryptoki.mechanisms "pkcs11:token=payments" --mechanism aes_gcm

  Mechanisms without a name are numbers. None that fits is exit status 1.

    * `--mechanism NAME`, `-m`: this one only
    * `--for USE`, `-f`: those for `sign`, `verify`, `encrypt`, `decrypt`, `digest`, `wrap`, `unwrap`, `derive`,
      `generate`, `generate_key_pair` ...
    * `--names`, `-n`: a name a line instead of the table

  #{Mix.Cryptoki.docs()}
  """

  # Where a mechanism runs, and which curves it takes, is no use of it.
  @no_use ~r/^(hw|extension|ec_.*|multi_message|find_objects)$/

  defp task(arguments, options) do
    uri = Place.uri!(arguments, options)
    use = options[:for] && Words.name(options[:for])

    Place.public(uri, options, fn hsm ->
      with {:ok, mechanisms} <- Cryptoki.mechanisms(hsm) do
        rows = for name <- wanted(mechanisms, options), row = row(hsm, name, use), do: row
        tell(rows, options)
      end
    end)
  end

  defp wanted(mechanisms, options) do
    wanted = options[:mechanism] && Words.mechanism!(options[:mechanism])
    wanted = with {name, _parameter} <- wanted, do: name
    mechanisms = Enum.sort_by(mechanisms, &{is_integer(&1), &1})
    Enum.filter(mechanisms, &(wanted == nil or &1 == wanted))
  end

  defp row(hsm, name, use) do
    case Cryptoki.mechanism_info(hsm, name(name)) do
      {:ok, info} when use == nil ->
        row(name, info)

      {:ok, info} ->
        if use in info.flags, do: row(name, info)

      {:error, error} when use == nil ->
        [shown(name), "cannot be read: #{error.reason}", nil, nil]

      {:error, _error} ->
        nil
    end
  end

  defp row(name, info) do
    uses = for flag <- info.flags, text = to_string(flag), not (text =~ @no_use), do: text
    [shown(name), Enum.join(uses, " "), size(info.min_key_size), size(info.max_key_size)]
  end

  defp name(number) when is_integer(number), do: {number, ""}
  defp name(name), do: name

  defp shown(number) when is_integer(number), do: "0x" <> Integer.to_string(number, 16)
  defp shown(name), do: Atom.to_string(name)

  defp size(number) when is_integer(number) and number > 0, do: Integer.to_string(number)
  defp size(_none), do: nil

  defp tell([], _options), do: {:no, "no mechanism fits"}

  defp tell(rows, options) do
    if options[:names],
      do: rows |> Enum.map(&[hd(&1), "\n"]) |> Files.text(),
      else: Files.text(Table.format(~w[mechanism for min max], rows, Listing.width()))
  end
end
