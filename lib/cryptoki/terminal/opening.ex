defmodule Cryptoki.Opening do
  @moduledoc false
  # From what a person types to the options of an instance: which library, which of its tokens, and
  # whether that wants a PIN.

  alias Cryptoki.{Error, Information, URI}

  @typedoc "What was typed as a URI, the token that is meant, and the library as start options."
  @type where :: %{uri: URI.t(), place: URI.t(), library: keyword}

  @doc """
  The library and the place that options name: `uri:` (a PKCS #11 URI), `library:` (a path) and
  `token:` (as an instance takes it). Raises `ArgumentError` for a token that is none, and when no
  library is named anywhere.
  """
  @spec where(keyword) :: {:ok, where} | {:error, Error.t()}
  def where(options) do
    with {:ok, uri} <- uri(options[:uri] || %URI{}),
         {:ok, library} <- library(uri, options[:library]) do
      library = library ++ Keyword.take(options, [:init_args, :locking, :interface, :timeout])
      {:ok, %{uri: uri, place: place(uri, library, options[:token]), library: library}}
    end
  end

  defp place(uri, _library, nil), do: URI.place(uri)
  defp place(_uri, library, token), do: Information.library!([token: token] ++ library).token

  defp uri(%URI{} = uri), do: {:ok, uri}
  defp uri(text), do: URI.parse(text)

  defp library(%URI{module_path: nil, module_name: nil}, nil), do: {:ok, []}
  defp library(%URI{module_path: nil, module_name: nil}, path), do: {:ok, [library: path]}
  defp library(uri, nil), do: with({:ok, path} <- URI.library(uri), do: {:ok, [library: path]})

  defp library(_uri, _path),
    do: {:error, Error.new(:invalid_argument, "the URI and the option both name a library")}

  @doc "All slots of the library."
  @spec slots(where) :: {:ok, [map]} | {:error, Error.t()}
  def slots(%{library: library}), do: Information.slots(library, [])

  @doc "Those with an initialised token that fits the place."
  @spec fitting([map], URI.t()) :: [map]
  def fitting(slots, place) do
    for %{token: %{} = token} = slot <- slots,
        :token_initialized in token.flags,
        URI.matches_slot?(place, slot) and URI.matches_token?(place, token),
        do: slot
  end

  @doc "How an instance finds the token again, wherever it is put."
  @spec token(map) :: keyword
  def token(%{id: id, token: %{label: "", serial: ""}}), do: [slot: id]
  def token(%{token: token}), do: Map.to_list(Map.take(token, [:label, :serial]))

  @doc "Where the PIN comes from: `:nowhere` when the token wants none, `:person` when one must ask."
  @spec pin(map, URI.t()) ::
          {:ok, Cryptoki.Pin.source() | :nowhere | :person} | {:error, Error.t()}
  def pin(%{token: %{flags: flags}}, uri) do
    with {:ok, nil} <- URI.pin(uri) do
      cond do
        :login_required not in flags -> {:ok, :nowhere}
        :protected_authentication_path in flags -> {:ok, :protected_path}
        true -> {:ok, :person}
      end
    end
  end

  @doc "What to tell the person about the tries that are left."
  @spec warning(map) :: String.t() | nil
  def warning(%{token: %{flags: flags}}) do
    cond do
      :user_pin_final_try in flags -> "The token allows one more try: a wrong PIN locks it."
      :user_pin_count_low in flags -> "The last PIN that the token was given was wrong."
      true -> nil
    end
  end
end
