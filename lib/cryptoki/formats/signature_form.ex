defmodule Cryptoki.SignatureForm do
  @moduledoc false
  # The form that signatures of a key have by the standard, and signatures of tokens brought to it: r and
  # s as long as the order of the base point (PKCS #11 v3.2, section 6.3.1), RSA as long as the modulus
  # (RFC 8017, section 8.2.1), the others as long as they are. There are libraries that give DER, drop
  # zeros or put one in front. What can be one signature only is repaired. Pure.

  alias Cryptoki.{Attribute, Ecdsa, Error, Mechanism, Names}
  alias Cryptoki.Mechanism.Hash
  alias Cryptoki.SignatureAlgorithm.PostQuantum

  @typedoc "Two numbers of so many bytes, if that is known; RSA with modulus and exponent; so many bytes."
  @type t ::
          {:numbers, pos_integer | nil}
          | {:rsa, pos_integer, pos_integer | nil}
          | {:bytes, pos_integer}
          | nil

  # What exponents are when the token does not show them.
  @exponents [65_537, 3, 17]

  @doc "The attributes of a key of this type that `of/1` wants."
  @spec attributes(term) :: [Attribute.name()]
  def attributes(:rsa), do: [:modulus, :public_exponent]
  def attributes(type) when type in [:ec, :ec_edwards], do: [:curve]
  def attributes(:dsa), do: [:subprime]
  def attributes(type) when type in [:ml_dsa, :slh_dsa], do: [:key_type, :parameter_set]
  def attributes(_other), do: []

  @doc "The form, of attributes as they are after `Attribute.decode/2`; nil when nothing is known."
  @spec of(map) :: t
  def of(%{key_type: :rsa, modulus: <<_, _::binary>> = modulus} = attributes) do
    exponent = number(attributes[:public_exponent])
    with number when number != nil <- number(modulus), do: {:rsa, number, exponent}
  end

  def of(%{curve: :ed25519}), do: {:bytes, 64}
  def of(%{curve: :edwards25519}), do: {:bytes, 64}
  def of(%{curve: :ed448}), do: {:bytes, 114}
  def of(%{curve: :edwards448}), do: {:bytes, 114}

  def of(%{key_type: :ec} = attributes) do
    with curve when is_binary(curve) or is_atom(curve) <- attributes[:curve],
         {:ok, size} <- Attribute.order_size(curve),
         do: {:numbers, size},
         else: (_unknown -> {:numbers, nil})
  end

  def of(%{key_type: :dsa, subprime: subprime}) do
    number = number(subprime)
    {:numbers, number && byte_size(:binary.encode_unsigned(number))}
  end

  def of(%{key_type: type, parameter_set: set}) when type in [:ml_dsa, :slh_dsa] do
    case PostQuantum.signature_size(set) do
      nil -> nil
      size -> {:bytes, size}
    end
  end

  def of(_other), do: nil

  defp number(bytes) when is_binary(bytes) do
    number = :binary.decode_unsigned(bytes)
    if number > 1, do: number
  end

  defp number(_not_read), do: nil

  # MACs, which are as long as their mechanism says, but for the general ones.
  @tags for {name, _code} <- Names.all(:mechanism),
            String.ends_with?("#{name}", "_hmac"),
            size = name |> Hash.of_mechanism() |> Hash.size(),
            into: Map.new(~w(aes_cmac aes_gmac poly1305)a, &{&1, {:bytes, 16}}),
            do: {name, {:bytes, size}}

  @doc "The form that a mechanism has whatever the key, nil for those whose key says it."
  @spec tag(term) :: t
  def tag(mechanism), do: Map.get(@tags, mechanism)

  @doc "What a token gave, in the form of signatures by this mechanism; `function` is the one that gave it."
  @spec repair(binary, t, term, atom) :: {:ok, binary} | {:error, Error.t()}
  def repair(signature, form, mechanism, function)

  # As almost always.
  def repair(signature, {:numbers, size}, _mechanism, _function)
      when is_integer(size) and byte_size(signature) == 2 * size,
      do: {:ok, signature}

  def repair(signature, form, mechanism, function) do
    form = tag(mechanism) || if(applies?(form, mechanism), do: form)

    with :error <- repair(signature, form, mechanism) do
      {:error, Error.new(:module_misbehaved, told(signature, form), function: function)}
    end
  end

  defp applies?(nil, _mechanism), do: false
  defp applies?(_form, mechanism) when not is_atom(mechanism), do: false

  defp applies?({:numbers, _size}, mechanism),
    do: Mechanism.ecdsa?(mechanism) or String.starts_with?(Atom.to_string(mechanism), "dsa")

  defp applies?({:rsa, _modulus, _exponent}, mechanism),
    do: String.contains?(Atom.to_string(mechanism), "rsa_")

  defp applies?({:bytes, _size}, mechanism),
    do: mechanism == :eddsa or String.contains?(Atom.to_string(mechanism), ["ml_dsa", "slh_dsa"])

  defp told(signature, form) do
    expected =
      case form do
        {:numbers, nil} -> "r and s"
        {:numbers, size} -> "#{2 * size} bytes"
        {:rsa, modulus, _exponent} -> "#{size(modulus)} bytes"
        {:bytes, size} -> "#{size} bytes"
      end

    "it gave #{byte_size(signature)} bytes, which are no signature of this key: that is #{expected}"
  end

  defp repair(signature, nil, _mechanism), do: {:ok, signature}

  defp repair(signature, {:bytes, size}, _mechanism) when byte_size(signature) == size,
    do: {:ok, signature}

  defp repair(signature, {:numbers, nil}, _mechanism) when rem(byte_size(signature), 2) == 0,
    do: {:ok, signature}

  defp repair(signature, {:numbers, size}, _mechanism) when is_integer(size) do
    cond do
      byte_size(signature) == 2 * size -> {:ok, signature}
      match?(<<0x30, _::binary>>, signature) -> from_der(signature, size)
      true -> without_zeros(signature, size)
    end
  end

  defp repair(signature, {:rsa, modulus, exponent}, mechanism) do
    missing = size(modulus) - byte_size(signature)

    cond do
      missing == 0 ->
        {:ok, signature}

      missing < 0 ->
        cut(signature, -missing)

      signature != "" and padded?(signature, mechanism, modulus, exponent) ->
        {:ok, <<0::unit(8)-size(missing), signature::binary>>}

      true ->
        :error
    end
  end

  defp repair(_signature, _form, _mechanism), do: :error

  defp from_der(signature, size) do
    with {:error, _not_der} <- Ecdsa.from_der(signature, size), do: without_zeros(signature, size)
  end

  # Two halves that are longer, by zeros.
  defp without_zeros(signature, size) do
    with more when more > 0 <- byte_size(signature) - 2 * size,
         0 <- rem(more, 2),
         {r, s} = :erlang.split_binary(signature, size + div(more, 2)),
         {:ok, r} <- cut(r, div(more, 2)),
         {:ok, s} <- cut(s, div(more, 2)),
         do: {:ok, r <> s},
         else: (_other -> :error)
  end

  defp cut(bytes, count) do
    {zeros, rest} = :erlang.split_binary(bytes, count)
    if zeros == :binary.copy(<<0>>, count), do: {:ok, rest}, else: :error
  end

  # Without the zeros before it, or without some bytes behind it: what it is the padding of tells.
  defp padded?(signature, mechanism, modulus, exponent) do
    number = :binary.decode_unsigned(signature)

    number < modulus and
      Enum.any?(if(exponent, do: [exponent], else: @exponents), fn exponent ->
        message = :crypto.mod_pow(number, exponent, modulus)
        size = size(modulus) - byte_size(message)
        padding?(Atom.to_string(mechanism), <<0::unit(8)-size(size), message::binary>>)
      end)
  end

  # RFC 8017, sections 9.1.1 and 9.2; X9.31 ends in CC. Raw RSA has none.
  defp padding?(mechanism, message) do
    cond do
      String.ends_with?(mechanism, "_pss") ->
        :binary.last(message) == 0xBC

      String.ends_with?(mechanism, "rsa_pkcs") ->
        match?(<<0, 1, 0xFFFFFFFF::32, _::binary>>, message)

      String.ends_with?(mechanism, "x9_31") ->
        :binary.last(message) == 0xCC

      true ->
        false
    end
  end

  defp size(number), do: byte_size(:binary.encode_unsigned(number))
end
