# The names of PKCS #11 and their numbers. One law: a constant is itself, lower case, prefix
# dropped: CKM_AES_GCM is :aes_gcm. A number without a name stays a number. The numbers come from
# constants.txt, which build/generate_constants.exs writes.
defmodule Cryptoki.Names do
  @moduledoc false

  @typedoc "What a constant names; see `kinds/0`. Flags have one kind per structure."
  @type kind :: atom | {:flag, atom}
  @type name_or_code :: atom | non_neg_integer

  @constants Path.join(__DIR__, "names/constants.txt")
  @external_resource @constants

  # The longest prefix that fits a constant says its kind. What a name loses is CKx_, or all of a
  # prefix that starts with CK_: CKP_ML_DSA_65 is :ml_dsa_65, CK_OTP_FORMAT_DECIMAL is :decimal.
  @kinds %{
    "CKA_" => :attribute,
    "CKC_" => :certificate_type,
    "CKD_" => :kdf,
    "CKF_" => :flag,
    "CKG_" => :generator,
    "CKG_MGF1_" => :mgf,
    "CKH_" => :hardware_feature,
    "CKH_HEDGE_" => :hedge,
    "CKH_DETERMINISTIC_" => :hedge,
    "CKK_" => :key_type,
    "CKM_" => :mechanism,
    "CKN_" => :notification,
    "CKO_" => :class,
    "CKP_" => :profile,
    "CKP_ML_DSA_" => :ml_dsa,
    "CKP_ML_KEM_" => :ml_kem,
    "CKP_PKCS5_" => :prf,
    "CKP_SLH_DSA_" => :slh_dsa,
    "CKR_" => :rv,
    "CKS_" => :session_state,
    "CKS_LAST_" => :validation_indicator,
    "CKT_" => :trust,
    "CKU_" => :user,
    "CKV_AUTHORITY_TYPE_" => :validation_authority,
    "CKV_TYPE_" => :validation_type,
    "CKZ_DATA_" => :oaep_source,
    "CKZ_SALT_" => :salt_source,
    "CK_CERTIFICATE_CATEGORY_" => :certificate_category,
    "CK_OTP_" => :otp_parameter,
    "CK_OTP_FORMAT_" => :otp_format,
    "CK_OTP_PARAM_" => :otp_requirement,
    "CK_SECURITY_DOMAIN_" => :security_domain,
    "CK_SP800_108_" => :prf_data,
    "CK_SP800_108_DKM_LENGTH_" => :dkm_length_method
  }

  # A CKF number means something in its structure only.
  @flags %{
    initialize: ~w[library_cant_create_os_threads os_locking_ok]a,
    interface: ~w[interface_fork_safe]a,
    slot: ~w[token_present removable_device hw_slot]a,
    token: ~w[rng write_protected login_required user_pin_initialized restore_key_not_needed
         clock_on_token protected_authentication_path dual_crypto_operations token_initialized
         secondary_authentication user_pin_count_low user_pin_final_try user_pin_locked
         user_pin_to_be_changed so_pin_count_low so_pin_final_try so_pin_locked
         so_pin_to_be_changed error_state seed_random_required async_session_supported]a,
    session: ~w[rw_session serial_session async_session]a,
    mechanism: ~w[hw message_encrypt message_decrypt message_sign message_verify multi_message
         multi_messge find_objects encrypt decrypt digest sign sign_recover verify verify_recover
         generate generate_key_pair wrap unwrap derive ec_f_p ec_f_2m ec_ecparameters ec_oid
         ec_namedcurve ec_uncompress ec_compress ec_curvename encapsulate decapsulate extension]a,
    attribute: ~w[array_attribute]a,
    hkdf_salt: ~w[hkdf_salt_null hkdf_salt_data hkdf_salt_key]a,
    otp: ~w[next_otp exclude_time exclude_counter exclude_challenge exclude_pin
         user_friendly_otp]a,
    message: ~w[end_of_message]a,
    wait: ~w[dont_block]a
  }

  # Accepted, but never given back: the standard has another spelling for the same number.
  @deprecated_names %{
    attribute: ~w[ecdsa_params sub_prime_bits]a,
    flag: ~w[multi_messge ec_namedcurve]a,
    key_type: ~w[cast5 ecdsa]a,
    mechanism: ~w[cast5_cbc cast5_cbc_pad cast5_ecb cast5_key_gen cast5_mac cast5_mac_general
         dsa_probablistic_parameter_gen ecdsa_key_pair_gen pbe_md5_cast5_cbc pbe_sha1_cast5_cbc
         sha3_224_key_derive sha3_256_key_derive sha3_384_key_derive sha3_512_key_derive
         shake_128_key_derive shake_256_key_derive]a,
    prf_data: ~w[optional_counter]a
  }

  constants =
    for line <- File.stream!(@constants), [family, name, number] <- [String.split(line)] do
      constant = family <> "_" <> name
      fitting = @kinds |> Map.keys() |> Enum.filter(&String.starts_with?(constant, &1))
      prefix = Enum.max_by(fitting, &byte_size/1)
      dropped = if String.starts_with?(prefix, "CK_"), do: prefix, else: family <> "_"
      name = constant |> String.replace_prefix(dropped, "") |> String.downcase()
      {@kinds[prefix], {String.to_atom(name), String.to_integer(number)}}
    end

  all = Enum.group_by(constants, &elem(&1, 0), &elem(&1, 1))

  groups =
    for {group, names} <- @flags, into: %{} do
      {group, for({name, bit} <- all.flag, name in names, do: {name, bit})}
    end

  if Enum.sort(Keyword.keys(all.flag)) !=
       @flags |> Map.values() |> Enum.concat() |> Enum.sort() do
    raise "every CKF constant belongs to exactly one structure: see @flags"
  end

  kinds =
    all
    |> Map.delete(:flag)
    |> Map.put(:parameter_set, all.ml_dsa ++ all.ml_kem ++ all.slh_dsa)
    |> Map.merge(Map.new(groups, fn {group, bits} -> {{:flag, group}, bits} end))

  names =
    for {kind, pairs} <- kinds, kind != :parameter_set, into: %{} do
      family = with {:flag, _} <- kind, do: :flag

      current =
        Enum.reject(pairs, fn {name, _} -> name in Map.get(@deprecated_names, family, []) end)

      by_number = Map.new(current, fn {name, number} -> {number, name} end)

      if map_size(by_number) < length(current) do
        raise "two names of #{inspect(kind)} share a number: add the old one to @deprecated_names"
      end

      {kind, by_number}
    end

  @codes Map.new(kinds, fn {kind, pairs} -> {kind, Map.new(pairs)} end)

  # The same number is a parameter set of every key type, so it has no name without one.
  @names Map.put(names, :parameter_set, %{})

  @doc "The kinds of constants there are."
  @spec kinds() :: [kind]
  def kinds, do: Map.keys(codes())

  @doc "All names of a kind with their numbers, deprecated spellings included."
  @spec all(kind) :: [{atom, non_neg_integer}]
  def all(kind),
    do: codes() |> Map.fetch!(kind) |> Enum.sort_by(fn {name, code} -> {code, name} end)

  @doc "The number of a name."
  @spec code(kind, atom) :: {:ok, non_neg_integer} | :error
  def code(kind, name) when is_atom(name), do: codes() |> Map.fetch!(kind) |> Map.fetch(name)

  @doc "The number of a name that there is."
  @spec code!(kind, atom) :: non_neg_integer
  def code!(kind, name), do: codes() |> Map.fetch!(kind) |> Map.fetch!(name)

  @doc "The name of a number in its current spelling, or the number itself."
  @spec name(kind, non_neg_integer) :: name_or_code
  def name(kind, code) when is_integer(code),
    do: names() |> Map.fetch!(kind) |> Map.get(code, code)

  @doc "The flags set in a number, lowest bit first; bits without a name as integers."
  @spec flags(atom, non_neg_integer) :: [name_or_code]
  def flags(group, number) when is_integer(number) and number >= 0 do
    for position <- bits(number, 0), do: name({:flag, group}, Bitwise.bsl(1, position))
  end

  defp bits(0, _), do: []
  defp bits(number, at) when rem(number, 2) == 1, do: [at | bits(div(number, 2), at + 1)]
  defp bits(number, at), do: bits(div(number, 2), at + 1)

  @doc "Up to three names that look like the one given, best first."
  @spec near(kind | [atom], term) :: [atom]
  def near(candidates, name) when is_list(candidates) and is_atom(name) do
    given = name |> Atom.to_string() |> String.downcase() |> String.replace(~r/^ck[a-z]_/, "")

    candidates
    |> Enum.map(&{likeness(Atom.to_string(&1), given), &1})
    |> Enum.filter(fn {likeness, _} -> likeness >= 0.8 end)
    |> Enum.sort(:desc)
    |> Enum.take(3)
    |> Enum.map(&elem(&1, 1))
  end

  def near(candidates, _) when is_list(candidates), do: []
  def near(kind, name), do: codes() |> Map.fetch!(kind) |> Map.keys() |> near(name)

  # A name within a longer one counts: :hmac_sha256 is what someone means by
  # :pkcs5_pbkd2_hmac_sha256.
  defp likeness(candidate, given) do
    within? = byte_size(given) > 2 and String.contains?(candidate, given)
    max(String.jaro_distance(candidate, given), if(within?, do: 0.8, else: 0.0))
  end

  # Whether a term is an atom that may be a name.
  @doc false
  defguard is_name(term) when is_atom(term) and term not in [nil, true, false]

  @doc "Whether it is a list to its end: `is_list/1` is true of `[1 | 2]` as well."
  defguard is_proper_list(term) when is_list(term) and length(term) >= 0

  @doc ~S|The end of an error message: `"; did you mean :label?"`, or nothing.|
  @spec hint(kind | [atom], term) :: String.t()
  def hint(candidates, name) do
    case near(candidates, name) do
      [] -> ""
      near -> "; did you mean #{Enum.map_join(near, " or ", &inspect/1)}?"
    end
  end

  @doc "What a name of this kind is the name of, for messages and documentation."
  @spec in_words(kind) :: String.t()
  def in_words(:dkm_length_method), do: "a DKM length method"
  def in_words(:hedge), do: "a hedge variant"
  def in_words(:kdf), do: "a key derivation function"
  def in_words(:mgf), do: "a mask generation function"
  def in_words(:otp_format), do: "an OTP format"
  def in_words(:otp_requirement), do: "an OTP requirement"
  def in_words(:prf), do: "a pseudo-random function"
  def in_words(:trust), do: "a level of trust"
  def in_words(kind), do: "a " <> String.replace("#{kind}", "_", " ")

  @doc "A name as it is written, or a code: `inspect/1` without its cost, which each call would pay."
  @spec shown(name_or_code) :: String.t()
  def shown(name) when is_atom(name), do: ":" <> Atom.to_string(name)
  def shown(code), do: inspect(code)

  defp codes, do: @codes
  defp names, do: @names
end
