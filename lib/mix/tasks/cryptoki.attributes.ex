defmodule Mix.Tasks.Cryptoki.Attributes do
  use Mix.Cryptoki,
    usage: "URI [NAME...] [--raw] [--out FILE] [--set NAME=VALUE]... [--public] [options]",
    switches: [raw: :boolean, out: :string, set: :keep, public: :boolean]

  alias Cryptoki.{Attribute, Listing, Table}
  alias Mix.Cryptoki.{Files, Place, Words}

  @shortdoc "Shows the attributes of an object, or changes them"

  @moduledoc """
  Shows what may be known of one object of a token, or the attributes that are named, a line for each.
  Bytes are `0x` and hexadecimal digits. What the token does not tell is said to be so, as
  `attribute_sensitive`; when nothing of what is named can be read, the exit status is 1.

      $ mix cryptoki.attributes "pkcs11:token=payments;object=invoice;type=private"
      $ mix cryptoki.attributes "pkcs11:token=payments;object=invoice;type=public" modulus public_exponent
      $ mix cryptoki.attributes "pkcs11:token=payments;object=note;type=data" value --raw > note.txt
      $ mix cryptoki.attributes "pkcs11:token=payments;object=old;type=private" --set label=new --set id=0x02

  Names are those of `Cryptoki.Attribute`.

    * `--raw`, `-r`: the value of the one attribute that is named, as it is
    * `--out FILE`, `-o`: where it goes, standard output when not given
    * `--set NAME=VALUE`, `-s`: changes this attribute, as often as there are
    * `--public`, `-p`: no login, for what everybody may see

  #{Mix.Cryptoki.docs()}
  """

  defp task([], _options), do: raise(ArgumentError, "name an object by a PKCS #11 URI")

  defp task([uri | names], options) do
    {uri, selector} = Place.key!([uri], options)
    names = Enum.map(names, &Words.name/1)
    _ = Attribute.types!(names)
    changes = Words.template!(options, :set)
    raw!(names, options)

    Place.run(uri, options, fn hsm ->
      with {:ok, object} <- Cryptoki.find_one(hsm, selector),
           :ok <- change(hsm, object, changes),
           do: tell(hsm, object, names, changes, options)
    end)
  end

  defp raw!(names, options) do
    if options[:raw] && length(names) != 1,
      do: raise(ArgumentError, "--raw is for one attribute: name it behind the URI")

    if options[:out] && !options[:raw], do: raise(ArgumentError, "--out is for --raw")
  end

  defp change(_hsm, _object, []), do: :ok
  defp change(hsm, object, changes), do: Cryptoki.update(hsm, object, changes)

  defp tell(_hsm, _object, [], [_ | _], _options), do: :ok

  defp tell(hsm, object, [], [], _options) do
    with {:ok, text} <- Listing.object(hsm, object, Listing.width()), do: Files.text(text)
  end

  defp tell(hsm, object, names, _changes, options) do
    with {:ok, read} <- Cryptoki.attributes(hsm, object, names) do
      if options[:raw], do: raw(read, names, options), else: lines(read, names)
    end
  end

  defp raw(read, [name], options) do
    case read[name] do
      bytes when is_binary(bytes) -> Files.output(bytes, options)
      {:error, reason} -> {:no, "#{name}: #{reason}"}
      other -> Files.output(shown(other), options)
    end
  end

  defp lines(read, names) do
    Files.text(Table.pairs(for(name <- names, do: {"#{name}", shown(read[name])}), :infinity))

    if Enum.all?(names, &match?({:error, _reason}, read[&1])),
      do: {:no, "nothing of it can be read"}
  end

  defp shown({:error, reason}), do: "#{reason}"
  defp shown(""), do: "empty"

  defp shown(bytes) when is_binary(bytes) do
    if String.printable?(bytes), do: bytes, else: "0x" <> Base.encode16(bytes, case: :lower)
  end

  defp shown(value) when is_atom(value) or is_integer(value), do: to_string(value)
  defp shown(value), do: inspect(value, limit: :infinity)
end
