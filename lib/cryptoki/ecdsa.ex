defmodule Cryptoki.Ecdsa do
  @moduledoc false
  # The two forms of an ECDSA signature: r and s one after the other, as PKCS #11 has it (v3.2,
  # section 6.3.1), and the DER that X.509, CMS and TLS want.

  alias Cryptoki.Error

  @doc "The DER form of what a token gave."
  @spec to_der(binary) :: binary
  def to_der(raw) do
    size = div(byte_size(raw), 2)
    <<r::unit(8)-size(size), s::unit(8)-size(size)>> = raw
    :public_key.der_encode(:"ECDSA-Sig-Value", {:"ECDSA-Sig-Value", r, s})
  end

  @doc "What a token wants: `size` bytes each. Anybody's bytes can come here: bad ones are no signature."
  @spec from_der(binary, pos_integer) :: {:ok, binary} | {:error, Error.t()}
  def from_der(der, size) do
    {:"ECDSA-Sig-Value", r, s} = :public_key.der_decode(:"ECDSA-Sig-Value", der)
    limit = Integer.pow(256, size)
    true = r in 0..(limit - 1) and s in 0..(limit - 1)
    {:ok, <<r::unit(8)-size(size), s::unit(8)-size(size)>>}
  rescue
    _not_der ->
      {:error, Error.new(:signature_invalid, "it is not the DER of r and s of this curve")}
  end
end
