defmodule Cryptoki.Transfer.Attributes do
  @moduledoc false
  # The attributes that travel with a key: its names, what it may do, how it is kept. As JSON: a label is a string,
  # an id hexadecimal, a date as ISO 8601 has it, mechanisms are numbers. Pure.

  alias Cryptoki.{Each, Error, Names}

  @flags ~w[sign verify sign_recover encrypt decrypt wrap unwrap derive decapsulate private sensitive extractable
            wrap_with_trusted always_authenticate modifiable copyable]a
  @of_secret @flags -- ~w[sign_recover decapsulate always_authenticate]a
  @of_private @flags -- ~w[verify encrypt wrap]a
  @others ~w[label id start_date end_date allowed_mechanisms]a
  # What all keys are, and what tokens of before 3.2 have no word for: it is told only where it is otherwise.
  @usual [modifiable: true, copyable: true, decapsulate: false]
  @pairs ~w[rsa ec ec_edwards ec_montgomery ml_dsa ml_kem slh_dsa]a
  @secrets ~w[aes generic_secret des3 hkdf sha_1_hmac sha224_hmac sha256_hmac sha384_hmac sha512_hmac sha3_224_hmac
              sha3_256_hmac sha3_384_hmac sha3_512_hmac]a

  @doc "The types of keys that travel."
  @spec types(:private_key | :secret_key) :: [atom]
  def types(:private_key), do: @pairs
  def types(:secret_key), do: @secrets

  @doc "What is read of a key of this class."
  @spec names(:private_key | :secret_key) :: [atom]
  def names(:private_key), do: @of_private ++ @others
  def names(:secret_key), do: @of_secret ++ @others

  @doc "What is told of that: all but what goes without saying."
  @spec told(keyword) :: keyword
  def told(attributes), do: attributes -- @usual

  # A key that could not be taken away again could not be proven before it stays; templates have mechanisms and
  # attributes that the other token may not know.
  @limits ~w[destroyable wrap_template unwrap_template derive_template encapsulate_template decapsulate_template]a

  @doc "What limits a key and does not travel: to be read of it."
  @spec limits() :: [atom]
  def limits, do: @limits

  @doc "The first of these limits that a key has, in words, of what was read of it: what cannot be read is one."
  @spec limit(map) :: String.t() | nil
  def limit(read) do
    Enum.find_value(@limits, fn name ->
      case read[name] do
        unlimited when unlimited in [nil, true] or unlimited == %{} -> nil
        {:error, :attribute_type_invalid} -> nil
        false -> "#{name}: false"
        _template -> "#{name}:"
      end
    end)
  end

  @doc "For JSON."
  @spec write(keyword) :: map
  def write(attributes), do: Map.new(attributes, fn {name, value} -> {name, one(name, value)} end)

  defp one(:id, id), do: Base.encode16(id)
  defp one(name, %Date{} = date) when name in [:start_date, :end_date], do: Date.to_iso8601(date)

  defp one(:allowed_mechanisms, mechanisms) do
    for mechanism <- mechanisms do
      with name when is_atom(name) <- mechanism,
           {:ok, code} <- Names.code(:mechanism, name),
           do: code
    end
  end

  defp one(_name, value), do: value

  @doc "From JSON."
  @spec read(:private_key | :secret_key, term) :: {:ok, keyword} | {:error, Error.t()}
  def read(class, %{} = members) do
    names = Map.new(names(class), &{Atom.to_string(&1), &1})

    members
    |> Enum.sort()
    |> Each.of(fn {name, value} ->
      with {:ok, known} <- Map.fetch(names, name),
           {:ok, value} <- value(known, value),
           do: {:ok, {known, value}},
           else: (:error -> wrong(name))
    end)
  end

  def read(_class, _other), do: wrong("attributes")

  defp value(name, flag) when name in @flags and is_boolean(flag), do: {:ok, flag}

  defp value(:label, label) when is_binary(label) and byte_size(label) <= 4096,
    do: if(String.valid?(label), do: {:ok, label}, else: :error)

  defp value(:id, text) when is_binary(text) and byte_size(text) <= 4096, do: Base.decode16(text)

  defp value(name, text) when name in [:start_date, :end_date] and is_binary(text) do
    with {:error, _none} <- Date.from_iso8601(text), do: :error
  end

  defp value(:allowed_mechanisms, [_ | _] = codes) when length(codes) <= 1024,
    do:
      if(Enum.all?(codes, &(is_integer(&1) and &1 in 0..0xFFFF_FFFF_FFFF_FFFF)),
        do: {:ok, codes},
        else: :error
      )

  defp value(_name, _other), do: :error

  defp wrong(name) do
    name = if is_binary(name) and byte_size(name) < 60, do: inspect(name), else: "one of them"

    {:error,
     Error.new(
       :invalid_argument,
       "transfer: of its attributes #{name} is none that is known here"
     )}
  end
end
