defmodule Mix.Cryptoki.Place do
  @moduledoc false
  # From the URI of a command line to a token that is ready to work.

  alias Cryptoki.{Error, Key, Listing, Opening, Prompt, URI}
  alias Mix.Cryptoki.{Files, Secrets}

  # Seconds rather than the milliseconds of a server: a person waits.
  @timeout 60_000

  @pin_value "everybody on this machine can read a pin-value on a command line: use pin-source, the " <>
               "environment variable CRYPTOKI_PIN or the prompt, or say --allow-pin-value"

  @doc "The URI among the arguments; without one all tokens fit. Raises `ArgumentError`."
  @spec uri!([String.t()], keyword) :: URI.t()
  def uri!([], _options), do: %URI{}

  def uri!([text], options) do
    case URI.parse(text) do
      {:ok, %URI{pin_value: nil} = uri} -> uri
      {:ok, uri} -> if options[:allow_pin_value], do: uri, else: raise(ArgumentError, @pin_value)
      {:error, error} -> raise ArgumentError, error.detail
    end
  end

  def uri!(_several, _options), do: raise(ArgumentError, "there are too many arguments")

  @doc "The URI of a key, and its object as a selector. Raises `ArgumentError`."
  @spec key!([String.t()], keyword) :: {URI.t(), keyword}
  def key!(arguments, options) do
    uri = uri!(arguments, options)

    case URI.to_selector(uri) do
      selector when uri.object != nil or uri.id != nil -> {uri, selector}
      _no_key -> raise ArgumentError, "name a key by a PKCS #11 URI with object= or id="
    end
  end

  @doc "The key that an option names by a URI, on the token that `uri` says. Raises `ArgumentError`."
  @spec other_key!(keyword, atom, URI.t()) :: keyword
  def other_key!(options, option, uri) do
    text = options[option] || raise ArgumentError, "--#{option} is missing"
    {other, selector} = key!([text], options)

    unless URI.place(other) in [%URI{}, URI.place(uri)] and other.pin_source == nil and
             other.pin_value == nil do
      raise ArgumentError,
            "--#{option} names an object of the same token: leave the rest to the first URI"
    end

    selector
  end

  ## Slots

  @doc "All slots of the library, and those whose token fits the URI."
  @spec slots(URI.t(), keyword) :: {:ok, [map], [map]} | {:error, Error.t()}
  def slots(uri, options) do
    with {:ok, where} <- where(uri, options),
         {:ok, slots} <- Opening.slots(where),
         do: {:ok, slots, Opening.fitting(slots, where.place)}
  end

  @doc "The library and the place that the command names."
  @spec where(URI.t(), keyword) :: {:ok, Opening.where()} | {:error, Error.t()}
  def where(uri, options) do
    Mix.Cryptoki.start()

    Opening.where(
      Keyword.take(options, [:library, :init_args]) ++ [uri: uri, timeout: timeout(options)]
    )
  end

  # Milliseconds.
  defp timeout(options), do: if(options[:timeout], do: options[:timeout] * 1000, else: @timeout)

  @doc "The one slot of those; else all are shown."
  @spec one([map], [map]) :: {:ok, map} | {:error, Error.t()}
  def one([slot], _slots), do: {:ok, slot}

  def one(fitting, slots) do
    many = if fitting == [], do: "no initialised token fits", else: "more than one token fits"
    IO.write(:stderr, Listing.tokens(slots, :infinity))
    {:error, Error.new(:token_absent, "#{many} the URI")}
  end

  ## The token

  @doc "The URI of a token."
  @spec token_uri(map) :: String.t()
  def token_uri(token) do
    fields = for field <- [:manufacturer, :model, :serial], do: {field, token[field]}
    to_string(URI.new([token: token.label] ++ fields))
  end

  @doc "Runs a function with an instance on the one token that fits the URI: logged in, unless `--public` says not to."
  @spec run(URI.t(), keyword, (pid -> answer)) :: answer | {:error, Error.t()} when answer: term
  def run(uri, options, fun) do
    if options[:public], do: public(uri, options, fun), else: logged_in(uri, options, fun)
  end

  @doc "The same, logged in."
  @spec logged_in(URI.t(), keyword, (pid -> answer)) :: answer | {:error, Error.t()}
        when answer: term
  def logged_in(uri, options, fun) do
    ways = ways(options)
    with_token(uri, options, &Opening.pin(&1, uri, ways), fun)
  end

  @doc "The same, for what needs no login."
  @spec public(URI.t(), keyword, (pid -> answer)) :: answer | {:error, Error.t()}
        when answer: term
  def public(uri, options, fun), do: with_token(uri, options, fn _slot -> {:ok, nil} end, fun)

  defp with_token(uri, options, pin, fun) do
    with {:ok, slots, fitting} <- slots(uri, options),
         {:ok, slot} <- one(fitting, slots),
         {:ok, pin} <- pin.(slot),
         {:ok, %{library: library}} <- where(uri, options),
         {:ok, hsm, _status} <-
           Opening.start(slot, pin, [sessions: options[:sessions] || 1] ++ library) do
      try do
        fun.(hsm)
      after
        Cryptoki.stop(hsm)
      end
    end
  end

  @doc "Where the PIN of the user may come from."
  @spec ways(keyword) :: Opening.ways()
  def ways(options),
    do: %{given: Secrets.named(:pin, options), usual: Secrets.usual(:pin), ask: &ask/1}

  defp ask(slot) do
    if warning = Opening.warning(slot), do: IO.puts(:stderr, warning)
    Secrets.ask("PIN of #{slot.token.label}")
  end

  ## Objects

  @keys [:private_key, :public_key, :secret_key]

  @doc "The error of a name that is in use, for what would make a second object of it; `classes` are those that count."
  @spec free(pid, keyword, [atom]) :: :ok | {:error, Error.t()}
  def free(hsm, named, classes \\ @keys) do
    with {:ok, found} <- Cryptoki.find(hsm, named) do
      case Enum.filter(found, &(&1.class in classes)) do
        [] ->
          :ok

        [one | _] ->
          {:error, Error.new(:invalid_argument, "the token has #{inspect(one)} already")}
      end
    end
  end

  @doc "Has the person say yes to what cannot be undone, or the command by `--yes`."
  @spec confirm!(String.t(), keyword) :: :ok
  def confirm!(question, options) do
    cond do
      options[:yes] ->
        :ok

      not Prompt.terminal?() ->
        Mix.Cryptoki.refuse!("#{question} Nobody is there to be asked: say --yes")

      Prompt.confirmed?(question) ->
        :ok

      true ->
        Mix.Cryptoki.refuse!("nothing has been done")
    end
  end

  @doc "The same, where a token would lose all that is on it."
  @spec confirm_destruction!(map, keyword) :: :ok
  def confirm_destruction!(%{token: token}, options) do
    if :token_initialized in token.flags do
      confirm!("Destroy everything on the token #{inspect(token.label)} for ever?", options)
    else
      :ok
    end
  end

  @doc "Writes the URI of an object that has one: an object that no URI names alone has none."
  @spec print_uri(Key.t()) :: :ok
  def print_uri(key) do
    case Key.uri(key) do
      {:ok, uri} -> Files.text([uri, "\n"])
      {:error, sentence} -> IO.puts(:stderr, sentence)
    end
  end
end
