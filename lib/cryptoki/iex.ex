defmodule Cryptoki.IEx do
  alias Cryptoki.{Error, Instances, Key, Listing, Opening, Prompt, URI}

  @moduledoc """
  Tokens and keys by hand, for `iex`: tables, and a PIN that nobody sees.

      iex> use Cryptoki.IEx
      iex> tokens()
      iex> {:ok, hsm} = open()
      iex> objects(hsm)
      iex> {:ok, key} = key(hsm, label: "invoice")

  `import Cryptoki.IEx` gives the same functions, but `iex` has an `open/1` of its own and calls it
  ambiguous: `use` imports the helpers of `iex` without theirs. Or say `Cryptoki.IEx.open()`.

  The environment variable `CRYPTOKI_LIBRARY` names the library where nothing else does. What these
  functions answer is what the others of `Cryptoki` take: `hsm` is an instance, `key` a
  `Cryptoki.Key`.

  `guides/iex.md` has a whole session.
  """

  # What IEx does not print as a result.
  @shown :"do not show this result in output"

  @typedoc "A library or a token: a PKCS #11 URI, a path, options, or an instance."
  @type place :: String.t() | keyword | Cryptoki.hsm()

  @doc """
  Imports these functions in place of the `open/1` that `iex` has for source files.

      iex> use Cryptoki.IEx
  """
  defmacro __using__(_options) do
    quote do
      import IEx.Helpers, except: [open: 0, open: 1]
      import Cryptoki.IEx
    end
  end

  @doc """
  Prints the tokens of a library, one line for each slot:

      iex> tokens()
      slot        token     model       serial            state
      ----------  --------  ----------  ----------------  ---------------
      1398144867  payments  SoftHSM v2  3b1ba7b35355f763  ready
      1                     SoftHSM v2                    not initialised

  The library is that of `CRYPTOKI_LIBRARY`, or the one given: its path, a PKCS #11 URI (only tokens
  that fit it are shown), or an instance. Nothing is started, no PIN is needed.

      iex> tokens("/usr/lib/softhsm/libsofthsm2.so")
      iex> tokens("pkcs11:token=payments?module-name=softhsm2")
      iex> tokens(MyApp.HSM)

  A state other than `ready` says what is in the way: `no user PIN`, `PIN: one try left`, `PIN locked`.

  Errors: `:library_not_loaded`. PKCS #11 v3.2, sections 5.5.1 to 5.5.3.
  """
  @spec tokens(place) :: term
  def tokens(place \\ []) do
    print(with {:ok, slots} <- slots(place), do: {:ok, Listing.tokens(slots, Listing.width())})
  end

  @doc """
  Starts an instance on a token, and asks for what it is not told: which token, when there are
  several, and the PIN, which is not echoed. An empty line instead of the PIN means no login.

      iex> {:ok, hsm} = open()
      PIN of payments:
      payments in slot 1398144867, logged in, 4 sessions
      {:ok, #PID<0.150.0>}

  Takes a path, a PKCS #11 URI or the options of `Cryptoki.start_link/1`:

      iex> {:ok, hsm} = open("pkcs11:token=payments?pin-source=/run/secrets/pin")
      iex> {:ok, hsm} = open(library: "/usr/lib/softhsm/libsofthsm2.so", sessions: 1, name: :hsm)

  A token that wants no PIN, or has none yet, is not asked for one, nor with `pin: nil`. The name of an
  instance that runs already opens nothing, and answers it.

  The instance is not linked to the shell: a mistake typed later does not end it. `Cryptoki.stop/1`
  does. A PIN that is refused is not tried again, and no instance is left behind.

  Errors: `:token_absent`, `:pin_incorrect`, `:library_not_loaded`. PKCS #11 v3.2, section 5.6.8.
  """
  @spec open(place) :: {:ok, pid} | {:error, Error.t()}
  def open(place \\ [])

  # An instance needs no opening.
  def open(name) when is_atom(name) or is_pid(name) do
    explained(
      with {:ok, %{state: state}} <- Cryptoki.status(name) do
        IO.puts("#{inspect(name)} is running already, and #{state}")
        {:ok, Instances.whereis(name)}
      end
    )
  end

  def open(place) do
    options = options(place)

    explained(
      with {:ok, where} <- Opening.where(options),
           {:ok, slots} <- Opening.slots(where),
           {:ok, slot} <- slots |> Opening.fitting(where.place) |> choose(),
           {:ok, pin} <- pin(options, slot, where.uri),
           do: start(options, where, slot, pin)
    )
  end

  @doc """
  Asks for a PIN, which is not echoed, and unlocks an instance with it, as `Cryptoki.unlock/3` does; also in
  the shell that `bin/my_app remote` gives. An instance that is logged in is asked for none.

      iex> unlock(MyApp.HSM)
      PIN for MyApp.HSM:
      :ok

  `force: true` for a PIN that the token has refused before, and for the last try that it allows.

  Errors: `:pin_incorrect`, `:pin_locked`, `:token_absent`, `:shutdown`; `:pin_unavailable` for an empty line. PKCS
  #11 v3.2, section 5.6.8 (C_Login).
  """
  @spec unlock(Cryptoki.hsm(), force: boolean, timeout: timeout) :: :ok | {:error, Error.t()}
  def unlock(hsm, opts \\ []) do
    explained(with {:ok, status} <- Cryptoki.status(hsm), do: unlock(status.login, hsm, opts))
  end

  defp unlock(:accepted, _hsm, _opts), do: :ok

  defp unlock(_not_yet, hsm, opts) do
    case Prompt.shell_secret("PIN for #{inspect(hsm)}: ") do
      {:ok, ""} -> {:error, Error.new(:pin_unavailable, "none was typed")}
      {:ok, pin} -> Cryptoki.unlock(hsm, fn -> pin end, opts)
      {:error, _error} = error -> error
    end
  end

  @doc """
  Prints the objects of a token, all or those that fit a selector:

      iex> objects(hsm)
      class    type            label     id  for              where
      -------  --------------  --------  --  ---------------  -------
      private  ec secp256r1    invoice   01  sign
      secret   aes 256         archive   03  encrypt decrypt
      secret   generic_secret  scratch       sign verify      session

      iex> objects(hsm, class: :certificate)
      iex> objects(hsm, "pkcs11:object=invoice")

  `for` is what the key may do, and `where` says `session` for what is gone when its session ends.
  Values of keys are never read. `Cryptoki.find/3` gives the same objects to work with.

  Errors: `:token_absent`. PKCS #11 v3.2, sections 5.7.5 and 5.7.7 to 5.7.9.
  """
  @spec objects(Cryptoki.hsm(), Cryptoki.key()) :: term
  def objects(hsm, selector \\ []) do
    print(
      with {:ok, keys} <- Cryptoki.find(hsm, selector),
           do: {:ok, Listing.objects(hsm, keys, Listing.width())}
    )
  end

  @doc """
  Finds one object, prints what may be known of it, its URI last, and answers it:

      iex> {:ok, key} = key(hsm, label: "invoice", class: :private_key)
      class        private
      type         ec secp256r1
      label        invoice
      id           01
      for          sign
      token        true
      sensitive    true
      extractable  false
      pkcs11:token=payments;serial=3b1ba7b35355f763;object=invoice;id=%01;type=private
      {:ok, #Cryptoki.Key<private ec "invoice" id=01>}

  Errors: `:key_not_found`, `:key_ambiguous`. PKCS #11 v3.2, section 5.7.5.
  """
  @spec key(Cryptoki.hsm(), Cryptoki.key()) :: {:ok, Key.t()} | {:error, Error.t()}
  def key(hsm, selector) do
    explained(
      with {:ok, key} <- Cryptoki.find_one(hsm, selector),
           {:ok, text} <- Listing.object(hsm, key, Listing.width()) do
        IO.write(text)
        {:ok, key}
      end
    )
  end

  defp print({:ok, text}) do
    IO.write(text)
    @shown
  end

  defp print(error), do: explained(error)

  # The sentence, for the person; the error, for what they do with it.
  defp explained({:error, %Error{} = error} = answer) do
    IO.puts(Exception.message(error))
    answer
  end

  defp explained(answer), do: answer

  ## Which token

  defp slots(place) when is_binary(place) or is_list(place) do
    with {:ok, where} <- Opening.where(options(place)),
         {:ok, slots} <- Opening.slots(where) do
      {:ok, if(where.place == %URI{}, do: slots, else: Opening.fitting(slots, where.place))}
    end
  end

  defp slots(hsm), do: Cryptoki.slots(hsm)

  defp options("pkcs11:" <> _ = uri), do: [uri: uri]
  defp options(path) when is_binary(path), do: [library: path]
  defp options(options) when is_list(options), do: options

  defp choose([slot]), do: {:ok, slot}

  defp choose([]),
    do: {:error, Error.new(:token_absent, "no initialised token fits; tokens() shows all")}

  defp choose(slots) do
    IO.write(Listing.tokens(slots, Listing.width()))

    with {:ok, answer} <- Prompt.ask("Which token (its label or slot)? ") do
      case Enum.filter(slots, &(answer in ["#{&1.id}", &1.token.label])) do
        [slot] -> {:ok, slot}
        _none_or_several -> {:error, Error.new(:token_absent, "not exactly one is #{answer}")}
      end
    end
  end

  # `pin: nil` is no login, and not a PIN that is missing.
  defp pin(options, slot, uri) do
    if Keyword.fetch(options, :pin) == {:ok, nil},
      do: {:ok, nil},
      else: Opening.pin(slot, uri, %{given: options[:pin], usual: nil, ask: &ask/1})
  end

  defp ask(slot) do
    if warning = Opening.warning(slot), do: IO.puts(warning)

    case Prompt.shell_secret("PIN of #{slot.token.label}: ") do
      {:ok, ""} -> {:ok, nil}
      {:ok, pin} -> {:ok, fn -> pin end}
      {:error, _error} = error -> error
    end
  end

  ## The instance

  defp start(options, where, slot, pin) do
    options = Keyword.merge(Keyword.drop(options, [:uri, :token, :pin]), where.library)

    with {:ok, hsm, %{token: token, sessions: sessions}} <- Opening.start(slot, pin, options) do
      count = if sessions.open == 1, do: "1 session", else: "#{sessions.open} sessions"
      IO.puts("#{token.label} in slot #{token.slot}, #{login(slot, pin)}, #{count}")
      {:ok, hsm}
    end
  end

  defp login(_slot, pin) when pin != nil, do: "logged in"

  defp login(%{token: %{flags: flags}}, nil) do
    cond do
      :login_required not in flags -> "no login is wanted"
      :user_pin_initialized not in flags -> "no login: it has no user PIN yet"
      true -> "no login"
    end
  end
end
