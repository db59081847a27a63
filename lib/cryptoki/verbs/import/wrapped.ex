defmodule Cryptoki.Import.Wrapped do
  @moduledoc false
  # A key for a token that takes none in the clear: the token makes an RSA pair for the while of the import, what
  # is imported is wrapped here for its public key and unwrapped there. The first of these ways that the token
  # has: CKM_RSA_AES_KEY_WRAP; an AES key by OAEP, under which the key is wrapped with padding (RFC 5649); for
  # secret keys OAEP alone.

  require Logger

  alias Cryptoki.{Attribute, Call, Error, Instances, Keys, KeyWrap, Mechanism, Names}
  alias Cryptoki.{PrivateKey, PublicHalf, SecretKey, Target}
  alias Cryptoki.Import.Made
  alias Cryptoki.Native.Wait

  # It lives for the while of an import, and what is wrapped for it goes to its token only.
  @bits 2048
  # SHA-1 is all that some tokens have for OAEP, where collisions are of no use to anybody.
  @hashes [:sha256, :sha_1]
  @padded [:aes_key_wrap_kwp, :aes_key_wrap_pad]
  @public [token: false, modulus_bits: @bits, public_exponent: 65_537, encrypt: true, wrap: true]
  @private [
    token: false,
    private: true,
    sensitive: true,
    extractable: false,
    unwrap: true,
    decrypt: true
  ]
  @aes [class: :secret_key, key_type: :aes, token: false, private: true, sensitive: true] ++
         [extractable: false, unwrap: true]

  # What a template for C_UnwrapKey must not say: the value does.
  @told ~w[modulus public_exponent private_exponent prime_1 prime_2 exponent_1 exponent_2 coefficient
           ec_params value parameter_set seed]a

  @doc "The object of a template that says its value, which is wrapped."
  @spec new(Target.t(), Attribute.wire(), PrivateKey.t() | SecretKey.t()) ::
          {:ok, Made.t()} | {:error, Error.t()}
  def new(target, template, key) do
    told = Enum.map(@told, &Attribute.type!/1)
    template = Enum.reject(template, fn {code, _value} -> code in told end)

    with {:ok, [_ | _] = ways} <- ways(target, key),
         {:ok, {public, private} = pair} <- pair(target) do
      within(target, [public, private], fn -> by(target, ways, pair, template, key) end)
    else
      {:ok, []} -> none("it has no mechanism for that")
      {:error, error} -> {:error, %{error | executed: false}}
    end
  end

  defp ways(target, key) do
    with {:ok, %{slot: slot}} <- Instances.facts(target),
         {:ok, codes} <- Wait.control(target.library, {:mechanisms, slot}, target.deadline) do
      has = MapSet.new(codes, &Names.name(:mechanism, &1))
      padded = for name <- @padded, name in has, do: {:padded, name}
      oaep = if :rsa_pkcs_oaep in has, do: padded ++ alone(key), else: []
      {:ok, if(:rsa_aes_key_wrap in has, do: [:both | oaep], else: oaep)}
    end
  end

  defp alone(%SecretKey{}), do: [:alone]
  defp alone(_private), do: []

  defp pair(target) do
    mechanism = Mechanism.encode!(:rsa_pkcs_key_pair_gen)
    templates = for half <- [@public, @private], do: Attribute.encode!(half)
    Call.run(target, List.to_tuple([:generate_key_pair, mechanism | templates]))
  end

  # Whatever becomes of it, what was made for the while is gone afterwards.
  defp within(target, handles, fun) do
    fun.()
  after
    target = %{target | deadline: Wait.deadline(target.timeout)}

    for handle <- handles,
        {:error, error} <- [Call.run(target, {:destroy, handle})],
        error.reason not in [:stale_handle, :object_handle_invalid, :token_absent] do
      Logger.warning(
        "cryptoki #{inspect(Target.called(target))}: import_key: the key that wrapped the imported one, " <>
          "sensitive and of this session, is there still: #{Exception.message(error)}"
      )
    end
  end

  defp by(target, ways, {public, private}, template, key) do
    with {:ok, read} <- Keys.read(target, public, [:modulus, :public_exponent]),
         %{modulus: modulus, public_exponent: exponent} <- Attribute.readable(read) do
      [modulus, exponent] = Enum.map([modulus, exponent], &:binary.decode_unsigned/1)
      tries = for way <- ways, hash <- @hashes, do: {way, hash}

      # What a token says is its public key is to be one that keeps a secret.
      case PrivateKey.Record.read({:RSAPublicKey, modulus, exponent}) do
        {:ok, %{public: public}} ->
          tried(target, tries, %{public: public, private: private, template: template, key: key})

        {:error, error} ->
          text = "the public key that the token has made for wrapping is none: #{error.detail}"
          {:error, Error.new(:module_misbehaved, text, executed: false)}
      end
    else
      {:error, error} -> {:error, %{error | executed: false}}
      %{} -> none("it shows nothing of the public key that it has made for that")
    end
  end

  defp tried(target, [{way, hash} | others], wrapping) do
    with {:error, error} <- made(target, way, hash, wrapping) do
      cond do
        not refused?(error) -> {:error, error}
        others == [] -> none(Exception.message(error))
        true -> tried(target, others, wrapping)
      end
    end
  end

  @doc "Whether a token does not take a key in this way, in contrast to what goes wrong just now."
  @spec refused?(Error.t()) :: boolean
  def refused?(%Error{reason: reason} = error) do
    reason in ~w[arguments_bad wrapped_key_invalid wrapped_key_len_range attribute_read_only
                 attribute_sensitive unwrapping_key_type_inconsistent unwrapping_key_size_range]a or
      PublicHalf.Proof.refused?(error)
  end

  defp made(target, :both, hash, %{template: template} = wrapping) do
    aes = :crypto.strong_rand_bytes(32)
    blob = oaep(wrapping.public, aes, hash) <> KeyWrap.wrap_padded(aes, bytes(wrapping.key))
    mechanism = {:rsa_aes_key_wrap, aes_key_bits: 256, oaep: [hash: hash]}
    unwrapped(target, mechanism, wrapping.private, blob, template)
  end

  defp made(target, {:padded, name}, hash, %{template: template} = wrapping) do
    aes = :crypto.strong_rand_bytes(32)
    blob = oaep(wrapping.public, aes, hash)
    op = unwrap({:rsa_pkcs_oaep, hash: hash}, wrapping.private, blob, Attribute.encode!(@aes))

    with {:ok, handle} <- Call.run(target, op) do
      within(target, [handle], fn ->
        blob = KeyWrap.wrap_padded(aes, bytes(wrapping.key))
        unwrapped(target, name, handle, blob, template)
      end)
    end
  end

  defp made(target, :alone, hash, %{key: %SecretKey{value: value}} = wrapping) do
    room = div(@bits, 8) - 2 - 2 * :crypto.hash_info(here(hash)).size

    if byte_size(value) <= room do
      blob = oaep(wrapping.public, value, hash)
      mechanism = {:rsa_pkcs_oaep, hash: hash}
      unwrapped(target, mechanism, wrapping.private, blob, wrapping.template)
    else
      {:error, Error.new(:data_len_range, "the key is longer than OAEP takes")}
    end
  end

  defp unwrapped(target, mechanism, with_key, blob, template) do
    with {:ok, handle} <- Call.run(target, unwrap(mechanism, with_key, blob, template)),
         do: Made.of(target, handle, template)
  end

  defp unwrap(mechanism, with_key, blob, template),
    do: {:unwrap_key, Mechanism.encode!(mechanism), with_key, blob, template}

  defp oaep(public, bytes, hash) do
    hash = here(hash)
    options = [rsa_padding: :rsa_pkcs1_oaep_padding, rsa_oaep_md: hash, rsa_mgf1_md: hash]
    :public_key.encrypt_public(bytes, public, options)
  end

  defp here(:sha_1), do: :sha
  defp here(hash), do: hash

  # PKCS #11 v3.2, section 6.7: private keys are wrapped as PKCS #8.
  defp bytes(%PrivateKey{} = key), do: PrivateKey.Written.pkcs8(key)
  defp bytes(%SecretKey{value: value}), do: value

  defp none(why) do
    text = "the key cannot be unwrapped by the token: #{why}"
    {:error, Error.new(:unsupported, text)}
  end
end
