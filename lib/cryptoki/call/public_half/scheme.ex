defmodule Cryptoki.PublicHalf.Scheme do
  @moduledoc false
  # By which mechanisms a private key signs to prove which it is: what its token has, and what the key may.
  # What they sign, and whether it is signed, by the public key. Pure.

  alias Cryptoki.{Ecdsa, Mechanism, SignatureAlgorithm}
  alias Cryptoki.Prehash.RSA

  @type t :: Mechanism.spec()

  # By chance, only one of a kind that a token has: those after them are for keys that name them.
  @rsa [:sha256_rsa_pkcs, :rsa_pkcs, :sha256_rsa_pkcs_pss, {:rsa_pkcs_pss, hash: :sha256}]
  @more_rsa for hash <- ~w[sha384 sha512 sha224 sha1],
                way <- ~w[rsa_pkcs rsa_pkcs_pss],
                do: :"#{hash}_#{way}"
  @ec [:ecdsa, :ecdsa_sha256]
  @more_ec ~w[ecdsa_sha384 ecdsa_sha512 ecdsa_sha224 ecdsa_sha1]a

  @doc "Those for a private key with these attributes, the likeliest first."
  @spec all(private :: map) :: [t]
  def all(%{allowed_mechanisms: [_ | _] = allowed} = private) do
    for scheme <- usual(private) ++ more(private),
        Mechanism.name_or_code(scheme) in allowed,
        do: scheme
  end

  def all(private), do: usual(private)

  defp usual(%{curve: curve}) when curve in [:ed25519, :edwards25519], do: [:eddsa]
  defp usual(%{curve: curve}) when curve in [:ed448, :edwards448], do: [{:eddsa, prehash: false}]
  defp usual(%{key_type: :ec}), do: @ec
  defp usual(%{key_type: :rsa}), do: @rsa
  defp usual(%{key_type: :dsa}), do: [:dsa, :dsa_sha1]
  defp usual(%{key_type: type}) when type in [:ml_dsa, :slh_dsa], do: [type]
  # Others sign a number of times and never again (HSS, XMSS), or agree.
  defp usual(_other), do: []

  defp more(%{key_type: :rsa}), do: @more_rsa
  defp more(%{key_type: :ec}), do: @more_ec
  defp more(_other), do: []

  @doc "What is given to it of a text."
  @spec prepared(t, binary) :: binary
  def prepared(scheme, text) do
    case Mechanism.name_or_code(scheme) do
      :dsa -> :crypto.hash(:sha, text)
      :rsa_pkcs -> IO.iodata_to_binary(RSA.digest_info(:sha256, :crypto.hash(:sha256, text)))
      name when name in [:ecdsa, :rsa_pkcs_pss] -> :crypto.hash(:sha256, text)
      _hashes_itself -> text
    end
  end

  @doc "Whether it is signed. Raises for keys that this OTP does not know."
  @spec signed?(t, binary, binary, term) :: boolean
  def signed?(scheme, data, signature, key) do
    case Mechanism.name_or_code(scheme) do
      :dsa ->
        verify({:digest, data}, :sha, Ecdsa.to_der(signature), key)

      :dsa_sha1 ->
        verify(data, :sha, Ecdsa.to_der(signature), key)

      :ecdsa ->
        verify({:digest, data}, :sha256, Ecdsa.to_der(signature), key)

      :rsa_pkcs ->
        verify({:digest, binary_part(data, byte_size(data), -32)}, :sha256, signature, key)

      :rsa_pkcs_pss ->
        verify({:digest, data}, :sha256, signature, key, pss(:sha256))

      name ->
        named(Atom.to_string(name), hash(Mechanism.hash(scheme)), data, signature, key)
    end
  end

  # As :crypto names it.
  defp hash(:sha_1), do: :sha
  defp hash(hash), do: hash

  defp named("ecdsa_" <> _, hash, data, signature, key),
    do: verify(data, hash, Ecdsa.to_der(signature), key)

  defp named(_name, nil, data, signature, key), do: verify(data, :none, signature, key)

  defp named(name, hash, data, signature, key) do
    options = if String.ends_with?(name, "_pss"), do: pss(hash), else: []
    verify(data, hash, signature, key, options)
  end

  defp verify(data, hash, signature, key, options \\ []),
    do: :public_key.verify(data, hash, signature, key, options)

  defp pss(hash), do: SignatureAlgorithm.pss_options(hash, :crypto.hash_info(hash).size)
end
