defmodule Cryptoki.Import do
  @moduledoc false
  # A private key of a file into a token: made, proven to be that one, and its public half beside it; or
  # nothing. When a later step fails, for whatever reason, what was made before it is destroyed again.

  require Logger

  alias Cryptoki.{
    Attribute,
    Call,
    Error,
    HSM,
    Key,
    KeyTemplate,
    Options,
    Pin,
    PrivateKey,
    PublicHalf,
    Target,
    Type
  }

  alias Cryptoki.Attribute.Curve
  alias Cryptoki.Import.{Made, Proof}
  alias Cryptoki.Native.Wait

  # What the file says of a key, or another kind of key would have said.
  @told ~w[class key_type modulus public_exponent private_exponent prime_1 prime_2 exponent_1 exponent_2
           coefficient curve ec_params ec_point value modulus_bits value_len value_bits prime subprime base
           parameter_set seed public_key_info]a
  @montgomery [:x25519, :x448]

  @spec import_key(Cryptoki.hsm(), binary, Attribute.template(), keyword | map) ::
          {:ok, Key.t()} | {:error, Error.t()}
  def import_key(hsm, file, template, opts) do
    options = Options.call!(opts, [:timeout, :metadata, :password])
    wished = template!(template)

    file = file!(file)

    with {:ok, target} <- HSM.target(hsm, options),
         {:ok, key} <- read(file, options.password),
         {private, _public} = templates = templates(key, wished),
         :ok <- provable(private),
         :ok <- in_time(target) do
      told(target, private)
      create(%{target | timeout: options.timeout || target.timeout}, key, templates)
    end
  end

  defp provable(template) do
    text =
      "that the token has this key cannot be proven, and nothing was made: always_authenticate: true wants " <>
        "its PIN at each use, which is not spent on a proof"

    if Attribute.encode!(always_authenticate: true) -- template == [],
      do: {:error, Error.new(:unsupported, text)},
      else: :ok
  end

  # A password takes as long as the file says.
  defp in_time(target) do
    text = "it was over when the file was read; nothing was made"

    if Wait.remaining(target.deadline) == 0,
      do: {:error, Error.new(:timeout, text, executed: false)},
      else: :ok
  end

  # Two keys of one name are no error, until somebody asks for one of them.
  defp told(target, template) do
    [class | names] = Attribute.types!([:class, :label, :id])
    asked = for {code, value} <- template, code in [class | names], do: {code, value}

    with true <- Enum.any?(asked, fn {code, value} -> code in names and value != "" end),
         {:ok, [_ | _]} <- Call.run(target, {:find, asked, 1}) do
      Logger.warning(
        "cryptoki #{inspect(Target.called(target))}: import_key: there is a private key with the label " <>
          "#{inspect(label(asked))} and the id of this one already; a selector that says no more finds both"
      )
    end
  end

  defp label(asked) do
    [code] = Attribute.types!([:label])
    {_code, label} = List.keyfind(asked, code, 0, {code, ""})
    label
  end

  @doc "The file, if it can be one; raises `ArgumentError`."
  @spec file!(term) :: binary
  def file!(file) when is_binary(file), do: file

  def file!({kind, _bytes}) when kind in [:aes, :hmac, :generic_secret] do
    text =
      "import_key takes the file of a private key; Cryptoki.create/3 makes a secret key of bytes"

    raise ArgumentError, text
  end

  def file!(other) do
    text = "import_key takes the PEM or the DER of a private key, a binary, got: "
    raise ArgumentError, text <> Type.of(other)
  end

  defp read(file, nil), do: PrivateKey.File.read(file)

  defp read(file, pin) do
    Pin.hidden(fn ->
      with {:ok, password} <- Pin.fetch(pin),
           do: PrivateKey.File.read(file, password),
           else: ({:error, error} -> {:error, %{error | detail: "password: #{error.detail}"}})
    end)
  end

  ## Templates

  @typep parts :: {common :: keyword, public :: keyword | nil, private :: keyword}

  @doc "The parts of a template, after all that can be looked at before the file is; raises `ArgumentError`."
  @spec template!(Attribute.template()) :: parts
  def template!(template) do
    {common, public, private} = KeyTemplate.halves(template)

    parts =
      case List.keytake(common, :public, 0) do
        {{:public, false}, common} -> {common, nil, private}
        {{:public, true}, common} -> {common, public, private}
        _none_or_a_mistake -> {common, public, private}
      end

    _ = encoded(:ec, parts)
    parts
  end

  defp templates(key, {common, public, private}) do
    own = [class: :private_key] ++ as_wanted(key, common)
    twin = [class: :public_key] ++ Keyword.put(key.public_attributes, :key_type, own[:key_type])
    parts = {left(common, own), public && left(public, twin), left(private, own)}
    {private, public} = encoded(key.type, parts)
    {Attribute.encode!(own) ++ private, public && for(told <- forms(twin), do: told ++ public)}
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
  defp as_wanted(%{type: type, attributes: attributes}, common) do
    if type in @montgomery and common[:key_type] == :ec_edwards,
      do: Keyword.put(attributes, :key_type, :ec_edwards),
      else: attributes
  end

  defp encoded(type, {common, public, private}) do
    kind = if type in @montgomery, do: :ec_montgomery_key_pair_gen, else: :ec_key_pair_gen
    {twin, own} = KeyTemplate.pair(kind, common ++ [public: public || [], private: private])
    {Attribute.encode!(own), public && Attribute.encode!(twin)}
  end

  # What is left of a template when the file has said its part: values are compared, and never shown.
  defp left(template, told) do
    told = Attribute.encode!(told)
    codes = Attribute.types!(@told)

    Enum.reject(template, fn {name, value} ->
      [{code, value}] = Attribute.encode!([{name, value}])
      code in codes and agrees!(name, value, List.keyfind(told, code, 0))
    end)
  end

  defp agrees!(_name, value, {_code, value}), do: true

  defp agrees!(name, _value, _other_or_none) do
    raise ArgumentError,
          "attribute #{inspect(name)}: the file says what the key is, and not this; leave it out"
  end

  ## Making

  defp create(target, key, {private, public}) do
    with {:ok, made} <- Made.new(target, private),
         {:ok, proof} <- target |> Proof.make(made.handle, key) |> Made.undone(target, made),
         :ok <- target |> twin(public, proof) |> Made.undone(target, made),
         do: {:ok, made.key}
  end

  defp twin(_target, nil, _proof), do: :ok

  defp twin(target, [only], proof) do
    case tried(target, only, proof) do
      {:refused, _made} -> :ok
      {:no, made} -> with :ok <- taken_away(target, made), do: misbehaved()
      ok_or_error -> ok_or_error
    end
  end

  # The form that verifies; the standard's where the token verifies nothing with any.
  defp twin(target, [standard, other], proof) do
    with {first, made} when first != :error <- tried(target, standard, proof),
         :ok <- taken_away(target, made),
         {second, made} when second != :error <- target |> tried(other, proof) |> not_taken(),
         :ok <- taken_away(target, made) do
      if {first, second} == {:refused, :refused},
        do: with({:ok, _made} <- Made.new(target, standard), do: :ok),
        else: misbehaved()
    end
  end

  defp tried(target, form, proof) do
    with {:ok, made} <- Made.new(target, form),
         verdict when verdict in [:no, :refused] <-
           target |> Proof.confirms(made.handle, proof) |> Made.undone(target, made),
         do: {verdict, made}
  end

  defp not_taken({:error, %Error{function: :C_CreateObject} = error}),
    do: if(PublicHalf.Proof.refused?(error), do: {:refused, nil}, else: {:error, error})

  defp not_taken(another), do: another

  defp taken_away(_target, nil), do: :ok

  # As if it had failed, and nothing is left of it.
  defp taken_away(target, made) do
    with {:error, error} = unchanged <- Made.undone(misbehaved(), target, made),
         do: if(error.executed == false, do: :ok, else: unchanged)
  end

  defp misbehaved do
    text = "the token took the public key, and verifies no signature of the private one with it"
    {:error, Error.new(:module_misbehaved, text, executed: false)}
  end
end
