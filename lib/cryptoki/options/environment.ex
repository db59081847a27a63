defmodule Cryptoki.Environment do
  @moduledoc false
  # Variables for C's environment, as a value that shows their names: a value may be a PIN or a token of some service,
  # and supervisors keep and show the options of their children.

  alias Cryptoki.Sealed

  @enforce_keys [:names, :sealed]
  defstruct @enforce_keys

  @type t :: %__MODULE__{names: [String.t()], sealed: binary}

  @doc "Of a map or list of names and values; `:error` for what no environment has."
  @spec cast(term) :: {:ok, t} | :error
  def cast(%__MODULE__{} = environment), do: {:ok, environment}
  def cast(struct) when is_struct(struct), do: :error

  def cast(variables) when is_map(variables) or is_list(variables) do
    pairs = Enum.map(variables, fn {name, value} -> {to_string(name), to_string(value)} end)
    names = Enum.map(pairs, &elem(&1, 0))

    # Sorted: two instances that say the same in another order say the same.
    if Enum.uniq(names) == names and Enum.all?(pairs, &variable?/1),
      do: {:ok, %__MODULE__{names: Enum.sort(names), sealed: Sealed.seal(Enum.sort(pairs))}},
      else: :error
  rescue
    _no_text -> :error
  end

  def cast(_other), do: :error

  @doc "Start options with the names and values, in order, for who opens the library."
  @spec opened(options) :: options when options: map
  def opened(%{env: %__MODULE__{sealed: sealed}} = options),
    do: %{options | env: Sealed.open(sealed)}

  defp variable?({name, value}),
    do:
      name != "" and not String.contains?(name, ["=", <<0>>]) and
        not String.contains?(value, <<0>>)

  defimpl Inspect do
    def inspect(%{names: names}, _opts), do: "#Cryptoki.Environment<#{Enum.join(names, ", ")}>"
  end
end
