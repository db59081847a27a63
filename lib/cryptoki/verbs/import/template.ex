defmodule Cryptoki.Import.Template do
  @moduledoc false
  # The templates of what is imported: what the key says itself, and what the caller wants of it. Pure.

  alias Cryptoki.{Attribute, DER, KeyTemplate, PrivateKey, PublicKey, SecretKey}
  alias Cryptoki.Attribute.Curve
  alias Cryptoki.X509.Fields

  # What a file says of a key, or another kind of key would have said.
  @told ~w[class key_type modulus public_exponent private_exponent prime_1 prime_2 exponent_1 exponent_2
           coefficient curve ec_params ec_point value modulus_bits value_len value_bits prime subprime base
           parameter_set seed public_key_info]a
  @montgomery [:x25519, :x448]
  # Whose keys are used as those are; all others sign.
  @pairs %{
    x25519: :ec_montgomery_key_pair_gen,
    x448: :ec_montgomery_key_pair_gen,
    ml_kem: :ml_kem_key_pair_gen
  }

  @typep parts :: {common :: keyword, public :: keyword | nil, private :: keyword}
  @typedoc "What was wanted, checked as far as it can be before the key is known."
  @type t :: %{given: Attribute.template(), parts: parts | nil}
  @typedoc "A template to create with, in each form that tokens take."
  @type forms :: [Attribute.wire()]

  @doc "Looks at all that can be looked at before the key is; raises `ArgumentError`."
  @spec wished!(Attribute.template(), term) :: t
  def wished!(template, {kind, _value}) when is_atom(kind) and kind != :pkcs12 do
    _ = wished_secret(kind, template)
    %{given: template, parts: nil}
  end

  def wished!(template, _other) do
    {common, public, private} = KeyTemplate.halves(template)

    parts =
      case List.keytake(common, :public, 0) do
        {{:public, false}, common} -> {common, nil, private}
        {{:public, true}, common} -> {common, public, private}
        _none_or_a_mistake -> {common, public, private}
      end

    _ = encoded(:ec, parts)
    %{given: template, parts: parts}
  end

  @doc "Those of a private key: of the key itself, and the forms of its public one, if that is wanted."
  @spec pair(PrivateKey.t(), t) :: {Attribute.wire(), forms | nil}
  def pair(key, %{parts: {common, public, private}}) do
    own = [class: :private_key] ++ as_wanted(key, common)
    twin = [class: :public_key] ++ Keyword.put(key.public_attributes, :key_type, own[:key_type])
    parts = {left(common, own), public && left(public, twin), left(private, own)}
    {private, public} = encoded(key.type, parts)
    {Attribute.encode!(own) ++ private, public && for(told <- forms(twin), do: told ++ public)}
  end

  @doc "The forms of a public key that comes alone."
  @spec public(PublicKey.Given.t(), t) :: forms
  def public(key, %{parts: {common, public, _private}}) do
    told = [class: :public_key] ++ as_wanted(key, common)
    {_private, public} = encoded(key.type, {left(common, told), left(public || [], told), []})
    for form <- forms(told), do: form ++ public
  end

  @doc "The forms of the public key beside a private one, with these attributes."
  @spec twin(PrivateKey.t(), keyword) :: forms
  def twin(key, own) do
    told = [class: :public_key] ++ key.public_attributes
    {_private, public} = encoded(key.type, {own, [], []})
    for form <- forms(told), do: form ++ public
  end

  @doc "That of a secret key."
  @spec secret(SecretKey.t(), t) :: Attribute.wire()
  def secret(%SecretKey{type: kind, value: value}, %{given: template}) do
    wished = wished_secret(kind, template)
    {type, wished} = key_type(kind, wished)
    told = [class: :secret_key, key_type: type, value: value]
    Attribute.encode!(told) ++ (wished |> left(told) |> Attribute.encode!())
  end

  @doc "That of a certificate, with what others find it by; raises `ArgumentError` for what it says itself."
  @spec certificate(DER.t(), Fields.t(), Attribute.template()) :: Attribute.wire()
  def certificate(der, fields, wished) do
    kind = [class: :certificate, certificate_type: :x_509]
    names = [subject: fields.subject, issuer: fields.issuer, serial_number: fields.serial]
    told = kind ++ names ++ [value: der] ++ asked(wished, public_key_info: fields.public_key_info)
    Attribute.encode!(told) ++ (wished |> left(told) |> Attribute.encode!())
  end

  # Tokens of before 2.40 do not know it: it is there for who asks for it.
  defp asked(wished, [{name, _value}] = told) do
    [code] = Attribute.types!([name])
    if List.keymember?(Attribute.encode!(wished), code, 0), do: told, else: []
  end

  defp wished_secret(kind, template) do
    mechanism = if kind == :aes, do: :aes_key_gen, else: :generic_secret_key_gen
    wished = KeyTemplate.secret(mechanism, template)

    wished =
      if List.keymember?(wished, :private, 0), do: wished, else: [{:private, true} | wished]

    _ = Attribute.encode!(wished)
    wished
  end

  # There is a type of keys for each HMAC; a generic secret does for all.
  defp key_type(:aes, wished), do: {:aes, wished}

  defp key_type(_kind, wished) do
    case List.keytake(wished, :key_type, 0) do
      {{:key_type, type}, wished} when is_atom(type) -> {hmac!(type), wished}
      _none_or_a_number -> {:generic_secret, wished}
    end
  end

  defp hmac!(type) do
    if type in [:generic_secret, :hkdf] or String.ends_with?(Atom.to_string(type), "_hmac"),
      do: type,
      else: said!(:key_type)
  end

  # Section 6.3.5 wants the point of an Edwards curve as it is, and there are tokens that want it in an
  # OCTET STRING: SoftHSM takes the one as well, and verifies nothing with it then.
  defp forms(twin) do
    wrapped =
      if twin[:key_type] == :ec_edwards,
        do: [Keyword.update!(twin, :ec_point, &Curve.wrap_point/1)],
        else: []

    Enum.map([twin | wrapped], &Attribute.encode!/1)
  end

  # Tokens of before 3.0 with X25519 have one type for all keys of RFC 8410.
  defp as_wanted(%{type: type} = key, common) do
    attributes = Map.get(key, :attributes, key.public_attributes)

    if type in @montgomery and common[:key_type] == :ec_edwards,
      do: Keyword.put(attributes, :key_type, :ec_edwards),
      else: attributes
  end

  defp encoded(type, {common, public, private}) do
    kind = Map.get(@pairs, type, :ec_key_pair_gen)
    {twin, own} = KeyTemplate.pair(kind, common ++ [public: public || [], private: private])
    {Attribute.encode!(own), public && Attribute.encode!(twin)}
  end

  # What is left of a template when the key has said its part: values are compared, and never shown.
  defp left(template, told) do
    told = Attribute.encode!(told)
    codes = Attribute.types!(@told) ++ for {code, _value} <- told, do: code

    Enum.reject(template, fn {name, value} ->
      [{code, value}] = Attribute.encode!([{name, value}])
      code in codes and agrees!(name, value, List.keyfind(told, code, 0))
    end)
  end

  defp agrees!(_name, value, {_code, value}), do: true
  defp agrees!(name, _value, _other_or_none), do: said!(name)

  @spec said!(term) :: no_return
  defp said!(name) do
    raise ArgumentError,
          "attribute #{inspect(name)}: what is imported says what it is, and not this; leave it out"
  end
end
