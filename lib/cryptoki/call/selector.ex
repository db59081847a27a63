defmodule Cryptoki.Selector do
  @moduledoc false
  # How a key is named: attributes, a PKCS #11 URI, or a `Cryptoki.Key`, brought to one form that
  # key resolution works on.

  import Cryptoki.Names, only: [is_proper_list: 1]

  alias Cryptoki.{Error, Key, Names, Type, URI}

  # The classes a verb looks for when the selector has none; nil for all.
  @classes %{
    sign: [:private_key, :secret_key],
    verify: [:public_key, :secret_key],
    encrypt: [:public_key, :secret_key],
    decrypt: [:private_key, :secret_key],
    digest: [:secret_key],
    secret_key: [:secret_key],
    sign_recover: [:private_key],
    verify_recover: [:public_key],
    wrap: [:public_key, :secret_key],
    unwrap: [:private_key, :secret_key],
    derive: [:private_key, :secret_key],
    encapsulate: [:public_key],
    decapsulate: [:private_key],
    public_key: [:public_key],
    private_key: [:private_key],
    certificate: [:certificate],
    any: nil,
    find: nil
  }

  @example "give attributes such as [label: \"invoice\"], a PKCS #11 URI such as " <>
             "\"pkcs11:object=invoice\", or a Cryptoki.Key"

  @type selector :: Cryptoki.key()
  @typedoc "A PKCS #11 URI, as Elixir has text or as Erlang has."
  @type text :: String.t() | charlist | IO.chardata()
  @type class :: atom | non_neg_integer
  @type template :: [{atom | non_neg_integer, term}]
  @type t :: {:key, Key.t()} | {:search, template, [class] | nil}

  @doc """
  What to look for. The class is never in the template: it is the one class of the list when the
  selector has one, else the list has those that `verb` works with, or is nil for any.
  Only `:find` takes an empty selector.
  """
  @spec normalize!(selector, verb :: atom) :: t
  def normalize!(%Key{} = key, _verb), do: {:key, key}

  def normalize!(selector, verb) do
    attributes = selector |> text() |> attributes!()

    if attributes == [] and verb != :find do
      raise ArgumentError, "an empty selector names no key: #{@example}"
    end

    case List.keytake(attributes, :class, 0) do
      {{:class, class}, template} -> {:search, template, [class]}
      nil -> {:search, attributes, Map.fetch!(@classes, verb)}
    end
  end

  @doc """
  Whether a selector may name an object of this class, for functions that work with no other. A class that
  a programmer wrote raises `ArgumentError`; what a URI or a key says may come from anywhere.
  """
  @spec of_class(selector, class) :: :ok | {:error, Error.t()}
  def of_class(%Key{class: class}, class), do: :ok

  def of_class(%Key{} = key, class),
    do: {:error, Error.new(:key_not_found, "#{inspect(key)} is no #{class}")}

  def of_class(selector, class) do
    with {:search, _template, [other]} <- normalize!(selector, class),
         false <- other in [class, Names.code!(:class, class)] do
      if is_binary(selector) or is_struct(selector),
        do: {:error, Error.new(:key_not_found, "the URI names no #{class}")},
        else: raise(ArgumentError, "class: #{inspect(other)} names no #{class}")
    else
      _of_class_or_of_none -> :ok
    end
  end

  @doc "The library, slot and token that a URI selector asks for, nil when it asks for none."
  @spec place(selector) :: URI.t() | nil
  def place(%URI{} = uri) do
    place = URI.place(uri)
    if place != %URI{}, do: place
  end

  def place("" <> _ = text), do: text |> uri!() |> place()

  def place([first | _] = chardata) when is_integer(first) or is_binary(first) or is_list(first),
    do: chardata |> text() |> place()

  def place(_attributes), do: nil

  # A URI as Erlang has text: no attribute is a character, a binary or a list.
  defp text([first | _] = chardata)
       when is_integer(first) or is_binary(first) or is_list(first) do
    case :unicode.characters_to_binary(chardata) do
      text when is_binary(text) and is_proper_list(chardata) -> text
      _no_text -> no!(chardata)
    end
  rescue
    ArgumentError -> no!(chardata)
  end

  defp text(selector), do: selector

  defp attributes!(%URI{} = uri), do: URI.to_selector(uri)
  defp attributes!("" <> _ = text), do: text |> uri!() |> URI.to_selector()

  defp attributes!(attributes) when is_proper_list(attributes) or is_map(attributes) do
    if is_struct(attributes) or not Enum.all?(attributes, &attribute?/1), do: no!(attributes)
    Enum.to_list(attributes)
  end

  defp attributes!(other), do: no!(other)

  defp attribute?({name, _value}), do: is_atom(name) or (is_integer(name) and name >= 0)
  defp attribute?(_other), do: false

  defp uri!(text) do
    case URI.parse(text) do
      {:ok, uri} -> uri
      {:error, error} -> raise ArgumentError, "#{error.detail}; #{@example}"
    end
  end

  # Only its type: it may be key bytes in the wrong place.
  @spec no!(term) :: no_return
  defp no!(other), do: raise(ArgumentError, "#{Type.of(other)} names no key: #{@example}")
end
