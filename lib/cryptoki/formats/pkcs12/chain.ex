defmodule Cryptoki.PKCS12.Chain do
  @moduledoc false
  # The certificates of a key in their order: its own, its issuer's and so on, by their names; then all others
  # as they were. Pure.

  alias Cryptoki.DER.Reader
  alias Cryptoki.PublicKey.Decode

  @spec sorted([binary], term) :: [binary]
  def sorted(certificates, public) do
    certificates = Enum.uniq(certificates)

    case Enum.find(certificates, &of?(&1, public)) do
      nil -> certificates
      own -> above([own], certificates -- [own])
    end
  end

  defp of?(der, public),
    do: Decode.attributes(%{class: :certificate, value: der}) == {:ok, public}

  defp above([last | _] = chain, others) do
    {issuer, subject} = names(last)

    case issuer != subject && Enum.find(others, &match?({_, ^issuer}, names(&1))) do
      found when is_binary(found) -> above([found | chain], others -- [found])
      _none -> Enum.reverse(chain) ++ others
    end
  end

  defp names(der) do
    read = fn certificate ->
      [first, _algorithm, _signature] = Reader.signed_parts(certificate)
      fields = Enum.drop_while(Reader.values(first), &(&1.tag == 0xA0))

      case fields do
        [_serial, _algorithm, issuer, _validity, subject | _] -> {issuer.der, subject.der}
        _other -> Reader.wrong!(first, "it is none")
      end
    end

    case Reader.read(der, "", read) do
      {:ok, names} -> names
      {:error, _no_certificate} -> {:none, :none}
    end
  end
end
