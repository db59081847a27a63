# Parameters of single messages in message-based encryption (PKCS #11 v3.2, sections 6.13.7 and
# 6.61.3). The token may write the IV and writes the tag: both are read back, the IV first.
defmodule Cryptoki.Mechanism.Message do
  @moduledoc false

  alias Cryptoki.Error
  alias Cryptoki.Mechanism.{Encoder, Field, OutOfRange}

  # Nobody asks a token for more.
  @made 1..65_536

  @iv [
    iv_generator: {:name, of: :generator, default: :no_generate},
    iv_fixed_bits: {:ulong, default: 0}
  ]

  @structures [
    aes_gcm: [
      struct: :CK_GCM_MESSAGE_PARAMS,
      arguments:
        [iv: {:bytes, size: 1..0xFFFF_FFFF, inout: true}] ++
          @iv ++ [tag: {:bytes, size: 0..16, inout: true}],
      layout: [
        pIv: :iv,
        ulIvLen: {:size, :iv},
        ulIvFixedBits: :iv_fixed_bits,
        ivGenerator: :iv_generator,
        pTag: :tag,
        ulTagBits: {:bits, :tag}
      ]
    ],
    aes_ccm: [
      struct: :CK_CCM_MESSAGE_PARAMS,
      arguments:
        [
          data_len: {:ulong, derive: {:plaintext_size, :tag}},
          iv: {:bytes, size: 7..13, inout: true, as: [:nonce]}
        ] ++
          @iv ++ [tag: {:bytes, size: [4, 6, 8, 10, 12, 14, 16], inout: true, as: [:mac]}],
      layout: [
        ulDataLen: :data_len,
        pNonce: :iv,
        ulNonceLen: {:size, :iv},
        ulNonceFixedBits: :iv_fixed_bits,
        nonceGenerator: :iv_generator,
        pMAC: :tag,
        ulMACLen: {:size, :tag}
      ]
    ],
    chacha20_poly1305: [
      struct: :CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS,
      arguments: [
        iv: {:bytes, size: [8, 12, 24], inout: true, as: [:nonce]},
        tag: {:bytes, size: 16, inout: true}
      ],
      layout: [pNonce: :iv, ulNonceLen: {:size, :iv}, pTag: :tag]
    ]
  ]

  @structures Keyword.put(@structures, :salsa20_poly1305, @structures[:chacha20_poly1305])

  @type direction :: :message_encrypt | :message_decrypt
  @type wire :: nil | binary | [Field.t()]

  @doc """
  The parameter of one message, and what the token writes into it, by name. `context` may have
  `:plaintext_size`. Raises `ArgumentError`; for bytes of a wrong length that came with a ciphertext
  `Cryptoki.Error`.
  """
  @spec encode!(term, direction, term, keyword) :: {wire, written :: [:iv | :tag] | nil}
  def encode!(mechanism, direction, given, context)
  def encode!(_mechanism, _direction, given, _context) when given == nil, do: {nil, []}
  def encode!(_mechanism, _direction, given, _context) when is_binary(given), do: {given, []}

  def encode!(_mechanism, _direction, {:struct, fields}, _context),
    do: {Field.bounded!(fields, "a message"), nil}

  def encode!(mechanism, direction, given, context) do
    where = "a message of #{inspect(mechanism)}"

    case @structures[mechanism] do
      nil ->
        raise ArgumentError,
              "#{where} has no parameters with names; give them as a binary or {:struct, fields}"

      structure ->
        given = given |> Encoder.pairs!(where) |> generated!(where) |> tag!(direction, where)
        {Encoder.encode!(structure, given, where, context), [:iv, :tag]}
    end
  rescue
    error in OutOfRange ->
      if direction == :message_decrypt,
        do: reraise(Error.new(:mechanism_param_invalid, error.message), __STACKTRACE__),
        else: reraise(ArgumentError, [message: error.message], __STACKTRACE__)
  end

  @doc "The same message with the IV that the token has made of it."
  @spec with_iv([tuple], binary) :: [tuple]
  def with_iv(fields, iv) when is_list(fields) do
    at = Enum.find_index(fields, &match?({:inout, _}, &1))
    List.replace_at(fields, at, {:inout, iv})
  end

  # iv: {:generate, size} or {:generate, [size: 12, fixed: "...", by: :generate_random]}.
  defp generated!(given, where) do
    {name, iv} = Enum.find(given, {:iv, nil}, fn {name, _} -> name in [:iv, :nonce] end)

    case iv do
      :token ->
        generated!(Map.put(given, name, {:generate, []}), where)

      {:generate, size} when is_integer(size) ->
        generated!(Map.put(given, name, {:generate, [size: size]}), where)

      {:generate, how} ->
        how = Encoder.pairs!(how, "#{where}: argument #{inspect(name)}")
        fixed = Map.get(how, :fixed, "")
        size = Map.get(how, :size, 12)
        generator = Map.get(how, :by, :generate)
        unknown = Map.keys(how) -- [:size, :fixed, :by]

        unless unknown == [] and is_binary(fixed) and size in @made and byte_size(fixed) < size do
          raise ArgumentError,
                "#{where}: argument #{inspect(name)}: {:generate, ...} takes size: in bytes, " <>
                  "fixed: fewer bytes that come first, and by: a generator such as :generate_random"
        end

        given
        |> Map.put(name, fixed <> :binary.copy(<<0>>, size - byte_size(fixed)))
        |> Map.put(:iv_generator, generator)
        |> Map.put(:iv_fixed_bits, bit_size(fixed))

      _bytes ->
        given
    end
  end

  # The token writes the tag when it encrypts and compares it when it decrypts: as long as the caller wants it,
  # not as long as the sender has made it.
  defp tag!(given, :message_decrypt, where) do
    {size, given} = tag_size!(given, where)
    {name, tag} = Enum.find(given, {:tag, nil}, fn {name, _} -> name in [:tag, :mac] end)

    if is_binary(tag) and byte_size(tag) != size do
      raise OutOfRange,
        message:
          "#{where}: argument #{inspect(name)}: expected #{size} bytes, got #{byte_size(tag)}; " <>
            "tag_bits: says how long the tag is"
    end

    given
  end

  defp tag!(given, :message_encrypt, where) do
    for name <- [:tag, :mac], is_map_key(given, name), do: no!(where, name)
    {size, given} = tag_size!(given, where)
    Map.put(given, :tag, :binary.copy(<<0>>, size))
  end

  defp tag_size!(given, where) do
    {bits, given} = Map.pop(given, :tag_bits, 128)

    unless is_integer(bits) and bits in 0..128 and rem(bits, 8) == 0 do
      raise ArgumentError,
            "#{where}: argument :tag_bits: expected a multiple of 8, 0 to 128, got #{inspect(bits)}"
    end

    {div(bits, 8), given}
  end

  @spec no!(String.t(), atom) :: no_return
  defp no!(where, name),
    do: raise(ArgumentError, "#{where}: there is no argument #{inspect(name)} here")
end
