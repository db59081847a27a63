defmodule Cryptoki.PrivateKey.Parts do
  @moduledoc false
  # A private key whose parts stand elsewhere than in DER, by the readers of DER: what holds for the parts of
  # the one holds for those of the other. Pure.

  alias Cryptoki.{DER, Error, PrivateKey}
  alias Cryptoki.Attribute.Curve
  alias Cryptoki.DER.Reader
  alias Cryptoki.PrivateKey.Info

  @typedoc "The eight numbers of an RSA key, in the order of PKCS #1; the public one of another, or `nil`."
  @type parts ::
          {:rsa, [non_neg_integer]}
          | {:ec, DER.oid(), secret :: binary, point :: binary | nil}
          | {:edwards, atom, secret :: binary, point :: binary | nil}

  @doc "The key; `what` begins the sentence of an error."
  @spec read(parts, String.t()) :: {:ok, PrivateKey.t()} | {:error, Error.t()}
  def read(parts, what) do
    {der, read} = written(parts)

    with {:error, error} <- Reader.read(der, "private key: ", &read.(Reader.secret(&1))) do
      text = String.replace(error.detail, ~r/\Aprivate key: (byte \d+(, |: ))?/, "")
      {:error, %{error | detail: what <> text}}
    end
  end

  defp written({:rsa, numbers}),
    do: {DER.sequence([DER.integer(0) | Enum.map(numbers, &DER.integer/1)]), &Info.pkcs1/1}

  defp written({:ec, oid, secret, point}) do
    curve = DER.explicit(0, DER.oid(oid))
    fields = [DER.integer(1), DER.octet_string(secret), curve]
    {DER.sequence(fields ++ explicit(point)), &Info.sec1(&1, nil)}
  end

  defp written({:edwards, type, secret, point}) do
    {:ok, oid} = Curve.oid(type)
    key = DER.octet_string(DER.octet_string(secret))
    algorithm = DER.sequence([DER.oid(oid)])
    public = if point, do: [DER.value(0x81, [0, point])], else: []
    {DER.sequence([DER.integer(1), algorithm, key | public]), &Info.pkcs8/1}
  end

  defp explicit(nil), do: []
  defp explicit(point), do: [DER.explicit(1, DER.bit_string(point))]
end
