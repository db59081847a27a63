defmodule Cryptoki.PublicKey.OID do
  @moduledoc false
  # What keys of RSA, those for PSS alone, and keys on curves are called in DER (RFC 8017, appendix A.1; RFC 4055; RFC
  # 5480). Pure.

  @type t :: tuple

  @spec rsa() :: t
  def rsa, do: {1, 2, 840, 113_549, 1, 1, 1}

  @spec rsa_pss() :: t
  def rsa_pss, do: {1, 2, 840, 113_549, 1, 1, 10}

  @spec ec() :: t
  def ec, do: {1, 2, 840, 10_045, 2, 1}
end
