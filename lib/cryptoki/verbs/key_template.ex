defmodule Cryptoki.KeyTemplate do
  @moduledoc false
  # The templates of generated keys: which half of a pair an attribute belongs to, and what a key
  # may do when nothing is said. The docs of `Cryptoki.generate_key_pair/4` show it as tables.

  import Cryptoki.Names, only: [is_proper_list: 1]

  alias Cryptoki.Mechanism

  @public ~w[verify verify_recover encrypt wrap encapsulate trusted wrap_template
             encapsulate_template modulus_bits public_exponent curve ec_params parameter_set
             prime subprime base]a
  @private ~w[sign sign_recover decrypt unwrap decapsulate derive private sensitive extractable
              always_authenticate wrap_with_trusted unwrap_template derive_template
              decapsulate_template value_bits]a
  @usage ~w[sign sign_recover verify verify_recover encrypt decrypt wrap unwrap derive encapsulate
            decapsulate]a

  # mechanisms => usage of the public and of the private half; all others sign.
  @pairs [
    {~w[ec_montgomery_key_pair_gen dh_pkcs_key_pair_gen x9_42_dh_key_pair_gen
        x2ratchet_initialize]a, [], [derive: true]},
    {~w[ml_kem_key_pair_gen]a, [encapsulate: true], [decapsulate: true]}
  ]
  @signing {[verify: true], [sign: true]}

  @encrypting ~w[aes_ des chacha20 camellia aria seed salsa20 blowfish twofish gost28147]
  @deriving ~w[hkdf_key_gen]a
  # These make domain parameters, which do nothing and hide nothing.
  @parameters ~w[dsa_parameter_gen dsa_probabilistic_parameter_gen dsa_shawe_taylor_parameter_gen
                 dsa_fips_g_gen dh_pkcs_parameter_gen x9_42_dh_parameter_gen]a

  @doc "The templates of the public and of the private half."
  @spec pair(term, keyword | map) :: {keyword, keyword}
  def pair(mechanism, template) do
    mechanism = Mechanism.name_or_code(mechanism)
    {template, public, private} = halves(template)

    {may_public, may_private} =
      if says_usage?(template ++ public ++ private), do: {[], []}, else: usage(mechanism)

    {
      may_public
      |> over(exponent(mechanism))
      |> over(without(template, @private))
      |> over(public),
      [private: true, sensitive: true, extractable: false]
      |> over(may_private)
      |> over(without(template, @public))
      |> over(private)
    }
  end

  @doc "What is for both halves of a pair, for the public and for the private one only."
  @spec halves(keyword | map) :: {keyword, keyword, keyword}
  def halves(template) do
    {public, template} = template |> pairs!() |> half(:public)
    {private, template} = half(template, :private)
    {template, public, private}
  end

  @doc "The template of a secret key."
  @spec secret(term, keyword | map) :: keyword
  def secret(mechanism, template) do
    mechanism = Mechanism.name_or_code(mechanism)
    template = pairs!(template)

    if mechanism in @parameters do
      template
    else
      may = if says_usage?(template), do: [], else: secret_usage(mechanism)
      [sensitive: true, extractable: false] |> over(may) |> over(template)
    end
  end

  # `private: true` is the attribute, `private: [...]` the template of that half.
  defp half(template, name) do
    case List.keyfind(template, name, 0) do
      {_name, half} when is_proper_list(half) or is_map(half) ->
        {pairs!(half), List.keydelete(template, name, 0)}

      _attribute ->
        {[], template}
    end
  end

  defp usage(mechanism) do
    Enum.find_value(@pairs, @signing, fn {mechanisms, public, private} ->
      mechanism in mechanisms and {public, private}
    end)
  end

  defp exponent(mechanism)
       when mechanism in [:rsa_pkcs_key_pair_gen, :rsa_x9_31_key_pair_gen],
       do: [public_exponent: 65_537]

  defp exponent(_mechanism), do: []

  defp secret_usage(mechanism) when mechanism in @deriving, do: [derive: true]

  defp secret_usage(mechanism) when is_atom(mechanism) do
    if String.starts_with?(Atom.to_string(mechanism), @encrypting),
      do: [encrypt: true, decrypt: true],
      else: [sign: true, verify: true]
  end

  defp secret_usage(_number), do: []

  defp says_usage?(template), do: Enum.any?(template, fn {name, _value} -> name in @usage end)
  defp without(template, names), do: Enum.reject(template, fn {name, _} -> name in names end)

  # What was given wins; twice the same attribute is left for the encoder to refuse.
  defp over(defaults, given),
    do: Enum.reject(defaults, fn {name, _} -> List.keymember?(given, name, 0) end) ++ given

  defp pairs!(template)
       when is_proper_list(template) or (is_map(template) and not is_struct(template)) do
    template = Enum.to_list(template)

    if Enum.all?(template, &match?({_name, _value}, &1)),
      do: template,
      else: raise(ArgumentError, "a template is made of {attribute, value}")
  end

  defp pairs!(_other), do: raise(ArgumentError, "a template is a keyword list or a map")
end
