defmodule Cryptoki.CMS.SignedData do
  @moduledoc false
  # Signed data (RFC 5652, section 5): what there is of it besides its signers. Pure.

  alias Cryptoki.DER

  @data {1, 2, 840, 113_549, 1, 7, 1}

  @doc "`SignedData`; the content may be left out, which is `nil`, and certificates and lists be none."
  @spec encode(DER.oid(), binary | nil, [DER.t()], [DER.t()], [DER.t()], [DER.t()]) :: DER.t()
  def encode(type, content, digest_algorithms, certificates, infos, lists \\ []) do
    content = if content, do: [DER.explicit(0, DER.octet_string(content))], else: []

    DER.sequence(
      [
        # Of another type than that which every program knows (section 5.1).
        DER.integer(if(type == @data, do: 1, else: 3)),
        DER.set_of(Enum.uniq(digest_algorithms)),
        DER.sequence([DER.oid(type) | content])
      ] ++ set(certificates, 0xA0) ++ set(lists, 0xA1) ++ [DER.set_of(infos)]
    )
  end

  defp set([], _tag), do: []
  defp set(values, tag), do: [DER.set_of(values, tag)]
end
