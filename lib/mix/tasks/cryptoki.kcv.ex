defmodule Mix.Tasks.Cryptoki.Kcv do
  use Mix.Cryptoki, usage: "URI [--expect HEX] [options]", switches: [expect: :string]

  alias Mix.Cryptoki.{Files, Place}

  @shortdoc "Shows the check value of a secret key"

  @moduledoc """
  Shows the check value (KCV) of a secret key, by which two systems see that they have the same key: six
  hexadecimal digits. It proves nothing against somebody who chooses keys, see `Cryptoki.check_value/3`.

      $ mix cryptoki.kcv "pkcs11:token=payments;object=archive"
      66E94B
      $ mix cryptoki.kcv "pkcs11:token=payments;object=archive" --expect 66E94B

    * `--expect HEX`, `-e`: the check value that the other system shows; another one is exit status 1

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    {uri, selector} = Place.key!(arguments, options)
    expected = expected!(options[:expect])

    Place.logged_in(uri, options, fn hsm ->
      with {:ok, value} <- Cryptoki.check_value(hsm, selector) do
        Files.text([Base.encode16(value), "\n"])
        if expected in [nil, value], do: :ok, else: {:no, "not the same"}
      end
    end)
  end

  defp expected!(nil), do: nil

  defp expected!(digits) do
    case Base.decode16(digits, case: :mixed) do
      {:ok, bytes} when byte_size(bytes) == 3 -> bytes
      _other -> raise ArgumentError, "--expect is six hexadecimal digits"
    end
  end
end
