defmodule Cryptoki.Test.Vectors.Families do
  @moduledoc false
  # The families of published vectors: which files, and what makes a plan of a group of tests.
  #
  # A plan is a map: `key:` the template of the key (of the group, or by `fn test -> template`; nil when
  # there is none), `ways:` (Cryptoki.Test.Vectors.Ways), maybe `only:`, which says why a test is not for
  # us. Or `{:not_run, why}`.

  alias Cryptoki.Test.Vectors.{Ciphers, Keys, Signatures, Source}

  @type plan :: map | {:not_run, String.t()}
  @type t :: %{title: String.t(), files: Regex.t(), plan: (map, map -> plan)}

  @doc "All of them, in the order of the guide."
  @spec all :: [t]
  def all do
    for {title, files, plan} <- table(), do: %{title: title, files: files, plan: plan}
  end

  defp table do
    [
      {"ECDSA, DER", ~r/^ecdsa_(?!.*_(p1363|bitcoin)$)/, &Signatures.ecdsa(&1, &2, :der)},
      {"ECDSA, r and s", ~r/^ecdsa_.*_p1363$/, &Signatures.ecdsa(&1, &2, :raw)},
      {"EdDSA", ~r/^ed(25519|448)$/, &Signatures.eddsa/2},
      {"DSA, r and s", ~r/^dsa_.*_p1363$/, &Signatures.dsa/2},
      {"RSA PKCS #1 v1.5, signatures", ~r/^rsa_signature_/, &Signatures.rsa_pkcs1/2},
      {"RSA PSS", ~r/^rsa_pss_/, &Signatures.rsa_pss/2},
      {"RSA OAEP", ~r/^rsa_oaep_/, &Ciphers.oaep/2},
      {"RSA PKCS #1 v1.5, decrypting", ~r/^rsa_pkcs1_/, &Ciphers.rsa_pkcs1/2},
      {"ML-DSA, verifying", ~r/^mldsa_.*_verify$/, &Signatures.ml_dsa_verify/2},
      {"ML-DSA, signing", ~r/^mldsa_.*_sign_/, &Signatures.ml_dsa_sign/2},
      {"ML-KEM", ~r/^mlkem_/, &Keys.ml_kem/2},
      {"AES-GCM", ~r/^aes_gcm$/, &Ciphers.gcm/2},
      {"AES-CCM", ~r/^aes_ccm$/, &Ciphers.ccm/2},
      {"ChaCha20-Poly1305", ~r/^chacha20_poly1305$/, &Ciphers.chacha20_poly1305/2},
      {"AES-CBC with padding", ~r/^aes_cbc_pkcs5$/, &Ciphers.cbc/2},
      {"AES-CMAC", ~r/^aes_cmac$/, &Ciphers.cmac/2},
      {"HMAC", ~r/^hmac_sha/, &Ciphers.hmac/2},
      {"AES-KW", ~r/^aes_wrap$/, &Keys.kw/2},
      {"AES-KWP", ~r/^aes_kwp$/, &Keys.kwp/2},
      {"ECDH", ~r/^ecdh_/, &Keys.ecdh/2},
      {"X25519 and X448", ~r/^x(25519|448)$/, &Keys.xdh/2},
      {"HKDF", ~r/^hkdf_/, &Keys.hkdf/2},
      {"PBKDF2", ~r/^pbkdf2_/, &Keys.pbkdf2/2}
    ]
  end

  @doc "The groups of a family, each with its file's name in it: all of their tests, or a fixed sample."
  @spec groups(t, :all | :sample) :: [map]
  def groups(family, :all) do
    for name <- Source.names(family.files),
        group <- Source.read(name)["testGroups"],
        do: Map.put(group, "file", name)
  end

  def groups(family, :sample) do
    for group <- groups(family, :all), reduce: {[], MapSet.new()} do
      {groups, seen} ->
        tests = Enum.reject(group["tests"], &slow?/1)
        {tests, seen} = Enum.flat_map_reduce(tests, seen, &first_of_kind(&1, &2, group["file"]))
        {if(tests == [], do: groups, else: [%{group | "tests" => tests} | groups]), seen}
    end
    |> elem(0)
    |> Enum.reverse()
  end

  # Millions of iterations of PBKDF2 take half a minute.
  defp slow?(test), do: Map.get(test, "iterationCount", 0) > 100_000

  # One test of each kind in each file: a kind is what it is flagged with, and what has to come of it.
  defp first_of_kind(test, seen, file) do
    kind = {file, test["result"], test["flags"]}
    if kind in seen, do: {[], seen}, else: {[test], MapSet.put(seen, kind)}
  end
end
