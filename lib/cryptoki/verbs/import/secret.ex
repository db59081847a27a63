defmodule Cryptoki.Import.Secret do
  @moduledoc false
  # Whether a token that took a secret key has that key: what it does with it is what :crypto does with it, as
  # far as the key may do anything; else its digest, or at least its check value.

  alias Cryptoki.{
    Attribute,
    Call,
    CheckValue,
    Error,
    Keys,
    Mechanism,
    SecretKey,
    Target
  }

  alias Cryptoki.KeyWrap
  alias Cryptoki.Import.Made

  @may ~w[key_type encrypt decrypt sign unwrap allowed_mechanisms check_value]a
  @hmacs [
    sha256_hmac: :sha256,
    sha384_hmac: :sha384,
    sha512_hmac: :sha512,
    sha224_hmac: :sha224,
    sha_1_hmac: :sha
  ]

  @doc "`:ok` when it has."
  @spec prove(Cryptoki.hsm(), Target.t(), Made.t(), SecretKey.t()) :: :ok | {:error, Error.t()}
  def prove(hsm, target, made, key) do
    with {:ok, read} <- Keys.read(target, made.handle, @may),
         may = Attribute.readable(read),
         :ok <- tried(tries(hsm, target, made, key, may), nil) do
      :ok
    else
      {:error, error} -> {:error, %{error | executed: false}}
    end
  end

  # Functions that answer :yes, :no or an error, which is a refusal or what is the matter just now.
  defp tries(hsm, target, made, key, may) do
    ciphers = if key.type == :aes, do: encrypts(target, made, key, may), else: []
    macs = if may[:sign], do: signs(target, made, key, may), else: []
    unwraps = if may[:unwrap] && key.type == :aes, do: unwraps(target, made, key, may), else: []

    ciphers ++
      macs ++ unwraps ++ [fn -> digested(hsm, target, made, key) end, fn -> kept(key, may) end]
  end

  defp tried([], why), do: Made.unproven(why)

  defp tried([try | others], why) do
    case try.() do
      :yes ->
        :ok

      :no ->
        text = "the token took the key, and what it does with it is not what this key does"
        {:error, Error.new(:module_misbehaved, text)}

      {:error, error} ->
        if CheckValue.indigestible?(error) or error.reason == :unsupported,
          do: tried(others, why || Exception.message(error)),
          else: {:error, error}
    end
  end

  defp encrypts(target, made, key, may) do
    bits = byte_size(key.value) * 8
    data = :crypto.strong_rand_bytes(16)
    iv = :crypto.strong_rand_bytes(16)
    ecb = :crypto.crypto_one_time(:"aes_#{bits}_ecb", key.value, data, true)
    cbc = :crypto.crypto_one_time(:"aes_#{bits}_cbc", key.value, iv, data, true)

    for {mechanism, sealed} <- [{:aes_ecb, ecb}, {{:aes_cbc, iv: iv}, cbc}],
        allowed?(mechanism, may),
        {verb, given, expected} <- [{:encrypt, data, sealed}, {:decrypt, sealed, data}],
        may[verb] do
      fn ->
        op = {verb, Mechanism.encode!(mechanism), made.handle, given, nil}
        compared(Call.run(target, op), expected)
      end
    end
  end

  defp signs(target, made, %{type: :aes} = key, may) do
    data = :crypto.strong_rand_bytes(32)
    cmac = fn -> :crypto.mac(:cmac, :"aes_#{byte_size(key.value) * 8}_cbc", key.value, data) end
    for name <- [:aes_cmac], allowed?(name, may), do: signed(target, made, name, data, cmac)
  end

  defp signs(target, made, key, may) do
    data = :crypto.strong_rand_bytes(32)

    for {name, hash} <- @hmacs, allowed?(name, may), may[:key_type] in [:generic_secret, name] do
      signed(target, made, name, data, fn -> :crypto.mac(:hmac, hash, key.value, data) end)
    end
  end

  defp signed(target, made, name, data, expected) do
    fn ->
      op = {:sign, Mechanism.encode!(name), made.handle, data, nil}
      compared(Call.run(target, op), expected.())
    end
  end

  # A secret that is wrapped here for it and read there.
  defp unwraps(target, made, key, may) do
    secret = :crypto.strong_rand_bytes(32)
    kind = [class: :secret_key, key_type: :generic_secret, token: false, private: false]
    template = Attribute.encode!(kind ++ [sensitive: false, extractable: true])

    for {mechanism, blob} <- [
          aes_key_wrap: KeyWrap.wrap(key.value, secret),
          aes_key_wrap_kwp: KeyWrap.wrap_padded(key.value, secret),
          aes_key_wrap_pad: KeyWrap.wrap_padded(key.value, secret)
        ],
        allowed?(mechanism, may) do
      fn ->
        op = {:unwrap_key, Mechanism.encode!(mechanism), made.handle, blob, template}

        with {:ok, handle} <- Call.run(target, op),
             read = Keys.read(target, handle, [:value]),
             _ = Call.run(target, {:destroy, handle}),
             {:ok, %{value: value}} <- read,
             do: compared({:ok, value}, secret)
      end
    end
  end

  defp digested(hsm, target, made, key) do
    digest = CheckValue.digested(hsm, target, made.key, :sha256)
    compared(digest, :crypto.hash(:sha256, key.value))
  end

  # Of three bytes, where there is nothing better.
  defp kept(key, may) do
    # By what was given: what a token says of the type is not what the bytes are as long as.
    type = if key.type == :aes, do: :aes, else: :generic_secret

    case {may[:check_value], CheckValue.of(type, key.value)} do
      {<<_, _, _>> = value, {:ok, expected}} -> compared({:ok, value}, expected)
      _none -> {:error, Error.new(:unsupported, "nor is there a check value")}
    end
  end

  defp compared({:ok, bytes}, bytes), do: :yes

  defp compared({:ok, {:error, reason}}, _expected),
    do: {:error, Error.new(:unsupported, "#{reason}")}

  defp compared({:ok, _another}, _expected), do: :no
  defp compared({:error, _error} = error, _expected), do: error

  defp allowed?(mechanism, %{allowed_mechanisms: [_ | _] = allowed}),
    do: Mechanism.name_or_code(mechanism) in allowed

  defp allowed?(_mechanism, _may), do: true
end
