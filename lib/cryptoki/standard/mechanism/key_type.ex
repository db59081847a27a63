# The types of keys that mechanisms work with (PKCS #11 v3.2, chapter 6), from their names.
defmodule Cryptoki.Mechanism.KeyType do
  @moduledoc false

  alias Cryptoki.Names

  # Some libraries keep Edwards and Montgomery keys as CKK_EC.
  @curves [:ec, :ec_edwards, :ec_montgomery]

  @asymmetric [
    {~r/^(hash_)?ml_dsa/, [:ml_dsa]},
    {~r/^(hash_)?slh_dsa/, [:slh_dsa]},
    {~r/^ml_kem/, [:ml_kem]},
    {~r/^hss/, [:hss]},
    {~r/^xmssmt/, [:xmssmt]},
    {~r/^xmss/, [:xmss]},
    {~r/^rsa_|_rsa_/, [:rsa]},
    {~r/^ecdsa/, [:ec]},
    {~r/^eddsa/, [:ec_edwards, :ec]},
    {~r/^xeddsa/, [:ec_montgomery, :ec]},
    {~r/^ecdh|^ecmqv/, @curves},
    {~r/^dsa/, [:dsa]},
    {~r/^dh_pkcs/, [:dh]},
    {~r/^x9_42/, [:x9_42_dh]},
    {~r/^kea/, [:kea]},
    {~r/^gostr3410/, [:gostr3410]}
  ]
  @pairs @asymmetric |> Enum.flat_map(&elem(&1, 1)) |> Enum.uniq()

  # They work with secrets, of which libraries take one type for another.
  @secret [
    ~r/^(aes|aria|baton|blowfish|camellia|cast|cast3|cast128|cdmf|chacha20|des|des3|gost28147|idea)(_|$)/,
    ~r/^(juniper|poly1305|rc2|rc4|rc5|salsa20|seed|twofish)(_|$)/,
    ~r/_hmac(_general)?$/
  ]

  types = fn name ->
    text = Atom.to_string(name)

    case Enum.find(@asymmetric, fn {names, _types} -> text =~ names end) do
      {_names, types} -> types
      nil -> if Enum.any?(@secret, &(text =~ &1)), do: :secret
    end
  end

  @types for {name, code} <- Names.all(:mechanism),
             wanted = types.(name),
             into: %{},
             do: {code, wanted}

  @doc "Whether a mechanism works with keys of this type, as far as the standard has both of them."
  @spec fits?(non_neg_integer, term) :: boolean
  def fits?(mechanism, type) when is_atom(type) and type != nil do
    case @types do
      %{^mechanism => :secret} -> type not in @pairs
      %{^mechanism => types} -> type in types
      _no_rule -> true
    end
  end

  def fits?(_mechanism, _unknown), do: true

  @doc "Whether it works with keys of this class, whatever their type is: secret ones, or those of a pair."
  @spec of_class?(non_neg_integer, term) :: boolean
  def of_class?(mechanism, class) do
    case @types do
      %{^mechanism => :secret} -> class not in [:private_key, :public_key]
      %{^mechanism => _types} -> class != :secret_key
      _no_rule -> true
    end
  end

  @doc "The attributes by which a key of a pair shows its type where the token does not say it."
  @spec marks() :: [atom]
  def marks, do: [:modulus, :curve]

  @doc "The type that they show, nil when they do not."
  @spec marked(map) :: atom
  def marked(%{modulus: <<_, _::binary>>}), do: :rsa
  def marked(%{curve: curve}) when curve in [:ed25519, :ed448], do: :ec_edwards
  def marked(%{curve: curve}) when curve in [:x25519, :x448], do: :ec_montgomery
  def marked(%{curve: curve}) when is_atom(curve) and curve != nil, do: :ec
  def marked(_shown), do: nil
end
