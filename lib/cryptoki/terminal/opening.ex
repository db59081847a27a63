defmodule Cryptoki.Opening do
  @moduledoc false
  # From what a person types to an instance that is ready: which library, which of its tokens, whether that
  # wants a PIN, and the login.

  alias Cryptoki.{Error, Information, Options, Pin, URI}

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
      library =
        library ++ Keyword.take(options, [:init_args, :env, :locking, :interface, :timeout])

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

  @doc "Runs a function while the library is initialised, so that it stays what it is between two questions."
  @spec held(where, (() -> result)) :: result | {:error, Error.t()} when result: term
  def held(%{library: library}, fun) do
    library
    |> Information.library!()
    |> Information.with_library(fn _library, _deadline -> fun.() end)
  end

  @doc "Those with an initialised token that fits the place."
  @spec fitting([map], URI.t()) :: [map]
  def fitting(slots, place) do
    for %{token: %{} = token} = slot <- slots,
        :token_initialized in token.flags,
        Options.matches_token?(place, slot),
        do: slot
  end

  @doc "How an instance finds the token again, wherever it is put."
  @spec token(map) :: keyword
  def token(%{id: id, token: %{label: "", serial: ""}}), do: [slot: id]
  def token(%{token: token}), do: Map.to_list(Map.take(token, [:label, :serial]))

  @typedoc """
  What was said of the PIN: `given` stands before all else, `usual` is what there is where one is wanted, and
  `ask` asks the person for the PIN of a slot's token.
  """
  @type ways :: %{
          given: Pin.source(),
          usual: Pin.source(),
          ask: (map -> {:ok, Pin.source()} | {:error, Error.t()})
        }

  @doc "Where the PIN comes from; nil is no login: a token that wants none, or has none yet, is not asked for."
  @spec pin(map, URI.t(), ways) :: {:ok, Pin.source()} | {:error, Error.t()}
  def pin(slot, uri, ways) do
    case {ways.given, URI.pin(uri)} do
      {_given, {:error, error}} ->
        {:error, error}

      {nil, {:ok, nil}} ->
        pin(slot, ways)

      {given, {:ok, nil}} ->
        {:ok, given}

      {nil, {:ok, source}} ->
        {:ok, source}

      _both ->
        raise ArgumentError, "the URI and an option both give the PIN; leave one of them out"
    end
  end

  defp pin(%{token: %{flags: flags}} = slot, ways) do
    cond do
      :login_required not in flags -> {:ok, nil}
      :protected_authentication_path in flags -> {:ok, :protected_path}
      ways.usual != nil -> {:ok, ways.usual}
      :user_pin_initialized not in flags -> {:ok, nil}
      :user_pin_locked in flags -> {:error, Error.new(:pin_locked)}
      true -> ways.ask.(slot)
    end
  end

  @doc "An instance on the token of a slot, ready; what has not become ready is stopped again."
  @spec start(map, Pin.source(), keyword) ::
          {:ok, pid, Cryptoki.status()} | {:error, Error.t() | term}
  def start(slot, pin, options) do
    # A token that asks for no login gets a PIN that was named all the same, as from pkcs11-tool.
    {own, by_hand} = if :login_required in slot.token.flags, do: {pin, nil}, else: {nil, pin}

    with {:ok, hsm} <- Cryptoki.start_link(options ++ [token: token(slot), pin: own]) do
      Process.unlink(hsm)

      with {:ok, status} <- ready(hsm), :ok <- unlock(hsm, by_hand) do
        {:ok, hsm, status}
      else
        {:error, error} ->
          Cryptoki.stop(hsm)
          {:error, error}
      end
    end
  end

  defp ready(hsm) do
    case Cryptoki.status(hsm) do
      {:ok, %{state: :ready} = status} -> {:ok, status}
      {:ok, %{reason: nil}} -> {:error, Error.new(:timeout, "the token has not answered yet")}
      {:ok, %{reason: reason}} -> {:error, reason}
      {:error, error} -> {:error, error}
    end
  end

  defp unlock(_hsm, nil), do: :ok
  defp unlock(hsm, pin), do: Cryptoki.unlock(hsm, pin)

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
