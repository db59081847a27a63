defmodule Cryptoki.CMS.Form do
  @moduledoc false
  # The forms in which messages come: DER, BER, PEM. Pure.

  alias Cryptoki.{BER, PEM}

  @doc "The DER, or what is wrong with it."
  @spec der(binary) :: {:ok, binary} | {:error, String.t()}
  def der(bytes), do: with({:ok, ber} <- unarmored(bytes), do: BER.to_der(ber))

  defp unarmored(bytes) do
    if PEM.der?(bytes) do
      {:ok, bytes}
    else
      case PEM.decode(bytes, ["CMS", "PKCS7"], 1) do
        {:ok, entries} ->
          Enum.find_value(entries, {:error, "it is neither DER nor PEM"}, fn {_label, der} ->
            der && {:ok, der}
          end)

        {:error, text} ->
          {:error, text}
      end
    end
  end
end
