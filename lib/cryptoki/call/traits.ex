defmodule Cryptoki.Traits do
  @moduledoc false
  # What operations ask of a key at each use and what never changes, read once: its class and type, whether it
  # wants a login for each use (CKA_ALWAYS_AUTHENTICATE), and the form of its signatures.

  alias Cryptoki.{Attribute, Cache, Error, Key, Keys, SignatureForm, Target}
  alias Cryptoki.Mechanism.KeyType

  @type t :: %{kind: kind, always_authenticate: boolean, form: SignatureForm.t()}
  @typedoc "Class and type, nil for what is not known."
  @type kind :: {class :: term, type :: term}

  @doc "The traits of the key that is wanted."
  @spec fetch(Target.t(), Keys.wanted()) :: {:ok, t} | {:error, Error.t()}
  def fetch(target, wanted),
    do: Keys.once(target, wanted, :traits, &read(target, &1, type(wanted)))

  @doc "Whether a private key wants a login for each use."
  @spec always_authenticate?(Target.t(), Keys.wanted()) :: boolean
  def always_authenticate?(_target, {:key, %Key{class: class}}) when class != :private_key,
    do: false

  # When it cannot be had, the operation itself will say so.
  def always_authenticate?(target, wanted),
    do: match?({:ok, %{always_authenticate: true}}, fetch(target, wanted))

  @doc """
  What class and type the key has, which was found under this handle. Nothing is known where it cannot be
  read: the operation will say so.
  """
  @spec kind(Target.t(), Keys.wanted(), Keys.handle()) :: kind
  def kind(_target, {:key, %Key{class: class, key_type: type}}, _handle)
      when is_atom(type) and type != nil,
      do: {class, type}

  def kind(%Target{cache: cache} = target, _wanted, handle) do
    with :error <- Cache.get(cache, {:traits, handle}),
         :error <- Cache.get(cache, {:kind, handle}),
         {:ok, kind} <- read_kind(target, handle) do
      Cache.put(cache, {:kind, handle}, kind)
      kind
    else
      {:ok, %{kind: kind}} -> kind
      {:ok, kind} -> kind
      {:error, _error} -> {nil, nil}
    end
  end

  defp read_kind(target, handle) do
    with {:ok, read} <- Keys.read(target, handle, [:class, :key_type]),
         do: kind_of(target, handle, read)
  end

  # A type that the token does not say, or that has no name here, shows in what else such a key has.
  defp kind_of(target, handle, read) do
    with {class, nil} when class in [:private_key, :public_key] <- kind(read),
         {:ok, marks} <- Keys.read(target, handle, KeyType.marks()) do
      {:ok, {class, KeyType.marked(marks)}}
    else
      {:error, _error} = error -> error
      known -> {:ok, known}
    end
  end

  defp kind(read), do: {named(read[:class]), named(read[:key_type])}

  defp named(name) when is_atom(name), do: name
  defp named(_other), do: nil

  @doc "The form of its signatures, nil when it is not known."
  @spec form(Target.t(), Keys.wanted()) :: SignatureForm.t()
  def form(target, wanted) do
    case fetch(target, wanted) do
      {:ok, %{form: form}} -> form
      {:error, _error} -> nil
    end
  end

  @doc "The bytes of r and of s in a signature that a public key is to verify; DER drops leading zeros."
  @spec number_size(Target.t(), Keys.wanted()) :: {:ok, pos_integer} | {:error, Error.t()}
  def number_size(target, wanted) do
    with {:ok, %{curve: curve, ec_point: point}} <-
           Keys.attributes(target, wanted, [:curve, :ec_point]),
         :error <- order_size(curve),
         :error <- coordinate_size(point) do
      detail = "format: :der needs the EC_PARAMS of the public key, which cannot be read"
      {:error, Error.new(:unsupported, detail)}
    end
  end

  defp order_size({:error, _reason}), do: :error
  defp order_size(curve), do: Attribute.order_size(curve)

  # On a curve that has no name here: its order is about as long.
  defp coordinate_size(point) when is_binary(point) do
    case Attribute.ec_point(point, nil) do
      {:ok, <<4, both::binary>>} -> {:ok, div(byte_size(both), 2)}
      {:ok, <<form, x::binary>>} when form in [2, 3] -> {:ok, byte_size(x)}
      _no_point -> :error
    end
  end

  defp coordinate_size(_no_point), do: :error

  defp type({:key, %Key{key_type: type}}), do: type
  defp type(_search), do: nil

  # An attribute that is not there makes single reads of all: hence only those that such a key has.
  defp read(target, handle, nil) do
    with {:ok, read} <- Keys.read(target, handle, [:class, :key_type, :always_authenticate]),
         {:ok, more} <- Keys.read(target, handle, SignatureForm.attributes(read.key_type)),
         do: traits(target, handle, Map.merge(read, more))
  end

  defp read(target, handle, type) do
    names = [:always_authenticate | SignatureForm.attributes(type)]

    with {:ok, read} <- Keys.read(target, handle, names),
         do: traits(target, handle, Map.put(read, :key_type, type))
  end

  defp traits(target, handle, read) do
    with {:ok, kind} <- kind_of(target, handle, read) do
      always = read.always_authenticate == true
      {:ok, %{kind: kind, always_authenticate: always, form: SignatureForm.of(read)}}
    end
  end
end
