defmodule Mix.Cryptoki do
  @moduledoc false
  # What the Mix tasks have in common: options, the token and its PIN, input and output, errors.
  #
  # Standard output belongs to the result, which may be bytes for another program: everything said to
  # the person goes to standard error.

  alias Cryptoki.{Error, Listing, Opening, Prompt, URI}

  @no 1
  @usage 2
  @failed 3

  @switches [
    help: :boolean,
    library: :string,
    pin_env: :string,
    allow_pin_value: :boolean,
    timeout: :integer
  ]
  @aliases [h: :help, l: :library]

  @pin_env "CRYPTOKI_PIN"
  @pin_value "everybody on this machine can read a pin-value on a command line: use pin-source, the " <>
               "environment variable #{@pin_env} or the prompt, or say --allow-pin-value"

  # Seconds rather than the milliseconds of a server: a person waits.
  @timeout 60_000

  @doc "The options that all tasks have, for their documentation."
  @spec docs() :: String.t()
  def docs do
    """
    ## Options of all tasks

      * `--library PATH`, `-l PATH`: the vendor's PKCS #11 library, unless the URI has `module-path` or
        `module-name`; without either the environment variable `CRYPTOKI_LIBRARY` names it
      * `--pin-env NAME`: the environment variable that holds the PIN, `CRYPTOKI_PIN` when not given
      * `--timeout SECONDS`: how long the token may take, 60 when not given
      * `--help`, `-h`: this text

    The PIN comes from the URI's `pin-source`, from that environment variable, from the token's own
    keypad, or from the person at the terminal, who is asked without echo. A `pin-value` in the URI is
    refused, since everybody on the machine can read a command line: `--allow-pin-value` takes it.

    ## Exit status

    0: done. 1: no (a signature that is not valid, no object found). 2: the command is wrong. 3: the
    library, the token or the PIN, and standard error says what.
    """
  end

  @doc """
  Runs a task: parses its arguments, gives them to `fun` and ends with the exit status that its answer
  stands for. `:no` is the answer 1.
  """
  @spec run(module, [String.t()], keyword, ([String.t()], keyword -> answer)) :: :ok
        when answer: :ok | {:ok, term} | {:no, String.t()} | {:error, Error.t()}
  def run(task, argv, switches, fun) do
    case OptionParser.parse(argv, strict: switches ++ @switches, aliases: aliases(switches)) do
      {options, arguments, []} ->
        if options[:help], do: help(task), else: finish(task, fn -> fun.(arguments, options) end)

      {_options, _arguments, [{switch, _value} | _]} ->
        usage!(task, "#{switch} is not an option, or its value is missing or wrong")
    end
  end

  defp aliases(switches) do
    own = for {name, _type} <- switches, do: {name |> Atom.to_string() |> String.at(0), name}
    Keyword.merge(for({letter, name} <- own, do: {String.to_atom(letter), name}), @aliases)
  end

  defp help(task) do
    IO.puts("usage: mix #{Mix.Task.task_name(task)} #{task.usage()}\n")
    IO.puts(Mix.Task.moduledoc(task))
  end

  defp finish(task, fun) do
    case fun.() do
      {:error, error} -> stop(@failed, Exception.message(error))
      {:no, sentence} -> stop(@no, sentence)
      _done -> :ok
    end
  rescue
    error in ArgumentError -> usage!(task, Exception.message(error))
    error in Error -> stop(@failed, Exception.message(error))
    # Whoever read our standard output has had enough, as `head` has.
    error in ErlangError -> closed!(error, __STACKTRACE__)
  end

  @spec closed!(Exception.t(), Exception.stacktrace()) :: no_return
  defp closed!(%{original: :terminated}, _stacktrace), do: exit({:shutdown, @failed})
  defp closed!(error, stacktrace), do: reraise(error, stacktrace)

  @doc "Ends the task: it was called in a way that it cannot be."
  @spec usage!(module, String.t()) :: no_return
  def usage!(task, sentence) do
    name = Mix.Task.task_name(task)

    stop(
      @usage,
      "#{sentence}\nusage: mix #{name} #{task.usage()}\n`mix #{name} --help` says more"
    )
  end

  @spec stop(1..3, String.t()) :: no_return
  defp stop(status, sentence) do
    IO.puts(:stderr, sentence)
    exit({:shutdown, status})
  end

  # Compiles what has to be, without a word on standard output, and starts this application alone: not
  # the user's, which may be in production right now. No project is needed where the code is there.
  defp start do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Quiet)
    if Mix.Project.get(), do: Mix.Task.run("app.config")
    Mix.shell(shell)
    :ok = :logger.set_primary_config(:level, :none)
    {:ok, _} = Application.ensure_all_started(:cryptoki)
  end

  ## The token

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

  @doc "All slots of the library, and those whose token fits the URI."
  @spec slots(URI.t(), keyword) :: {:ok, [map], [map]} | {:error, Error.t()}
  def slots(uri, options) do
    options = Keyword.take(options, [:library]) ++ [uri: uri, timeout: timeout(options)]
    start()

    with {:ok, where} <- Opening.where(options),
         {:ok, slots} <- Opening.slots(where),
         do: {:ok, slots, Opening.fitting(slots, where.place)}
  end

  @doc "Runs a function with an instance on the one token that fits the URI, logged in."
  @spec logged_in(URI.t(), keyword, (pid -> answer)) :: answer | {:error, Error.t()}
        when answer: term
  def logged_in(uri, options, fun), do: with_token(uri, options, &pin(&1, uri, options), fun)

  @doc "As `logged_in/3`, for what needs no login."
  @spec public(URI.t(), keyword, (pid -> answer)) :: answer | {:error, Error.t()}
        when answer: term
  def public(uri, options, fun), do: with_token(uri, options, fn _slot -> {:ok, nil} end, fun)

  defp with_token(uri, options, pin, fun) do
    with {:ok, slots, fitting} <- slots(uri, options),
         {:ok, slot} <- one(fitting, slots),
         {:ok, pin} <- pin.(slot),
         # A token that asks for no login gets a PIN that was named all the same, as from pkcs11-tool.
         {own, by_hand} = if(wants_login?(slot), do: {pin, nil}, else: {nil, pin}),
         {:ok, hsm} <- start(slot, own, uri, options) do
      try do
        case Cryptoki.status(hsm) do
          {:ok, %{state: :ready}} -> with :ok <- unlock(hsm, by_hand), do: fun.(hsm)
          {:ok, %{reason: nil}} -> {:error, Error.new(:timeout, "the token has not answered yet")}
          {:ok, %{reason: reason}} -> {:error, reason}
          {:error, error} -> {:error, error}
        end
      after
        Cryptoki.stop(hsm)
      end
    end
  end

  defp wants_login?(slot), do: :login_required in slot.token.flags

  defp unlock(_hsm, nil), do: :ok
  defp unlock(hsm, pin), do: Cryptoki.unlock(hsm, pin)

  defp start(slot, pin, uri, options) do
    {:ok, %{library: library}} = Opening.where(Keyword.take(options, [:library]) ++ [uri: uri])
    timeout = timeout(options)
    place = [token: Opening.token(slot), pin: pin, sessions: 1, timeout: timeout]
    Cryptoki.start_link(library ++ place)
  end

  defp timeout(options), do: if(options[:timeout], do: options[:timeout] * 1000, else: @timeout)

  defp one([slot], _slots), do: {:ok, slot}

  defp one(fitting, slots) do
    many = if fitting == [], do: "no initialised token fits", else: "more than one token fits"
    IO.write(:stderr, Listing.tokens(slots, :infinity))
    {:error, Error.new(:token_absent, "#{many} the URI")}
  end

  # A variable that is named has to be there; the usual one need not.
  defp pin(slot, uri, options) do
    with {:ok, :person} <- Opening.pin(slot, uri) do
      cond do
        name = options[:pin_env] -> {:ok, {:env, name}}
        System.get_env(@pin_env, "") != "" -> {:ok, {:env, @pin_env}}
        true -> ask(slot)
      end
    else
      {:ok, :nowhere} -> {:ok, if(name = options[:pin_env], do: {:env, name})}
      source_or_error -> source_or_error
    end
  end

  defp ask(slot) do
    if warning = Opening.warning(slot), do: IO.puts(:stderr, warning)

    case Prompt.secret("PIN of #{slot.token.label}: ") do
      # Not worth one of the few tries.
      {:ok, ""} -> {:error, Error.new(:pin_unavailable, "nothing was entered")}
      {:ok, pin} -> {:ok, fn -> pin end}
      {:error, error} -> {:error, error}
    end
  end

  ## Names

  @doc "An atom of the command line, for a name of the standard."
  @spec name(String.t()) :: atom
  def name(text), do: text |> String.downcase() |> String.replace("-", "_") |> String.to_atom()

  @doc """
  The mechanism of `--mechanism`, as `name` or `name:argument=value,argument=value`; without it, the
  usual one for keys of this type. Raises `ArgumentError`.
  """
  @spec mechanism!(pid, keyword, keyword) :: Cryptoki.mechanism()
  def mechanism!(hsm, selector, options) do
    case options[:mechanism] && String.split(options[:mechanism], ":", parts: 2) do
      nil -> usual!(Cryptoki.find!(hsm, selector))
      [name] -> name(name)
      [name, arguments] -> {name(name), for(one <- String.split(arguments, ","), do: pair!(one))}
    end
  end

  @usual %{
    rsa: :sha256_rsa_pkcs,
    ec: :ecdsa_sha256,
    ec_edwards: :eddsa,
    ml_dsa: :ml_dsa,
    slh_dsa: :slh_dsa,
    generic_secret: :sha256_hmac,
    aes: :aes_cmac
  }

  defp usual!(keys) do
    case keys |> Enum.map(& &1.key_type) |> Enum.reject(&is_nil/1) |> Enum.uniq() do
      [] -> raise Error.new(:key_not_found)
      [type] when is_map_key(@usual, type) -> @usual[type]
      _others -> raise ArgumentError, "say how to sign with --mechanism"
    end
  end

  defp pair!(text) do
    case String.split(text, "=") do
      [name, value] -> {name(name), value(value, Integer.parse(value))}
      _other -> raise ArgumentError, "--mechanism: #{text} is not argument=value"
    end
  end

  defp value(_text, {number, ""}), do: number
  defp value(text, _no_number), do: name(text)

  @doc "The option of `Cryptoki.sign/5` that `--format` stands for."
  @spec format(keyword) :: keyword
  def format(options), do: if(options[:format], do: [format: name(options[:format])], else: [])

  ## Input and output

  # As long as this it is given to the token at once, which some mechanisms insist on.
  @at_once 1_048_576
  @chunk 65_536

  @doc "What is to be worked on: the file of `--in`, else standard input. `count` gets its bytes."
  @spec input(keyword, :counters.counters_ref()) :: binary | {:stream, Enumerable.t()}
  def input(options, count) do
    device = if path = options[:in], do: open!(path), else: binary(:standard_io)

    case IO.binread(device, @at_once) do
      :eof -> ""
      bytes when byte_size(bytes) < @at_once -> bytes
      bytes -> {:stream, Stream.concat([bytes], IO.binstream(device, @chunk)) |> counted(count)}
    end
  end

  defp open!(path), do: file!(path, File.open(path, [:read, :binary]))

  @doc "A whole file; raises `ArgumentError`."
  @spec read!(Path.t()) :: binary
  def read!(path), do: file!(path, File.read(path))

  defp file!(_path, {:ok, opened_or_read}), do: opened_or_read

  defp file!(path, {:error, reason}),
    do: raise(ArgumentError, "#{path}: #{:file.format_error(reason)}")

  defp counted(chunks, count),
    do: Stream.each(chunks, &:counters.add(count, 1, byte_size(&1)))

  @doc "Writes the result into the file of `--out`, else to standard output, as it is."
  @spec output(binary, keyword) :: :ok
  def output(bytes, options) do
    if path = options[:out],
      do: File.write!(path, bytes),
      else: :standard_io |> binary() |> IO.binwrite(bytes)
  end

  defp binary(device) do
    :ok = :io.setopts(device, encoding: :latin1)
    device
  end

  ## Progress

  @doc "Says on a terminal, after a second, that the work goes on; `fun` may count bytes."
  @spec progress(String.t(), (:counters.counters_ref() -> result)) :: result when result: term
  def progress(what, fun) do
    count = :counters.new(1, [])
    teller = if Prompt.terminal?(), do: spawn_link(fn -> tell(what, count, 1) end)

    try do
      fun.(count)
    after
      if teller, do: silence(teller)
    end
  end

  defp tell(what, count, seconds) do
    receive do
      {:silence, from} ->
        if seconds > 1, do: IO.write(:stderr, "\r\e[K")
        send(from, {:silent, self()})
    after
      1_000 ->
        IO.write(:stderr, "\r#{what}: #{seconds} s#{megabytes(:counters.get(count, 1))}\e[K")
        tell(what, count, seconds + 1)
    end
  end

  defp megabytes(0), do: ""
  defp megabytes(bytes), do: ", #{div(bytes, 1_000_000)} MB"

  defp silence(teller) do
    send(teller, {:silence, self()})

    receive do
      {:silent, ^teller} -> :ok
    end
  end

  @doc false
  # An object that no URI names alone has none.
  @spec print_uri(Cryptoki.Key.t()) :: :ok
  def print_uri(key) do
    case Cryptoki.Key.uri(key) do
      {:ok, uri} -> IO.puts(uri)
      {:error, sentence} -> Mix.shell().error(sentence)
    end
  end
end
