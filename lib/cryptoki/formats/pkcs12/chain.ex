defmodule Cryptoki.PKCS12.Chain do
  @moduledoc false
  # The certificates of a key in their order: its own, its issuer's and so on, by their names; then all others
  # as they were. Pure.

  alias Cryptoki.PublicKey.Decode
  alias Cryptoki.X509.Fields

  @spec sorted([binary], term) :: [binary]
  def sorted(certificates, public) do
    certificates = Enum.uniq(certificates)

    case Enum.find(certificates, &of?(&1, public)) do
      nil -> certificates
      own -> above([own], certificates -- [own])
    end
  end

  @doc "Whether a certificate is one of a key, by its public one."
  @spec of?(binary, term) :: boolean
  def of?(der, public),
    do: Decode.attributes(%{class: :certificate, value: der}) == {:ok, public}

  defp above([last | _] = chain, others) do
    {issuer, subject} = names(last)

    case issuer != subject && Enum.find(others, &match?({_, ^issuer}, names(&1))) do
      found when is_binary(found) -> above([found | chain], others -- [found])
      _none -> Enum.reverse(chain) ++ others
    end
  end

  defp names(der) do
    case Fields.read(der) do
      {:ok, %{issuer: issuer, subject: subject}} -> {issuer, subject}
      {:error, _no_certificate} -> {:none, :none}
    end
  end
end
