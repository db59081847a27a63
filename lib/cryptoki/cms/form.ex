defmodule Cryptoki.CMS.Form do
  @moduledoc false
  # The forms in which messages come: DER, BER, PEM; and what other things are taken for one. Pure.

  alias Cryptoki.{BER, DER, Error, PEM}
  alias Cryptoki.DER.Reader

  @labels ["CMS", "PKCS7"]
  # What is looked at of a text that is neither.
  @head 8192

  @called %{
    {1, 2, 840, 113_549, 1, 7, 1} => "data",
    {1, 2, 840, 113_549, 1, 7, 2} => "signed data",
    {1, 2, 840, 113_549, 1, 7, 3} => "data that is encrypted for a key",
    {1, 2, 840, 113_549, 1, 7, 5} => "digested data",
    {1, 2, 840, 113_549, 1, 7, 6} => "data encrypted with a key that both have",
    {1, 2, 840, 113_549, 1, 9, 16, 1, 2} => "data with a MAC",
    {1, 2, 840, 113_549, 1, 9, 16, 1, 9} => "compressed data",
    {1, 2, 840, 113_549, 1, 9, 16, 1, 23} => "data that is encrypted for a key"
  }

  @doc "What content of a type is called in a sentence."
  @spec called(DER.oid()) :: String.t()
  def called(oid), do: Map.get(@called, oid, "content of the type #{DER.dotted(oid)}")

  @doc "What `fun` makes of the value in one, as `Cryptoki.DER.Reader.read/4` has it."
  @spec read(binary, String.t(), (Reader.t() -> made), pos_integer | :infinity) ::
          {:ok, made} | {:error, Error.t()}
        when made: term
  def read(bytes, what, fun, most \\ :infinity) do
    case der(bytes) do
      {:ok, der} -> Reader.read(der, what, fun, most)
      {:error, text} -> {:error, Error.new(:invalid_argument, what <> text)}
    end
  end

  defp der(bytes) do
    with {:ok, ber} <- unarmored(bytes), {:ok, der} <- BER.padded_to_der(ber) do
      case PEM.label(der) do
        {:ok, label} -> but([{label, der}])
        :error -> {:ok, der}
      end
    end
  end

  defp unarmored(bytes) do
    if PEM.der?(bytes), do: {:ok, bytes}, else: in_text(bytes)
  end

  defp in_text(text) do
    with {:ok, entries} <- PEM.decode(text, @labels, 1) do
      case {for({_label, der} <- entries, der != nil, do: der), entries} do
        {[der], _entries} -> {:ok, der}
        {[], []} -> {:error, other(binary_part(text, 0, min(byte_size(text), @head)))}
        {[], others} -> but(others)
      end
    end
  end

  defp but(others), do: {:error, "it has no \"CMS\", but #{PEM.others(others)}"}

  # What people have in hand: a mail whose part it is, and its base64.
  defp other(""), do: "nothing is there"

  defp other(text) do
    cond do
      text =~ ~r/\A(?:[^\s:]+:[^\n]*\n|[ \t][^\n]*\n)*content-type:/i ->
        "it is a mail: its part of the type application/pkcs7-mime or pkcs7-signature is wanted, decoded"

      text =~ ~r/\AM[A-Za-z0-9+\/]{31,}[A-Za-z0-9+\/=\s]*\z/ ->
        "it is base64: it has to be decoded, or to stand between the lines of PEM"

      true ->
        "it is neither DER nor PEM"
    end
  end
end
