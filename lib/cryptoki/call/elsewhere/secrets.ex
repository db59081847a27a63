defmodule Cryptoki.Elsewhere.Secrets do
  @moduledoc false
  # What does not travel to another node: PINs and passwords among the options, and those in a URI that names a key.

  alias Cryptoki.{Error, URI}

  @options [:pin, :password]
  # A longer list of characters is data, which is not looked through.
  @longest 4096

  @doc "An error for the arguments of a verb that have one."
  @spec none(node, [term]) :: :ok | {:error, Error.t()}
  def none(node, [_hsm | arguments]) do
    case option(List.last(arguments)) || Enum.find_value(arguments, &in_uri/1) do
      nil -> :ok
      name -> {:error, Error.new(:unsupported, said(name, node))}
    end
  end

  defp said(name, node) do
    "#{name} is not sent to #{node}: a secret stays on its node; let the instance there have its PIN, or make " <>
      "the call there"
  end

  defp option(%_struct{}), do: nil
  defp option(options) when is_map(options), do: options |> Map.to_list() |> option()

  defp option(options) do
    if Keyword.keyword?(options) do
      Enum.find_value(options, fn {name, value} ->
        if name in @options and value != nil, do: "#{name}:", else: in_uri(value)
      end)
    end
  end

  # Selectors stand among the arguments of a verb, in those of a mechanism, and with a mechanism in an option.
  defp in_uri({name, arguments}) when is_atom(name) and is_map(arguments),
    do: in_uri({name, Map.to_list(arguments)})

  defp in_uri({name, arguments}) when is_atom(name) and is_list(arguments) do
    if Keyword.keyword?(arguments), do: Enum.find_value(arguments, &in_uri(elem(&1, 1)))
  end

  defp in_uri({key, mechanism}), do: in_uri(key) || in_uri(mechanism)
  defp in_uri({key, mechanism, _signature}), do: in_uri(key) || in_uri(mechanism)
  defp in_uri(%URI{} = uri), do: named(uri)

  defp in_uri(<<scheme::binary-size(7), _rest::binary>> = text) do
    if String.downcase(scheme) == "pkcs11:", do: written(text)
  end

  # As Erlang has text.
  defp in_uri([first | _] = chars) when is_integer(first) or is_binary(first) or is_list(first) do
    if IO.iodata_length(chars) <= @longest, do: chars |> IO.chardata_to_string() |> in_uri()
  rescue
    _no_text -> nil
  end

  defp in_uri(_other), do: nil

  # What cannot be read is refused later; until then nobody knows what is a PIN in it.
  defp written(text) do
    case URI.parse(text) do
      {:ok, uri} -> named(uri)
      {:error, _error} -> if text =~ ~r/pin-value/i, do: "pin-value"
    end
  end

  # Drafts of the RFC had `x-pin-value`.
  defp named(%URI{pin_value: nil, vendor_query: others}),
    do: Enum.find_value(others, fn {name, _value} -> if name =~ ~r/pin/i, do: name end)

  defp named(%URI{}), do: "pin-value"
end
