defmodule Mix.Tasks.Cryptoki.Doctor do
  use Mix.Cryptoki,
    usage: "[URI] [--for MECHANISMS] [--login] [options]",
    switches: [for: :string, login: :boolean]

  alias Cryptoki.Table
  alias Mix.Cryptoki.{Doctor, Files, Place}

  @shortdoc "Says what keeps you from your token, and what to type"

  @moduledoc """
  Goes the way to a token step by step, and says what is in the way and what to type: the library and
  whether this VM can load it, the configuration of SoftHSM and who may read it, the slots, the token and the
  tries of its PIN, where the PIN comes from, and whether the token has what is wanted of it.

      $ mix cryptoki.doctor
      $ mix cryptoki.doctor "pkcs11:token=payments;object=invoice" --for ecdsa_sha256,aes_gcm
      $ mix cryptoki.doctor "pkcs11:token=payments;object=invoice" --login

  No PIN is tried, and nothing is changed. A line begins with `ok`, `careful` or `wrong`; when one is wrong,
  the exit status is 1.

    * `--for MECHANISMS`, `-f`: what is wanted of the token
    * `--login`: tries the PIN, once and never as the last try, and looks for the object that the URI names

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    uri = Place.uri!(arguments, options)
    _ = Doctor.Mechanisms.names!(options)
    findings = Doctor.examine(uri, options)
    findings |> Enum.map(&shown/1) |> Files.text()

    case Enum.count(findings, &(elem(&1, 0) == :wrong)) do
      0 -> :ok
      1 -> {:no, "one thing is in the way"}
      count -> {:no, "#{count} things are in the way"}
    end
  end

  defp shown({level, sentence, hints}) do
    [String.pad_trailing("#{level}", 9), Table.printable(sentence), "\n"] ++
      for hint <- hints, do: ["         $ ", Table.printable(hint), "\n"]
  end
end
