defmodule Cryptoki.CheckValue do
  @moduledoc false
  # The check value of a secret key (PKCS #11 v3.2, section 4.10.2): what the token keeps as CKA_CHECK_VALUE,
  # else computed by the token as the standard says for the type of the key.

  alias Cryptoki.{Attribute, Call, Error, HSM, Key, Keys, Mechanism, Operation, Operations}
  alias Cryptoki.{Options, PublicHalf, Selector, Target}
  alias Cryptoki.Native.Wait

  @size 3

  # The first bytes of a block of zeros, in the first of these mechanisms that the token has.
  @block %{
    aes: {16, [:aes_ecb, {:aes_cbc, iv: <<0::128>>}, {:aes_ctr, iv: <<0::128>>}]},
    des: {8, [:des_ecb, {:des_cbc, iv: <<0::64>>}]},
    des2: {8, [:des3_ecb, {:des3_cbc, iv: <<0::64>>}]},
    des3: {8, [:des3_ecb, {:des3_cbc, iv: <<0::64>>}]},
    camellia: {16, [:camellia_ecb, {:camellia_cbc, iv: <<0::128>>}]},
    aria: {16, [:aria_ecb, {:aria_cbc, iv: <<0::128>>}]},
    seed: {16, [:seed_ecb, {:seed_cbc, iv: <<0::128>>}]}
  }
  # Of these, the first bytes of the SHA-1 of the value.
  @hashed ~w[generic_secret sha_1_hmac sha224_hmac sha256_hmac sha384_hmac sha512_hmac sha3_224_hmac
             sha3_256_hmac sha3_384_hmac sha3_512_hmac chacha20 salsa20 hkdf]a

  @spec check_value(Cryptoki.hsm(), Cryptoki.key(), keyword | map) ::
          {:ok, binary} | {:error, Error.t()}
  def check_value(hsm, key, opts) do
    options = Options.call!(opts, [:timeout, :metadata])
    wanted = Keys.wanted!(key, :secret_key)

    with :ok <- Selector.of_class(key, :secret_key),
         {:ok, target} <- HSM.target(hsm, options),
         {:ok, handle} <- Keys.resolve(target, wanted, :cached),
         {:ok, found} <- Keys.describe(target, handle),
         :ok <- Selector.of_class(found, :secret_key),
         {:ok, read} <- Keys.read(target, handle, [:check_value]) do
      case read do
        %{check_value: <<value::binary-size(@size)>>} -> {:ok, value}
        _none -> computed(hsm, target, found)
      end
    end
  end

  @doc "What it is of a value, for the types of keys that it is known of here."
  @spec of(type :: atom, value :: binary) :: {:ok, binary} | :error
  def of(:aes, value) do
    zeros = :crypto.crypto_one_time(:"aes_#{bit_size(value)}_ecb", value, <<0::128>>, true)
    {:ok, binary_part(zeros, 0, @size)}
  end

  def of(type, value) when type in @hashed,
    do: {:ok, binary_part(:crypto.hash(:sha, value), 0, @size)}

  def of(_type, _value), do: :error

  defp computed(_hsm, target, %Key{key_type: type} = key) when is_map_key(@block, type) do
    {size, mechanisms} = @block[type]
    encrypted(target, key, <<0::size(size)-unit(8)>>, mechanisms)
  end

  defp computed(hsm, target, %Key{key_type: type} = key) when type in @hashed do
    case digested(hsm, target, key, :sha_1) do
      {:ok, <<value::binary-size(@size), _::binary>>} ->
        {:ok, value}

      {:ok, _shorter} ->
        {:error, Error.new(:module_misbehaved, "SHA-1 of less than 20 bytes")}

      {:error, error} ->
        if indigestible?(error), do: readable(target, key, error), else: {:error, error}
    end
  end

  defp computed(_hsm, _target, key),
    do: unsupported("the standard says of no such value for #{inspect(key)}")

  @doc "Whether it is the key that is not digested, in contrast to what goes wrong just now."
  @spec indigestible?(Error.t()) :: boolean
  def indigestible?(%Error{reason: reason} = error) do
    reason in [:key_indigestible, :key_unextractable, :operation_not_initialized] or
      PublicHalf.Proof.refused?(error)
  end

  defp encrypted(target, key, zeros, [mechanism | others]) do
    op = {:encrypt, Mechanism.encode!(mechanism), key.handle, zeros, nil}

    case Call.run(target, op) do
      {:ok, <<value::binary-size(@size), _::binary>>} ->
        {:ok, value}

      {:ok, _shorter} ->
        {:error, Error.new(:module_misbehaved, "a block of zeros is encrypted to less than that")}

      {:error, error} ->
        cond do
          not PublicHalf.Proof.refused?(error) -> {:error, error}
          others != [] -> encrypted(target, key, zeros, others)
          true -> unsupported("the key encrypts nothing: #{Exception.message(error)}")
        end
    end
  end

  @doc "The digest of the value of a key, which need not be readable, in the time of the call that it is for."
  @spec digested(Cryptoki.hsm(), Target.t(), Key.t(), Mechanism.spec()) ::
          {:ok, binary} | {:error, Error.t()}
  def digested(hsm, target, key, mechanism) do
    HSM.with_session(hsm, left(target), fn session ->
      with {:ok, op} <- Operations.start(session, :digest, nil, mechanism, left(target)),
           :ok <- Operation.update(%{op | options: left(target)}, {:key, key}),
           do: Operation.finish(%{op | options: left(target)})
    end)
  end

  defp left(%{deadline: deadline, metadata: metadata}),
    do: %{timeout: Wait.remaining(deadline), metadata: metadata}

  defp readable(target, key, error) do
    with {:ok, read} <- Keys.read(target, key.handle, [:value]),
         %{value: <<_, _::binary>> = value} <- Attribute.readable(read) do
      of(:generic_secret, value)
    else
      {:error, error} -> {:error, error}
      %{} -> unsupported("the token does not digest the key: #{Exception.message(error)}")
    end
  end

  defp unsupported(why) do
    text = "the token keeps no check value of the key, nor can it be computed: #{why}"
    {:error, Error.new(:unsupported, text)}
  end
end
