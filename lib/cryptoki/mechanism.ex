defmodule Cryptoki.Mechanism do
  import Cryptoki.Names, only: [is_proper_list: 1]

  alias Cryptoki.Mechanism.{
    Cipher,
    Ciphertext,
    Derivation,
    DiffieHellman,
    EllipticCurve,
    Encoder,
    Field,
    Hash,
    Historic,
    IV,
    MAC,
    PostQuantum,
    Protocol,
    RSA,
    TLS,
    OutOfRange
  }

  alias Cryptoki.{Attribute, Each, Error, Names, Type}

  @tables [
    RSA,
    EllipticCurve,
    PostQuantum,
    Cipher,
    MAC,
    Derivation,
    DiffieHellman,
    Protocol,
    TLS,
    Historic
  ]
  @structures Enum.flat_map(@tables, & &1.structures())

  answered = fn
    {:keys, names, ivs} ->
      "; answers `%{#{Enum.map_join(names ++ ivs, ", ", &"#{&1}:")}}`"

    {:more_keys, argument} ->
      "; with `#{argument}: [template, ...]` it answers a list of keys"

    {:read, argument} ->
      "; with `#{argument}: :read` it answers `{key, #{argument}}`"

    :bytes ->
      "; answers bytes"

    nil ->
      ""
  end

  bracketed = fn {name, type} ->
    options = if is_tuple(type), do: elem(type, 1), else: []
    left_out? = Enum.any?([:default, :derive, :optional], &(options[&1] != nil))
    if left_out?, do: "[#{name}:]", else: "#{name}:"
  end

  @moduledoc """
  Mechanisms: what to do with a key, and the parameter it is done with.

  A mechanism is given as

    * an atom, the standard's name in lower case without `CKM_`: `:sha256_rsa_pkcs`
    * `{atom, arguments}`, a keyword list or a map: `{:aes_gcm, iv: iv, aad: aad}`
    * `{atom_or_number, binary}`, the bytes of the parameter as they are: `{0x80000001, <<1, 2>>}`
    * a number, without a parameter
    * `{atom_or_number, {:struct, fields}}`, a C structure of a vendor's own, member by member:
      `{0x80000001, {:struct, [ulong: 1, bytes: iv, ulong: 12]}}`. `:bytes` is a pointer to a copy,
      `nil` for NULL, and `:inline` bytes in place; there are `:byte`, `:bool`, `:handle`, `:struct`
      (a pointer), `:nested` (in place) and `:array`

  A length that the standard does not allow, of an IV, a nonce, a tag or a context, is a mistake of the
  program that encrypts or signs, an `ArgumentError`; for functions that take what somebody else sent
  (`Cryptoki.decrypt/5`, `Cryptoki.verify/6`, `Cryptoki.unwrap_key/6` ...) it is
  `{:error, %Cryptoki.Error{reason: :mechanism_param_invalid}}`, as everything is that comes with the data.

  A hash is the name of its mechanism (`:sha256`, `:sha_1`), every other constant its name without
  the prefix (`:mgf1_sha256`, `:sha256_kdf`) or its number.

  These take arguments; those in brackets have a default or may be left out. All others are given
  without.

  #{for structure <- @structures do
    mechanisms = Enum.map_join(structure[:mechanisms], ", ", &"`:#{&1}`")
    arguments = Enum.map_join(structure[:arguments], " ", bracketed)
    none = if structure[:optional], do: " or no parameter"
    answer = answered.(structure[:answer])
    "  * #{mechanisms}: `#{arguments}`#{none}#{answer} (#{structure[:section]})\n"
  end}
  The numbers are sections of PKCS #11 v3.2. Where an answer is named, the token gives it in the
  parameter, and `Cryptoki.derive_key/5` (or `generate_key/4`) hands it over instead of one key.
  """

  @typedoc "A mechanism as people write it."
  @type spec ::
          atom
          | non_neg_integer
          | {atom | non_neg_integer, keyword | map | binary | {:struct, list}}

  @typedoc "A mechanism as the native side takes it."
  @type wire :: {non_neg_integer, nil | binary | list}

  @variants @structures
            |> Enum.flat_map(fn structure ->
              for m <- structure[:mechanisms], do: {m, structure}
            end)
            |> Enum.group_by(&elem(&1, 0), &elem(&1, 1))

  for name <- Map.keys(@variants), Names.code(:mechanism, name) == :error do
    raise "there is no mechanism #{inspect(name)}"
  end

  @doc """
  The mechanism as the native side takes it.

  `context` may have `:plaintext_size` or `:ciphertext_size` in bytes, which mechanisms that need
  the length of the data (AES-CCM) take it from; `direction: :in` for what comes from somebody else,
  `:out` for encryption and wrapping, and then `iv: :over | :behind`, how the token is asked for an IV.

  Raises `ArgumentError` for a mechanism or an argument that does not exist, one that is missing
  and a value of the wrong type or length. The message names them and never shows a binary. With
  `direction: :in` a wrong length is a `Cryptoki.Error` with `:mechanism_param_invalid`.

      iex> Cryptoki.Mechanism.encode!(:sha256_rsa_pkcs)
      {0x40, nil}
      iex> Cryptoki.Mechanism.encode!(:sha256_rsa_pkcs_pss)
      {0x43, [ulong: 0x250, ulong: 2, ulong: 32]}
      iex> Cryptoki.Mechanism.encode!({:aes_cbc, iv: <<0::96>>})
      ** (ArgumentError) mechanism :aes_cbc: argument :iv: expected 16 bytes, got 12
  """
  @spec encode!(spec, keyword) :: wire
  def encode!(spec, context \\ [])
  def encode!(code, _) when is_integer(code) and code >= 0, do: {code, nil}
  def encode!(name, context) when is_atom(name), do: named!(name, nil, context)
  def encode!({name, bytes}, _) when is_binary(bytes), do: {code!(name), bytes}

  def encode!({name, {:struct, fields}}, _) when is_proper_list(fields) do
    code = code!(name)
    {code, Field.bounded!(fields, label(code))}
  end

  def encode!({code, arguments}, context) when is_integer(code) and code >= 0 do
    case Names.name(:mechanism, code) do
      ^code -> fail(label(code), "has no arguments with names; give the parameter as a binary")
      name -> named!(name, arguments, context)
    end
  end

  def encode!({name, arguments}, context) when is_atom(name), do: named!(name, arguments, context)

  def encode!(other, _) do
    raise ArgumentError,
          "a mechanism is an atom, a number, or one of these and its parameter in a tuple, " <>
            "got #{Type.of(other)}"
  end

  defp named!(name, nil, context) do
    code = code!(name)

    # Most have none, and nothing to check.
    if variants(Names.name(:mechanism, code)) == [],
      do: {code, nil},
      else: with_arguments!(name, nil, context)
  end

  defp named!(name, arguments, context), do: with_arguments!(name, arguments, context)

  defp with_arguments!(name, arguments, context) do
    code = code!(name)
    name = Names.name(:mechanism, code)
    where = "mechanism " <> Names.shown(name)
    if deep?(arguments, Attribute.levels()), do: Field.too_deep!(where)
    given = Encoder.pairs!(arguments || [], where)

    case variants(name) do
      [] when map_size(given) == 0 ->
        {code, nil}

      [] ->
        fail(where, "has no arguments with names; give its parameter, if any, as a binary")

      [structure | _] = variants ->
        if arguments == nil and structure[:optional] do
          {code, nil}
        else
          structure = structure(variants, given)

          fields =
            structured!(structure, given, where, [mechanism: name, nested: &encode!/1] ++ context)

          {code, Field.bounded!(fields, where)}
        end
    end
  end

  # Whether mechanisms are arguments of mechanisms for ever: asked on the way down, as a mistake
  # inside is told with the way to it.
  defp deep?(_arguments, 0), do: true

  defp deep?(arguments, levels) when is_proper_list(arguments) or is_map(arguments) do
    Enum.any?(if(is_struct(arguments), do: [], else: arguments), fn
      {_name, {_mechanism, arguments}} -> deep?(arguments, levels - 1)
      _other -> false
    end)
  end

  defp deep?(_other, _levels), do: false

  defp structured!(structure, given, where, context) do
    Encoder.encode!(structure, given, where, context)
  rescue
    error in OutOfRange ->
      if context[:direction] == :in,
        do: reraise(Error.new(:mechanism_param_invalid, error.message), __STACKTRACE__),
        else: reraise(ArgumentError, [message: error.message], __STACKTRACE__)
  end

  # A mechanism may have a structure for one function and another for the next: the names tell.
  defp structure([structure | _] = variants, given),
    do: Enum.find(variants, structure, &takes?(&1, given))

  defp takes?(structure, given) do
    Enum.all?(Map.keys(given), &Encoder.type(structure[:arguments], &1))
  end

  # The structure and what it was given, nil for a mechanism without arguments.
  defp written(name, arguments) do
    with [_ | _] = variants <- variants(name_or_code(name)),
         given = Map.new(arguments),
         do: {structure(variants, given), given},
         else: ([] -> nil)
  end

  @doc """
  What comes back in the parameter of a mechanism written like this, or `nil`.

      iex> Cryptoki.Mechanism.answer({:pbe_sha1_des3_ede_cbc, iv: :read})
      {:read, :iv}
      iex> Cryptoki.Mechanism.answer(:sha256_rsa_pkcs)
      nil
  """
  @spec answer(spec) ::
          {:keys, [atom], [atom]} | {:more_keys, atom} | {:read, atom} | :bytes | nil
  def answer({name, arguments}) when is_proper_list(arguments) or is_map(arguments) do
    with {structure, given} <- written(name, arguments) do
      case structure[:answer] do
        {:read, argument} = answer -> if given[argument] == :read, do: answer
        {:more_keys, argument} = answer -> if given[argument] not in [nil, []], do: answer
        always_or_never -> always_or_never
      end
    end
  end

  def answer(_spec), do: nil

  @doc """
  Who chooses the IV of an encryption with a mechanism written like this; `nil` for one without.

      iex> Cryptoki.Mechanism.iv({:aes_gcm, iv: :token, tag_bits: 96})
      %Cryptoki.Mechanism.IV{given: :token, tag: 12, none: true}
      iex> Cryptoki.Mechanism.iv(:aes_ecb)
      nil
  """
  @spec iv(spec) :: struct | nil
  def iv({name, arguments}) when is_proper_list(arguments) or is_map(arguments) do
    with {structure, given} <- written(name, arguments),
         own when own != nil <- structure[:iv],
         iv when iv != nil <- Encoder.given(structure[:arguments], own, given) do
      none = Encoder.options(structure[:arguments], own)[:none] == true
      %IV{given: iv, tag: tag(structure, given), none: none}
    else
      _no_iv -> nil
    end
  end

  def iv(_spec), do: nil

  @doc """
  How long what a mechanism written like this has encrypted can be; `nil` when anything goes.

      iex> Cryptoki.Mechanism.ciphertext({:aes_ccm, nonce: <<0::96>>, mac_len: 8})
      {1, 8}
      iex> Cryptoki.Mechanism.ciphertext(:aes_key_wrap)
      {8, 24}
  """
  @spec ciphertext(spec) :: {block :: pos_integer, least :: non_neg_integer} | nil
  def ciphertext({name, arguments}) when is_proper_list(arguments) or is_map(arguments) do
    tag = with {structure, given} <- written(name, arguments), do: tag(structure, given)
    Ciphertext.rule(name_or_code(name), tag)
  end

  def ciphertext(spec), do: Ciphertext.rule(name_or_code(spec), nil)

  # How many bytes of tag stand behind the ciphertext.
  defp tag(structure, given) do
    case structure[:tag] do
      {:bits, name} -> div(Encoder.given(structure[:arguments], name, given) + 7, 8)
      {:bytes, name} -> Encoder.given(structure[:arguments], name, given)
      size_or_nil -> size_or_nil
    end
  end

  @doc """
  The names of the arguments a mechanism takes.

      iex> Cryptoki.Mechanism.arguments(:sha256_rsa_pkcs_pss)
      [:hash, :mgf, :salt_len]
      iex> Cryptoki.Mechanism.arguments(:sha256)
      []
  """
  @spec arguments(atom) :: [atom]
  def arguments(name) when is_atom(name) do
    name |> variants() |> Enum.flat_map(&Keyword.keys(&1[:arguments])) |> Enum.uniq()
  end

  @doc """
  The mechanism with every key among its arguments resolved by `fun`, which answers `{:ok,
  handle}` or `{:error, reason}`; the first error is the answer. `{:handle, handle}` is a key
  resolved already.

      iex> spec = {:concatenate_base_and_key, key: [label: "second"]}
      iex> Cryptoki.Mechanism.resolve_keys(spec, fn [label: "second"] -> {:ok, {7, 1}} end)
      {:ok, {:concatenate_base_and_key, [key: {:handle, {7, 1}}]}}
  """
  @spec resolve_keys(spec, (term -> {:ok, term} | {:error, reason})) ::
          {:ok, spec} | {:error, reason}
        when reason: term
  def resolve_keys({name, arguments}, fun) when is_proper_list(arguments) or is_map(arguments) do
    variants = variants(name_or_code(name))

    with {:ok, arguments} <- Each.of(Enum.to_list(arguments), &resolve(&1, variants, fun)),
         do: {:ok, {name, arguments}}
  end

  def resolve_keys(spec, _), do: {:ok, spec}

  defp resolve({name, value}, variants, fun) do
    type = Enum.find_value(variants, &Encoder.type(&1[:arguments], name))

    with {:ok, value} <- resolve_value(type, value, fun), do: {:ok, {name, value}}
  end

  defp resolve(other, _, _), do: {:ok, other}

  defp resolve_value(:key, nil, _), do: {:ok, nil}
  defp resolve_value(:key, {:handle, handle}, _), do: {:ok, {:handle, handle}}

  defp resolve_value(:key, key, fun),
    do: with({:ok, handle} <- fun.(key), do: {:ok, {:handle, handle}})

  defp resolve_value(:mechanism, spec, fun), do: resolve_keys(spec, fun)

  # Only data of SP 800-108 has keys within a list.
  defp resolve_value(:tagged, [{:key_handle, key} | rest], fun) do
    with {:ok, key} <- resolve_value(:key, key, fun),
         {:ok, rest} <- resolve_value(:tagged, rest, fun),
         do: {:ok, [{:key_handle, key} | rest]}
  end

  defp resolve_value(:tagged, [other | rest], fun) do
    with {:ok, rest} <- resolve_value(:tagged, rest, fun), do: {:ok, [other | rest]}
  end

  defp resolve_value(_, value, _), do: {:ok, value}

  @doc """
  The name of a mechanism, in its current spelling, or its number when it has none.

      iex> Cryptoki.Mechanism.name_or_code({:aes_gcm, iv: <<0::96>>})
      :aes_gcm
      iex> Cryptoki.Mechanism.name_or_code(0x1041)
      :ecdsa
  """
  @spec name_or_code(spec) :: atom | non_neg_integer
  def name_or_code({name, _}), do: name_or_code(name)
  def name_or_code(code) when is_integer(code), do: Names.name(:mechanism, code)

  def name_or_code(name) when is_atom(name) do
    case Names.code(:mechanism, name) do
      {:ok, code} -> Names.name(:mechanism, code)
      :error -> name
    end
  end

  @doc """
  The hash a mechanism computes with, as the name of its mechanism: the one among the arguments,
  or the one in the name. `nil` when there is none.

      iex> Cryptoki.Mechanism.hash(:ecdsa_sha256)
      :sha256
      iex> Cryptoki.Mechanism.hash({:rsa_pkcs_pss, hash: :sha384})
      :sha384
      iex> Cryptoki.Mechanism.hash(:ecdsa)
      nil
  """
  @spec hash(spec) :: atom | nil
  def hash({name, %{hash: hash}}), do: hash(name, hash)

  def hash({name, [_ | _] = arguments}),
    do: hash(name, List.keyfind(arguments, :hash, 0, {:hash, nil}) |> elem(1))

  def hash(spec), do: Hash.of_mechanism(name_or_code(spec))

  defp hash(name, nil), do: hash(name)
  defp hash(_, code) when is_integer(code), do: Hash.of_mechanism(Names.name(:mechanism, code))
  defp hash(_, hash), do: hash

  @doc """
  Whether signatures of a mechanism are those of ECDSA, r and s one after the other (section
  6.3.1).

      iex> Cryptoki.Mechanism.ecdsa?(:ecdsa_sha256)
      true
      iex> Cryptoki.Mechanism.ecdsa?(:eddsa)
      false
  """
  @spec ecdsa?(spec) :: boolean
  def ecdsa?(spec) do
    case name_or_code(spec) do
      name when is_atom(name) -> String.starts_with?(Atom.to_string(name), "ecdsa")
      _ -> false
    end
  end

  # Not Map.get: Elixir 1.20 works out for minutes what types that could answer.
  defp variants(name), do: :maps.get(name, by_mechanism(), [])

  defp by_mechanism, do: @variants

  defp code!(code) when code in 0..0xFFFF_FFFF_FFFF_FFFF, do: code

  defp code!(name) when is_atom(name) do
    case Names.code(:mechanism, name) do
      {:ok, code} ->
        code

      :error ->
        raise ArgumentError,
              "there is no mechanism #{inspect(name)}#{Names.hint(:mechanism, name)}"
    end
  end

  defp code!(other) do
    raise ArgumentError,
          "a mechanism is an atom or a number of at most 64 bits, got #{Type.of(other)}"
  end

  defp label(code), do: "mechanism 0x" <> Integer.to_string(code, 16)

  @spec fail(String.t(), String.t()) :: no_return
  defp fail(where, sentence), do: raise(ArgumentError, "#{where} #{sentence}")
end
