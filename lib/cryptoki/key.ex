defmodule Cryptoki.Key do
  @moduledoc """
  A key or another object of a token: what `Cryptoki.find_one/2`, `Cryptoki.generate_key/3` and
  the like answer, and what takes the place of a selector in every function.

  A key is a reference, not the key itself: it holds what names the object, and it stays good when
  the token was away and has come back.

    * `class` - `:private_key`, `:public_key`, `:secret_key`, `:certificate`, `:data` ... (PKCS
      #11 v3.2, section 4.2); an integer when it has no name
    * `key_type` - `:rsa`, `:ec`, `:aes` ..., nil when the object is not a key
    * `label`, `id` - as stored, nil when the object has none
    * `unique_id` - the token's own name for the object (PKCS #11 3.0 and newer), or nil
    * `token` - true for an object stored on the token, false for one of a session, which ends with it
      (`:key_not_found` from then on, whatever has its names); nil when the token does not say

  Its other fields are private and may change.
  """

  alias Cryptoki.{Attribute, URI}
  alias Cryptoki.Attribute.Value

  @named [:class, :key_type, :label, :id, :unique_id, :token]

  # What of a key anybody may know and that stays the same for its life.
  @public [:class, :key_type] ++
            [:modulus, :public_exponent, :ec_params, :ec_point] ++
            [:prime, :subprime, :base, :parameter_set, :public_key_info, :check_value]
  # Here CKA_VALUE is public as well.
  @public_value [:public_key, :certificate]

  defstruct @named ++ [:handle, :token_info, :fingerprint]

  @type t :: %__MODULE__{
          class: atom | non_neg_integer | nil,
          key_type: atom | non_neg_integer | nil,
          label: String.t() | nil,
          id: binary | nil,
          unique_id: String.t() | nil,
          token: boolean | nil,
          handle:
            {non_neg_integer, epoch :: non_neg_integer, generation :: non_neg_integer} | nil,
          token_info: map | nil,
          fingerprint: binary | nil
        }

  @doc """
  The key as a PKCS #11 URI (RFC 7512), to be kept in a configuration and given as a selector.

  It names the token by label, manufacturer, model and serial number, and the object by label, id
  and class, empty ones too: nothing that the key has is left out, so that it finds no other object that
  has more names, or fewer. Raises `ArgumentError` where that cannot be: a label that is not UTF-8, a
  class for which the RFC has no type, a token that does not show the label or the id of a key.

      iex> key = %Cryptoki.Key{class: :private_key, label: "invoice", id: <<1>>,
      ...>   token_info: %{label: "payments", manufacturer: "Acme", model: "", serial: "0042"}}
      iex> Cryptoki.Key.to_uri(key)
      "pkcs11:token=payments;manufacturer=Acme;model=;serial=0042;object=invoice;id=%01;type=private"
  """
  @spec to_uri(t) :: String.t()
  def to_uri(%__MODULE__{} = key) do
    case uri(key) do
      {:ok, uri} -> uri
      {:error, sentence} -> raise ArgumentError, sentence
    end
  end

  @doc false
  # The same, or why there is none.
  @spec uri(t) :: {:ok, String.t()} | {:error, String.t()}
  def uri(%__MODULE__{} = key) do
    token = key.token_info || %{}
    texts = [token: token[:label], object: key.label]
    texts = texts ++ Enum.to_list(Map.take(token, [:manufacturer, :model, :serial]))
    type = URI.type(key.class)

    cond do
      wrong =
          Enum.find(texts, fn {_field, text} -> not (is_binary(text) and String.valid?(text)) end) ->
        {:error,
         "no URI names #{inspect(key)} alone: its #{elem(wrong, 0)} is not known, or no UTF-8"}

      type == nil ->
        {:error, "no URI names #{inspect(key)} alone: RFC 7512 has no type for its class"}

      # Data objects have none.
      key.id == nil and type != :data ->
        {:error, "no URI names #{inspect(key)} alone: its id is not known"}

      true ->
        {:ok, to_string(URI.new([id: key.id, type: type] ++ texts))}
    end
  end

  @doc false
  # The attributes to read for `new/2`.
  @spec attributes() :: [atom]
  def attributes, do: @named

  @doc false
  # The attributes to read for `fingerprint/1` of an object of this class.
  @spec fingerprint_attributes(class :: term) :: [atom]
  def fingerprint_attributes(class) when class in @public_value, do: @public ++ [:value]
  def fingerprint_attributes(_class), do: @public

  @doc false
  # From attributes as they were read, `{:error, reason}` among them, and the private fields.
  @spec new(map, handle: term, token_info: map | nil, fingerprint: binary | nil) :: t
  def new(attributes, private \\ []) do
    read =
      for name <- @named,
          value <- [known(attributes[name])],
          value != nil,
          # A token's answer may be no number, and no boolean.
          name not in [:class, :key_type, :token] or not is_binary(value),
          do: {name, value}

    struct!(__MODULE__, read ++ private)
  end

  @doc false
  # The same from the values of `attributes/0` and `fingerprint_attributes/1` in the order of `Attribute.types!/1`, as
  # the token gave them, nil where it gave none: with as little work as it can be, for there may be many.
  @spec read([binary | nil], value :: binary | nil, handle :: term, token_info :: map) :: t
  def read(read, value, handle, token_info) do
    [class, key_type, label, id, unique_id, token | public] = read

    %__MODULE__{
      class: number(:class, class),
      key_type: number(:key_type, key_type),
      label: label,
      id: id,
      unique_id: unique_id,
      token: truth(token),
      handle: handle,
      token_info: token_info,
      fingerprint: if(Enum.any?([value | public]), do: fingerprint(read, value))
    }
  end

  @doc false
  # Whether the value of what has this class is public.
  @spec public_value?(class :: binary | nil) :: boolean
  def public_value?(class), do: number(:class, class) in @public_value

  # A token's answer may be no number, and no boolean.
  defp number(_kind, nil), do: nil

  defp number(kind, bytes) do
    name = Value.decode({:name, kind}, bytes)
    if is_binary(name), do: nil, else: name
  end

  defp truth(<<value>>), do: value != 0
  defp truth(_none), do: nil

  defp fingerprint(read, value) do
    codes = Attribute.types!(@named ++ @public ++ [:value])
    pairs = Enum.zip(codes, read ++ [value])
    fingerprint(Attribute.decode(for {_code, <<_::binary>>} = pair <- pairs, do: pair))
  end

  @doc false
  # Tells in a later epoch whether the object is still the one it was: SHA-256 of what could be
  # read of its public part, nil when that is nothing.
  @spec fingerprint(map) :: binary | nil
  def fingerprint(attributes) do
    names = fingerprint_attributes(attributes[:class]) -- [:class, :key_type]

    case for(name <- names, value = known(attributes[name]), do: {name, value}) do
      [] ->
        nil

      public ->
        :crypto.hash(:sha256, :erlang.term_to_binary({known(attributes[:key_type]), public}))
    end
  end

  defp known({:error, _reason}), do: nil
  defp known(value), do: value

  defimpl Inspect do
    @classes %{
      public_key: "public",
      private_key: "private",
      secret_key: "secret"
    }

    def inspect(key, _opts) do
      words = [
        @classes[key.class] || word(key.class),
        word(key.key_type),
        key.label && Kernel.inspect(key.label),
        key.id && "id=" <> Base.encode16(key.id, case: :lower),
        if(key.token == false, do: "session")
      ]

      "#Cryptoki.Key<#{words |> Enum.reject(&(&1 in [nil, ""])) |> Enum.join(" ")}>"
    end

    defp word(nil), do: nil
    defp word(name) when is_atom(name), do: Atom.to_string(name)
    defp word(number), do: "0x" <> Integer.to_string(number, 16)
  end
end
