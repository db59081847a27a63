defmodule Cryptoki.SignatureAlgorithm.PostQuantum do
  @moduledoc false
  # ML-DSA (FIPS 204) and SLH-DSA (FIPS 205): what each parameter set is called, and how long its keys and
  # signatures are. Identifiers have no parameters, and certificates, lists and messages are signed without a
  # context and without a hash before (RFC 9881, 9882, 9814, 9909). Pure.

  alias Cryptoki.DER

  # Set of PKCS #11 => what OTP calls it, the last number of 2.16.840.1.101.3.4.3, bytes of a public key and of a
  # signature, and the hash of the content of signed data, nil for SHAKE, which not every OTP has.
  @sets %{
    ml_dsa_44: {:mldsa44, 17, 1312, 2420, :sha512},
    ml_dsa_65: {:mldsa65, 18, 1952, 3309, :sha512},
    ml_dsa_87: {:mldsa87, 19, 2592, 4627, :sha512},
    slh_dsa_sha2_128s: {:slh_dsa_sha2_128s, 20, 32, 7856, :sha256},
    slh_dsa_sha2_128f: {:slh_dsa_sha2_128f, 21, 32, 17_088, :sha256},
    slh_dsa_sha2_192s: {:slh_dsa_sha2_192s, 22, 48, 16_224, :sha512},
    slh_dsa_sha2_192f: {:slh_dsa_sha2_192f, 23, 48, 35_664, :sha512},
    slh_dsa_sha2_256s: {:slh_dsa_sha2_256s, 24, 64, 29_792, :sha512},
    slh_dsa_sha2_256f: {:slh_dsa_sha2_256f, 25, 64, 49_856, :sha512},
    slh_dsa_shake_128s: {:slh_dsa_shake_128s, 26, 32, 7856, nil},
    slh_dsa_shake_128f: {:slh_dsa_shake_128f, 27, 32, 17_088, nil},
    slh_dsa_shake_192s: {:slh_dsa_shake_192s, 28, 48, 16_224, nil},
    slh_dsa_shake_192f: {:slh_dsa_shake_192f, 29, 48, 35_664, nil},
    slh_dsa_shake_256s: {:slh_dsa_shake_256s, 30, 64, 29_792, nil},
    slh_dsa_shake_256f: {:slh_dsa_shake_256f, 31, 64, 49_856, nil}
  }
  @by_oid Map.new(@sets, fn {set, row} -> {{2, 16, 840, 1, 101, 3, 4, 3, elem(row, 1)}, set} end)
  @by_name Map.new(@sets, fn {set, row} -> {elem(row, 0), set} end)
  @records [:"ML-DSAPublicKey", :"SLH-DSAPublicKey"]

  @type set :: atom
  @typedoc "As the records of `:public_key` of OTP 29 are, in every release."
  @type key :: {:"ML-DSAPublicKey" | :"SLH-DSAPublicKey", algorithm :: atom, binary}

  @doc "The parameter sets."
  @spec sets() :: [set]
  def sets, do: Map.keys(@sets)

  @doc "The set behind an object identifier."
  @spec named(DER.oid()) :: {:ok, set} | :error
  def named(oid), do: Map.fetch(@by_oid, oid)

  @spec oid(set) :: DER.oid()
  def oid(set), do: {2, 16, 840, 1, 101, 3, 4, 3, elem(@sets[set], 1)}

  @doc "The mechanism, which is the key type, too."
  @spec mechanism(set) :: :ml_dsa | :slh_dsa
  def mechanism(set) when set in [:ml_dsa_44, :ml_dsa_65, :ml_dsa_87], do: :ml_dsa
  def mechanism(set) when is_map_key(@sets, set), do: :slh_dsa

  @doc "What OTP calls it."
  @spec called(set) :: atom
  def called(set), do: elem(@sets[set], 0)

  @doc "The bytes of a public key."
  @spec key_size(set) :: pos_integer
  def key_size(set), do: elem(@sets[set], 2)

  @doc "The bytes of a signature, nil for what is no set."
  @spec signature_size(term) :: pos_integer | nil
  def signature_size(set), do: with({_, _, _, size, _} <- @sets[set], do: size)

  @doc "The hash of the content of signed data (RFC 9882, section 3.3, and RFC 9814, section 4), if it is here."
  @spec content_hash(set) :: atom | nil
  def content_hash(set), do: elem(@sets[set], 4)

  ## Keys

  @doc "The public key of these bytes."
  @spec key(set, binary) :: {:ok, key} | :error
  def key(set, bytes) do
    record = if mechanism(set) == :ml_dsa, do: :"ML-DSAPublicKey", else: :"SLH-DSAPublicKey"
    size = key_size(set)
    if byte_size(bytes) == size, do: {:ok, {record, called(set), bytes}}, else: :error
  end

  @doc "Set and bytes of a public key, in either of its forms; `:error` for other keys."
  @spec parts(term) :: {:ok, set, binary} | :error
  def parts({record, name, bytes})
      when record in @records and is_map_key(@by_name, name) and is_binary(bytes) do
    set = @by_name[name]
    if byte_size(bytes) == key_size(set), do: {:ok, set, bytes}, else: :error
  end

  def parts({:SubjectPublicKeyInfo, {:AlgorithmIdentifier, oid, _none}, bytes})
      when is_map_key(@by_oid, oid) and is_binary(bytes) do
    set = @by_oid[oid]
    if byte_size(bytes) == key_size(set), do: {:ok, set, bytes}, else: :error
  end

  def parts(_another), do: :error

  @doc """
  Such a key as `:public_key` of this OTP has it, other keys as they are: its record, or, where there is none, the
  one that it writes of keys of any kind, `{:SubjectPublicKeyInfo, {:AlgorithmIdentifier, oid, :asn1_NOVALUE}, bytes}`.
  """
  @spec shown(term) :: term
  def shown(key) do
    with {:ok, set, bytes} <- parts(key),
         false <- known?(key) do
      {:SubjectPublicKeyInfo, {:AlgorithmIdentifier, oid(set), :asn1_NOVALUE}, bytes}
    else
      _another_or_known -> key
    end
  end

  defp known?(key) do
    {:ok, info} = info(key)
    :public_key.pem_entry_decode({:SubjectPublicKeyInfo, info, :not_encrypted}) == key
  rescue
    _no_key_that_otp_knows -> false
  end

  @doc "The `SubjectPublicKeyInfo` of such a key."
  @spec info(term) :: {:ok, DER.t()} | :error
  def info(key) do
    with {:ok, set, bytes} <- parts(key),
         do: {:ok, DER.sequence([DER.sequence([DER.oid(oid(set))]), DER.bit_string(bytes)])}
  end

  # The contract of OTP 25 has no such algorithms: it is asked whether it knows them before.
  @dialyzer {:nowarn_function, signed?: 3}
  @doc "Whether a signature is one of such a key, as far as this OTP and its OpenSSL know it."
  @spec signed?(term, binary, binary) :: boolean | :unsupported
  def signed?(key, data, signature) do
    {:ok, set, bytes} = parts(key)
    name = called(set)

    cond do
      byte_size(signature) != signature_size(set) -> false
      name not in :crypto.supports(:public_keys) -> :unsupported
      true -> :crypto.verify(name, :none, data, signature, bytes)
    end
  end
end
