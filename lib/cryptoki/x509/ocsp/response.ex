defmodule Cryptoki.X509.OCSP.Response do
  @moduledoc false
  # What clients are answered (RFC 6960, section 4.2): what is signed of it, and what is not signed. Pure.

  alias Cryptoki.DER
  alias Cryptoki.X509.Extensions
  alias Cryptoki.X509.Extensions.Names
  alias Cryptoki.X509.OCSP.Request

  @basic {1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
  @statuses %{successful: 0, malformed_request: 1, try_later: 3, unauthorized: 6}
  @reasons Names.reasons()

  @type status :: :good | :unknown | {:revoked, DateTime.t(), atom}
  @typedoc "When it is said, from when and until when it holds."
  @type times :: %{
          produced_at: DateTime.t(),
          this_update: DateTime.t(),
          next_update: DateTime.t() | nil
        }

  @doc "An answer without certificates: why there is none, which nobody signs."
  @spec refusal(:malformed_request | :try_later | :unauthorized) :: DER.t()
  def refusal(status), do: DER.sequence([status(status)])

  @doc "What is signed, by whom the bits of a key have this SHA-1."
  @spec to_be_signed([{Request.id(), status}], binary | nil, binary, times) :: DER.t()
  def to_be_signed(answers, nonce, responder, times) do
    nonce = if nonce, do: [DER.explicit(1, Extensions.encode([Request.nonce_extension(nonce)]))]

    DER.sequence(
      [
        DER.explicit(2, DER.octet_string(responder)),
        DER.generalized_time(times.produced_at),
        DER.sequence(for {id, status} <- answers, do: one(id, status, times))
      ] ++ (nonce || [])
    )
  end

  defp one(id, status, times) do
    next = if times.next_update, do: [DER.explicit(0, DER.generalized_time(times.next_update))]

    DER.sequence(
      [id.der, certificate(status), DER.generalized_time(times.this_update)] ++ (next || [])
    )
  end

  defp certificate(:good), do: DER.value(0x80, [])
  defp certificate(:unknown), do: DER.value(0x82, [])
  defp certificate({:revoked, at, reason}), do: DER.value(0xA1, [revoked(at) | reason(reason)])

  defp revoked(at), do: DER.generalized_time(at)

  # The one that says nothing is left out.
  defp reason(:unspecified), do: []
  defp reason(reason), do: [DER.explicit(0, DER.value(10, [@reasons[reason]]))]

  @doc """
  The whole of an answer. The certificate of who signed it goes along, that of an authority as well: GnuTLS,
  and OTP before release 27, look for it nowhere else.
  """
  @spec signed(DER.t(), DER.t(), binary, DER.t()) :: DER.t()
  def signed(to_be_signed, algorithm, signature, certificate) do
    certificates = DER.explicit(0, DER.sequence([certificate]))
    basic = DER.sequence([to_be_signed, algorithm, DER.bit_string(signature), certificates])
    bytes = DER.sequence([DER.oid(@basic), DER.octet_string(basic)])
    DER.sequence([status(:successful), DER.explicit(0, bytes)])
  end

  defp status(status), do: DER.value(10, [@statuses[status]])
end
