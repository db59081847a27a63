defmodule Cryptoki.CMS.Stamp do
  @moduledoc false
  # The time stamp of a signature, which makes signed data CAdES-T (ETSI EN 319 122-1, section 5.3; RFC 5126,
  # section 6.1.1).

  alias Cryptoki.{DER, Error}
  alias Cryptoki.Timestamp.{Request, Token}
  alias Cryptoki.X509.Certificate

  @timestamp_token {1, 2, 840, 113_549, 1, 9, 16, 2, 14}

  @doc "The unsigned attributes of a signature, of which there are none without a function that gets the stamp."
  @spec attributes(binary, function | nil) :: {:ok, [DER.t()]} | {:error, Error.t()}
  def attributes(_signature, nil), do: {:ok, []}

  def attributes(signature, stamp) do
    asked = %{
      hash: :sha256,
      digest: :crypto.hash(:sha256, signature),
      nonce: Certificate.serial()
    }

    request = Request.encode(asked.hash, asked.digest, nil, asked.nonce, true)

    with {:ok, response} <- response!(stamp.(request)),
         {:ok, token} <- Token.read(response),
         :ok <- Token.answers(token, asked),
         {:ok, _certificate} <- Token.signed(token, []) do
      {:ok, [DER.sequence([DER.oid(@timestamp_token), DER.set_of([token.der])])]}
    end
  end

  defp response!({:ok, response}) when is_binary(response), do: {:ok, response}
  defp response!({:error, %Error{}} = error), do: error

  defp response!({:error, reason}),
    do: {:error, Error.new(:unsupported, "timestamp: there is no stamp: #{inspect(reason)}")}

  defp response!(other) do
    raise ArgumentError,
          "timestamp: must answer {:ok, response} or {:error, reason}, got: #{inspect(other)}"
  end
end
