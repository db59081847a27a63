defmodule Mix.Cryptoki.Secrets do
  @moduledoc false
  # Where PINs and passwords come from: a file or a variable that an option names, the usual variable, the
  # person at the terminal. Never an argument: everybody on the machine can read those.

  alias Cryptoki.{Error, Pin, Prompt}

  @usual %{
    pin: "CRYPTOKI_PIN",
    new_pin: "CRYPTOKI_NEW_PIN",
    so_pin: "CRYPTOKI_SO_PIN",
    password: "CRYPTOKI_PASSWORD"
  }

  @type kind :: :pin | :new_pin | :so_pin | :password
  @type answer :: {:ok, Pin.source()} | {:error, Error.t()}

  @doc "The options that name a secret, for `OptionParser`."
  @spec switches([kind]) :: keyword
  def switches(kinds),
    do: Enum.flat_map(kinds, &[{option(&1, "env"), :string}, {option(&1, "file"), :string}])

  defp option(kind, way), do: :"#{kind}_#{way}"

  @doc "The same for people; `what` is the secret."
  @spec docs(kind, String.t()) :: String.t()
  def docs(kind, what) do
    name = kind |> Atom.to_string() |> String.replace("_", "-")

    "`--#{name}-file FILE`, `--#{name}-env NAME`: the file whose first line is #{what}, or the " <>
      "environment variable that holds it, `#{@usual[kind]}` when not given; else it is asked for"
  end

  @doc "What the options name; a variable that is named has to be there. Raises `ArgumentError` for both."
  @spec named(kind, keyword) :: Pin.source()
  def named(kind, options) do
    case {options[option(kind, "file")], options[option(kind, "env")]} do
      {nil, nil} ->
        nil

      {file, nil} ->
        {:file, file}

      {nil, name} ->
        {:env, name}

      _both ->
        raise ArgumentError,
              "a file and a variable are both named for one secret; leave one of them out"
    end
  end

  @doc "The usual variable, if it holds anything."
  @spec usual(kind) :: Pin.source()
  def usual(kind), do: if(System.get_env(@usual[kind], "") != "", do: {:env, @usual[kind]})

  @doc "From wherever it is to be had, the person last."
  @spec fetch(kind, keyword, String.t()) :: answer
  def fetch(kind, options, question), do: given(kind, options) || ask(question)

  @doc "The same for one that is new: a person types it twice."
  @spec choose(kind, keyword, String.t()) :: answer
  def choose(kind, options, question), do: given(kind, options) || ask_twice(question)

  defp given(kind, options),
    do: if(source = named(kind, options) || usual(kind), do: {:ok, source})

  @spec ask(String.t()) :: answer
  def ask(question) do
    case Prompt.secret(question <> ": ") do
      # Not worth one of the few tries.
      {:ok, ""} -> unavailable("nothing was entered")
      {:ok, secret} -> {:ok, fn -> secret end}
      {:error, error} -> {:error, error}
    end
  end

  defp ask_twice(question) do
    with {:ok, first} <- ask(question), {:ok, second} <- ask(question <> ", again") do
      if first.() == second.(),
        do: {:ok, first},
        else: unavailable("it was not the same twice; nothing has been changed")
    end
  end

  defp unavailable(why), do: {:error, Error.new(:pin_unavailable, why)}
end
