defmodule Cryptoki.COSE.Header do
  @moduledoc false
  # The headers of COSE (RFC 9052, section 3). Labels are integers or strings; values are as `Cryptoki.CBOR` has them. Pure.

  # alg, crit, content type and kid, which everybody knows.
  @known [1, 2, 3, 4]

  @type t :: %{(integer | String.t()) => term}

  @doc "A header as it is written."
  @spec write(t) :: map
  def write(header), do: Map.new(header, fn {label, value} -> {label(label), value} end)

  defp label(label) when is_binary(label), do: {:text, label}
  defp label(label), do: label

  @doc "What was read as one; `:error` for what is none."
  @spec read(term) :: {:ok, t} | :error
  def read(map) when is_map(map) do
    header = for {label, value} <- map, label?(label), into: %{}, do: {shown(label), value}
    if map_size(header) == map_size(map), do: {:ok, header}, else: :error
  end

  def read(_other), do: :error

  defp label?({:text, _text}), do: true
  defp label?(label), do: is_integer(label)

  defp shown({:text, text}), do: text
  defp shown(label), do: label

  @doc "Whether its `crit`, if it has one, is one: parameters that are in it (section 3.1)."
  @spec critical?(t) :: boolean
  def critical?(%{2 => crit} = header) do
    is_list(crit) and crit != [] and Enum.uniq(crit) == crit and
      Enum.all?(crit, &(label?(&1) and is_map_key(header, shown(&1))))
  end

  def critical?(_header), do: true

  @doc "What in its `crit` is not understood."
  @spec unknown(t, understood :: list) :: list
  def unknown(%{2 => crit}, understood),
    do: Enum.reject(crit, &(shown(&1) in @known or shown(&1) in understood))

  def unknown(_header, _understood), do: []
end
