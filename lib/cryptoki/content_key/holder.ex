defmodule Cryptoki.ContentKey.Holder do
  @moduledoc false
  # The key of the token that a content key is encrypted for: where it is, which kind it is, and how the calls
  # with it are made.

  require Cryptoki.HSM

  alias Cryptoki.{Attribute, Error, HSM, Keys, KeyTransport, Options}

  @enforce_keys [:hsm, :key, :call, :class, :key_type]
  defstruct @enforce_keys ++ [:curve, :size]

  @typedoc "`size` is that of the modulus, or of a secret key, in bytes."
  @type t :: %__MODULE__{
          hsm: Cryptoki.hsm(),
          key: Cryptoki.key(),
          call: keyword,
          class: atom,
          key_type: atom,
          curve: atom | nil,
          size: pos_integer | nil
        }

  @attributes [:class, :key_type, :curve, :modulus, :value_len]

  @doc "What there is to know of a key before anything is decrypted with it."
  @spec fetch(Cryptoki.hsm(), Cryptoki.key(), keyword) :: {:ok, t} | {:error, Error.t()}
  def fetch(hsm, key, call) do
    wanted = Keys.wanted!(key, :decrypt)
    options = Options.call!(Keyword.delete(call, :pin), [:timeout, :metadata])

    with {:ok, read} <- HSM.at(hsm, __MODULE__.read(hsm, wanted, options)),
         do: {:ok, holder(hsm, key, call, Attribute.readable(read))}
  end

  @doc "Its attributes, on the node of the token."
  def read(hsm, wanted, options) do
    with {:ok, target} <- HSM.target(hsm, options),
         do: Keys.attributes(target, wanted, @attributes)
  end

  @readable [class: :secret_key, key_type: :generic_secret, token: false, private: false] ++
              [sensitive: false, extractable: true]
  @does %{derive_key: "agrees on", unwrap_key: "unwraps"}

  @doc "The bytes of a secret key that a verb makes with this one, by its other arguments and what else its template has."
  @spec made(t, :derive_key | :unwrap_key, [term], keyword) ::
          {:ok, binary} | {:error, Error.t()}
  def made(%__MODULE__{hsm: hsm} = holder, verb, arguments, template \\ []) do
    call = Keyword.take(holder.call, [:timeout, :metadata])
    arguments = [holder.key] ++ arguments ++ [@readable ++ template, call]

    # One session for the whole life of what is readable.
    HSM.with_session(
      hsm,
      Options.call!(Keyword.take(call, [:timeout]), [:timeout]),
      fn session ->
        with {:ok, made} <- apply(Cryptoki, verb, [session | arguments]),
             read = Cryptoki.attributes(session, made, [:value], call),
             _ = Cryptoki.destroy(session, made, call),
             {:ok, %{value: value}} <- read,
             do: shown(value, verb)
      end,
      {KeyTransport, verb, [hsm | arguments]}
    )
  end

  defp shown(value, _verb) when is_binary(value), do: {:ok, value}

  defp shown({:error, reason}, verb) do
    text = "what this key #{@does[verb]} cannot be read: the token answers #{reason}"
    {:error, Error.new(:unsupported, text)}
  end

  defp holder(hsm, key, call, attributes) do
    %__MODULE__{
      hsm: hsm,
      key: key,
      call: call,
      class: attributes[:class],
      key_type: attributes[:key_type],
      curve: attributes[:curve],
      size: size(attributes)
    }
  end

  defp size(%{modulus: <<_, _::binary>> = modulus}),
    do: modulus |> :binary.decode_unsigned() |> :binary.encode_unsigned() |> byte_size()

  # SoftHSM says 0 of a key that was unwrapped.
  defp size(%{value_len: size}) when is_integer(size) and size > 0, do: size
  defp size(_neither), do: nil
end
