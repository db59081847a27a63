defmodule Cryptoki.Options.FromURI do
  @moduledoc false
  # The start options that stand in a PKCS #11 URI.

  alias Cryptoki.{Pin, URI}

  @doc "The options, with what `uri:` gives in the place of it; `ArgumentError` for what is given twice."
  @spec supply!(map) :: map
  def supply!(%{uri: nil} = options), do: Map.delete(options, :uri)

  def supply!(%{uri: uri} = options) do
    options
    |> Map.delete(:uri)
    |> supply!(:library, library(uri))
    |> supply!(:token, place(uri))
    |> supply!(:pin, pin(uri))
  end

  defp supply!(options, _key, {:ok, nil}), do: options

  defp supply!(options, key, {:ok, value}) do
    if options[key] == nil,
      do: Map.put(options, key, value),
      else: raise(ArgumentError, "uri: and #{key}: both give the #{key}; leave one of them out")
  end

  defp supply!(_options, _key, {:error, sentence}), do: raise(ArgumentError, "uri: #{sentence}")

  defp library(%URI{module_path: nil, module_name: nil}), do: {:ok, nil}

  defp library(uri), do: with({:error, error} <- URI.library(uri), do: {:error, error.detail})

  @doc "The token that a URI names, nil when it names none."
  @spec place(URI.t()) :: {:ok, URI.t() | nil} | {:error, String.t()}
  def place(%URI{vendor: [{name, _value} | _]}),
    do: {:error, "no token can be found by #{name}, which RFC 7512 does not define"}

  def place(uri) do
    place = URI.place(uri)
    {:ok, if(place != %URI{}, do: place)}
  end

  defp pin(uri) do
    case URI.pin(uri) do
      {:ok, source} -> {:ok, if(source != nil, do: Pin.wrap(source))}
      {:error, error} -> {:error, error.detail}
    end
  end
end
