defmodule Mix.Tasks.Cryptoki.Random do
  use Mix.Cryptoki,
    usage: "BYTES [URI] [--hex] [--out FILE] [options]",
    switches: [out: :string, hex: :boolean]

  alias Mix.Cryptoki.{Files, Place}

  @shortdoc "Writes random bytes of a token to standard output"

  @moduledoc """
  Writes as many random bytes as asked for, made by the token. No PIN is needed.

      $ mix cryptoki.random 32 "pkcs11:token=payments" --hex
      $ mix cryptoki.random 1000000 "pkcs11:token=payments" --out random.bin

    * `--hex`: in hexadecimal digits and a line end
    * `--out FILE`, `-o`: into a file

  #{Mix.Cryptoki.docs()}
  """

  @chunk 65_536

  defp task(arguments, options) do
    {count, rest} = count!(arguments)
    uri = Place.uri!(rest, options)
    Place.public(uri, options, &write(&1, count, options))
  end

  defp count!([text | rest]) do
    case Integer.parse(text) do
      {count, ""} when count >= 0 -> {count, rest}
      _other -> raise ArgumentError, "#{text} is not a number of bytes"
    end
  end

  defp count!([]), do: raise(ArgumentError, "how many bytes?")

  defp write(hsm, count, options) do
    bytes = Files.progress("random", &collect(hsm, count, &1))

    if options[:hex],
      do: Files.output(Base.encode16(bytes, case: :lower) <> "\n", options),
      else: Files.output(bytes, options)
  end

  defp collect(hsm, count, counter) do
    for at <- Stream.take_while(Stream.iterate(0, &(&1 + @chunk)), &(&1 < count)), into: "" do
      :counters.put(counter, 1, at)
      Cryptoki.random!(hsm, min(@chunk, count - at))
    end
  end
end
