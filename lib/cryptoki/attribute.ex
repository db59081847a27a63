defmodule Cryptoki.Attribute do
  # One table: the type of every attribute's value.
  @types [
    boolean:
      ~w[token private trusted sensitive encrypt decrypt wrap unwrap sign sign_recover verify
         verify_recover derive encapsulate decapsulate extractable local never_extractable
         always_sensitive modifiable copyable destroyable always_authenticate wrap_with_trusted
         secondary_auth otp_user_friendly_mode reset_on_init has_reset color x2ratchet_bobs1stmsg
         x2ratchet_isalice]a,
    ulong: ~w[modulus_bits prime_bits subprime_bits value_bits value_len auth_pin_flags otp_length
         otp_time_interval pixel_x pixel_y resolution char_rows char_columns bits_per_pixel
         x2ratchet_bagsize x2ratchet_nr x2ratchet_ns x2ratchet_pns hss_levels hss_lms_type
         hss_lmots_type hss_keys_remaining object_validation_flags validation_level
         validation_flag]a,
    ulongs: ~w[hss_lms_types hss_lmots_types]a,
    string: ~w[label unique_id application url otp_time otp_user_identifier otp_service_identifier
         otp_service_logo_type char_sets encoding_methods mime_types validation_module_id
         validation_country validation_certificate_identifier validation_certificate_uri
         validation_vendor_uri validation_profile]a,
    bytes: ~w[value object_id issuer serial_number ac_issuer owner attr_types
         hash_of_subject_public_key hash_of_issuer_public_key hash_of_certificate check_value
         subject id public_key_info public_crc64_value seed ec_params ec_point otp_counter
         otp_service_logo gostr3410_params gostr3411_params gost28147_params
         required_cms_attributes default_cms_attributes supported_cms_attributes x2ratchet_bag
         x2ratchet_ckr x2ratchet_cks x2ratchet_dhp x2ratchet_dhr x2ratchet_dhs x2ratchet_hkr
         x2ratchet_hks x2ratchet_nhkr x2ratchet_nhks x2ratchet_rk]a,
    big_integer: ~w[modulus public_exponent private_exponent prime_1 prime_2 exponent_1 exponent_2
         coefficient prime subprime base]a,
    date: ~w[start_date end_date]a,
    version: ~w[validation_version]a,
    template: ~w[wrap_template unwrap_template derive_template encapsulate_template
         decapsulate_template]a,
    any: ~w[vendor_defined]a,
    class: ~w[class]a,
    key_type: ~w[key_type]a,
    certificate_type: ~w[certificate_type]a,
    certificate_category: ~w[certificate_category]a,
    security_domain: ~w[java_midp_security_domain]a,
    hardware_feature: ~w[hw_feature_type]a,
    mechanism: ~w[key_gen_mechanism mechanism_type name_hash_algorithm]a,
    mechanisms: ~w[allowed_mechanisms]a,
    profile: ~w[profile_id]a,
    parameter_set: ~w[parameter_set]a,
    otp_format: ~w[otp_format]a,
    otp_requirement: ~w[otp_challenge_requirement otp_time_requirement otp_counter_requirement
         otp_pin_requirement]a,
    trust: ~w[trust_server_auth trust_client_auth trust_code_signing trust_email_protection
         trust_ipsec_ike trust_time_stamping trust_ocsp_signing]a,
    validation_type: ~w[validation_type]a,
    validation_authority: ~w[validation_authority_type]a
  ]

  # What each type takes and gives, for people; the ones not listed are a name of their kind.
  @in_words [
    boolean: "`true` or `false`",
    ulong: "a non-negative integer; `:unavailable` for `CK_UNAVAILABLE_INFORMATION`",
    ulongs: "a list of non-negative integers",
    string: "a UTF-8 string",
    bytes: "a binary",
    big_integer: "a big-endian binary; an integer is accepted too",
    date: "a `Date`; `nil` when empty",
    version: "`{major, minor}`",
    template: "a template; reads back as a map",
    any: "a binary, a boolean, an integer or a list of integers; reads back as a binary",
    mechanisms: "a list of names of mechanisms or of their numbers"
  ]

  @moduledoc """
  Attributes: what a template may say, and what an object's attributes read back as.

  A template is a keyword list or a map. A name is the standard's, lower case, without `CKA_`:
  `label: "invoice"` is `CKA_LABEL`. An attribute without a name is given by its number, in a list
  of pairs: `[{0x80000001, <<1, 2>>}]`. For every attribute but the nested templates a binary is
  taken as the bytes of the value, and for the name of a constant its number.

  `curve: :secp256r1` stands for `CKA_EC_PARAMS`, with the names OTP gives curves (`:secp521r1`,
  `:secp256k1`, `:brainpoolP384r1` ...) and `:ed25519`, `:ed448`, `:x25519`, `:x448`. These four go
  out as the object identifiers of RFC 8410; `:edwards25519`, `:edwards448`, `:curve25519` and
  `:curve448` send the names of the curves instead, which is how section 6.3.5 tells the schemes of
  RFC 8032 (with context and prehash) from those of RFC 8410. SoftHSM 2.6.1 and Kryoptic take
  either form for either scheme. SoftHSM makes X25519 keys with `:ec_edwards_key_pair_gen` only.

  #{for {type, names} <- @types do
    words = @in_words[type] || "the name of #{Cryptoki.Names.in_words(type)}, or its number"
    "  * #{words}: " <> Enum.map_join(names, ", ", &"`:#{&1}`") <> "\n"
  end}
  Sections 4.2 to 4.15 of PKCS #11 v3.2 say what they mean, section 6 for each type of key.
  """

  import Cryptoki.Names, only: [is_proper_list: 1]

  alias Cryptoki.Attribute.{Curve, Value}
  alias Cryptoki.Names
  alias Cryptoki.Type

  @typedoc "The standard's name in lower case, `:curve`, or a number."
  @type name :: atom | non_neg_integer

  @typedoc "What to set or to look for."
  @type template :: keyword | [{name, term}] | %{optional(name) => term}

  @typedoc "A template as the native side takes it."
  @type wire :: [
          {non_neg_integer,
           binary | boolean | non_neg_integer | {:ulongs, [non_neg_integer]} | {:template, wire}}
        ]

  @typedoc "Attributes as the native side gives them."
  @type answer :: [
          {non_neg_integer, binary | {:template, answer} | {:error, atom | non_neg_integer}}
        ]

  typed = for {type, names} <- @types, name <- names, do: {Names.code(:attribute, name), type}
  @type_of Map.new(typed, fn {{:ok, code}, type} -> {code, type} end)

  untyped = for {name, code} <- Names.all(:attribute), not is_map_key(@type_of, code), do: name

  if untyped != [] or length(typed) != map_size(@type_of) do
    raise "every attribute has exactly one type: see @types"
  end

  @levels 16

  @ec_params Names.code!(:attribute, :ec_params)
  @key_type Names.code!(:attribute, :key_type)
  @parameter_set Names.code!(:attribute, :parameter_set)

  @doc """
  The template as the native side takes it, in the order given.

  Raises `ArgumentError` for an attribute that does not exist, that is given twice or that has a
  value of the wrong type, and for templates that stand in each other more than 16 deep. The message names the attribute and what was expected, never the value.

      iex> Cryptoki.Attribute.encode!(class: :secret_key, label: "a", value_len: 32)
      [{0x0, 4}, {0x3, "a"}, {0x161, 32}]

      iex> Cryptoki.Attribute.encode!(lable: "a")
      ** (ArgumentError) there is no attribute :lable; did you mean :label?
  """
  @spec encode!(template) :: wire
  def encode!(template), do: encode!(template, @levels)

  defp encode!(template, levels)
       when is_proper_list(template) or (is_map(template) and not is_struct(template)) do
    Enum.reduce(template, [], fn
      {name, value}, done ->
        code = type!(name)
        if List.keymember?(done, code, 0), do: fail(name, " is given twice")
        [{code, value!(name, type_of(name, code), value, levels - 1)} | done]

      other, _ ->
        raise ArgumentError,
              "a template is made of {attribute, value}, got #{Type.of(other)}"
    end)
    |> Enum.reverse()
  end

  defp encode!(other, _levels) do
    raise ArgumentError, "a template is a keyword list or a map, got #{Type.of(other)}"
  end

  defp value!(name, :template, template, levels)
       when is_proper_list(template) or is_map(template) do
    if levels == 0, do: fail(name, ": templates stand in each other at most #{@levels} deep")
    {:template, encode!(template, levels)}
  end

  defp value!(name, type, value, _levels) do
    case Value.encode(type, value) do
      {:ok, wire} -> wire
      {:error, sentence} -> fail(name, ": " <> sentence)
    end
  end

  @doc false
  # How deep templates, and structures of mechanisms, may stand in each other, as in the native code: what
  # walks them there has the stack of a thread.
  @spec levels() :: pos_integer
  def levels, do: @levels

  @doc """
  The number of an attribute.

  Raises `ArgumentError` when there is no such attribute.

      iex> Cryptoki.Attribute.type!(:label)
      0x3
      iex> Cryptoki.Attribute.type!(0x80000001)
      0x80000001
  """
  @spec type!(name) :: non_neg_integer
  def type!(:curve), do: @ec_params
  def type!(code) when code in 0..0xFFFF_FFFF_FFFF_FFFF, do: code

  def type!(name) when is_atom(name) do
    case Names.code(:attribute, name) do
      {:ok, code} -> code
      :error -> raise ArgumentError, "there is no attribute #{inspect(name)}#{near(name)}"
    end
  end

  def type!(other) do
    raise ArgumentError,
          "an attribute is an atom or a number of at most 64 bits, got #{Type.of(other)}"
  end

  defp near(name), do: Names.hint([:curve | Keyword.keys(Names.all(:attribute))], name)

  @doc """
  The numbers to read so that `decode/2` can answer for these names: each once, and the key type
  next to a parameter set, whose number has a name only with it.

      iex> Cryptoki.Attribute.types!([:curve, :ec_params, :parameter_set])
      [0x180, 0x61D, 0x100]
  """
  @spec types!([name]) :: [non_neg_integer]
  def types!(names) when is_proper_list(names) do
    codes = Enum.map(names, &type!/1)
    Enum.uniq(if(@parameter_set in codes, do: codes ++ [@key_type], else: codes))
  end

  @doc """
  Attributes read from a token, by name: those asked for, or all that came.

  A value that cannot be read is `{:error, reason}` and spoils no other. Bytes that are not what
  the standard promises stay bytes.

      iex> Cryptoki.Attribute.decode([{0x3, "a"}, {0x11, {:error, :attribute_sensitive}}])
      %{label: "a", value: {:error, :attribute_sensitive}}
  """
  @spec decode(answer, [name] | nil) :: %{optional(name) => term}
  def decode(answer, names \\ nil) when is_list(answer) do
    raw = Map.new(answer)

    for name <- names || Enum.map(answer, fn {code, _} -> Names.name(:attribute, code) end),
        code = type!(name),
        is_map_key(raw, code),
        into: %{} do
      {name, from_token(type_of(name, code), raw[code], raw)}
    end
  end

  # What the library answers to this attribute alone.
  defp from_token(_, {:error, code}, _) when is_integer(code),
    do: {:error, Names.name(:rv, code)}

  defp from_token(_, {:error, reason}, _), do: {:error, reason}
  defp from_token(_, {:template, nested}, _), do: decode(nested)

  defp from_token({:name, :parameter_set}, bytes, raw),
    do: Value.decode(parameter_set(raw), bytes)

  defp from_token(type, bytes, _), do: Value.decode(type, bytes)

  # Only the key type says which parameter sets a number is of.
  defp parameter_set(%{@key_type => bytes}) when is_binary(bytes) do
    case Value.decode({:name, :key_type}, bytes) do
      key_type when key_type in [:ml_dsa, :ml_kem, :slh_dsa] -> {:name, key_type}
      _ -> :ulong
    end
  end

  defp parameter_set(_), do: :ulong

  @doc """
  The point in the bytes of an `:ec_point`, without the DER OCTET STRING some tokens wrap it in,
  or `:error` when it is no point of this curve (a name, or `nil` for a curve that is not known).

  Section 6.3.3 wraps points of short Weierstrass curves, sections 6.3.5 and 6.3.7 do not wrap
  those of Edwards and Montgomery curves; tokens differ. A bare X25519 value can look like DER, so
  length decides.

      iex> Cryptoki.Attribute.ec_point(<<4, 32, 7::256>>, :x25519)
      {:ok, <<7::256>>}
      iex> Cryptoki.Attribute.ec_point(<<4, 30, 7::240>>, :x25519)
      {:ok, <<4, 30, 7::240>>}
  """
  @spec ec_point(binary, atom | nil) :: {:ok, binary} | :error
  defdelegate ec_point(bytes, curve), to: Curve, as: :point

  @doc false
  # Of what `decode/2` answers what could be read and says something.
  @spec readable(map) :: map
  def readable(attributes) do
    Map.reject(attributes, fn {_name, value} ->
      match?({:error, _reason}, value) or value in ["", nil]
    end)
  end

  @doc false
  # The bytes of r and of s in signatures with a key on the curve that `:curve` has.
  @spec order_size(atom | binary) :: {:ok, pos_integer} | :error
  defdelegate order_size(curve), to: Curve

  # :curve and :ec_params are one attribute of two types.
  defp type_of(:curve, _), do: :curve

  for {code, type} <- @type_of do
    shape =
      cond do
        type == :mechanisms -> {:names, :mechanism}
        type in Names.kinds() -> {:name, type}
        true -> type
      end

    defp type_of(_, unquote(code)), do: unquote(Macro.escape(shape))
  end

  defp type_of(_, _), do: :any

  @spec fail(name, String.t()) :: no_return
  defp fail(name, sentence), do: raise(ArgumentError, "attribute #{label(name)}#{sentence}")

  defp label(name) when is_atom(name), do: inspect(name)
  defp label(code), do: "0x" <> Integer.to_string(code, 16)
end
