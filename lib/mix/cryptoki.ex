defmodule Mix.Cryptoki do
  @moduledoc false
  # What makes a Mix task one of this family: `use Mix.Cryptoki, usage: "...", switches: [...]`, and a function
  # `task(arguments, options)` that answers `:ok`, `{:ok, value}`, `{:no, sentence}` or `{:error, error}`.
  #
  # Standard output belongs to the result, which may be bytes for another program: everything said to
  # the person goes to standard error.

  alias Cryptoki.{Bytes, Error}
  alias Mix.Cryptoki.{Secrets, Words}

  @no 1
  @usage 2
  @failed 3

  @switches [
              help: :boolean,
              library: :string,
              init_args: :string,
              allow_pin_value: :boolean,
              timeout: :integer
            ] ++ Secrets.switches([:pin])
  @aliases [h: :help, l: :library]

  defmacro __using__(options) do
    quote do
      use Mix.Task

      @doc false
      @spec usage() :: String.t()
      def usage, do: unquote(options[:usage])

      @impl true
      def run(argv), do: Mix.Cryptoki.run(__MODULE__, argv, unquote(options[:switches]), &task/2)
    end
  end

  @doc "The options that all tasks have, for their documentation."
  @spec docs() :: String.t()
  def docs do
    """
    ## Options of all tasks

      * `--library PATH`, `-l PATH`: the vendor's PKCS #11 library, unless the URI has `module-path` or
        `module-name`; without either the environment variable `CRYPTOKI_LIBRARY` names it
      * `--init-args TEXT`: the reserved string of `C_Initialize`, for libraries such as NSS
      * `--pin-file FILE`: the file whose first line is the PIN
      * `--pin-env NAME`: the environment variable that holds the PIN, `CRYPTOKI_PIN` when not given
      * `--timeout SECONDS`: how long the token may take, 60 when not given
      * `--help`, `-h`: this text

    The PIN comes from the URI's `pin-source`, from that file or variable, from the token's own keypad, or
    from the person at the terminal, who is asked without echo. A `pin-value` in the URI is refused, since
    everybody on the machine can read a command line: `--allow-pin-value` takes it.

    ## Exit status

    0: done. 1: the answer is no (a signature that is not valid, nothing that fits). 2: the command is
    wrong, or a file that it names, or standard output, cannot be read or written. 3: the library, the token, the
    key or the PIN, its file too. Standard error says what.
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
        if options[:help],
          do: help(task),
          else: finish(task, fn -> checked(fun, arguments, options) end)

      {_options, _arguments, [{switch, _value} | _]} ->
        usage!(task, "#{switch} is not an option, or its value is missing or wrong")
    end
  end

  # What is wrong with a command is told before anything is touched.
  defp checked(fun, arguments, options) do
    if text = options[:mechanism], do: Words.mechanism!(text)
    fun.(arguments, options)
  end

  # The first option with a letter has it.
  defp aliases(switches) do
    own = for {name, _type} <- switches, do: {name |> Atom.to_string() |> String.at(0), name}
    own = for {letter, name} <- own, do: {String.to_atom(letter), name}
    @aliases ++ (own |> Enum.uniq_by(&elem(&1, 0)) |> Keyword.drop(Keyword.keys(@aliases)))
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
    # Mix would end with 1, which is an answer here.
    error -> broken!(inspect(error.__struct__), __STACKTRACE__)
  catch
    :exit, {:shutdown, status} when is_integer(status) -> exit({:shutdown, status})
    kind, _reason -> broken!("#{kind}", __STACKTRACE__)
  end

  @spec closed!(Exception.t(), Exception.stacktrace()) :: no_return
  defp closed!(%{original: :terminated}, _stacktrace), do: exit({:shutdown, @failed})
  defp closed!(error, stacktrace), do: broken!(inspect(error.__struct__), stacktrace)

  # A message, or the arguments of a function, may hold a PIN: where it happened is said, and not with what.
  @spec broken!(String.t(), Exception.stacktrace()) :: no_return
  defp broken!(what, stacktrace) do
    where = stacktrace |> Enum.map(&Bytes.without_arguments/1) |> Exception.format_stacktrace()
    stop(@failed, "this should not happen, please report it: #{what}\n" <> where)
  end

  @spec usage!(module, String.t()) :: no_return
  defp usage!(task, sentence) do
    name = Mix.Task.task_name(task)

    stop(
      @usage,
      "#{sentence}\nusage: mix #{name} #{task.usage()}\n`mix #{name} --help` says more"
    )
  end

  @doc "Ends the task: the computer, and not the token, is in its way."
  @spec refuse!(String.t()) :: no_return
  def refuse!(sentence), do: stop(@usage, sentence)

  @spec stop(1..3, String.t()) :: no_return
  defp stop(status, sentence) do
    # What fails while the VM is being ended, as by SIGTERM, has no other reason.
    unless match?({:stopping, _}, :init.get_status()), do: IO.puts(:stderr, sentence)
    exit({:shutdown, status})
  end

  @doc """
  Compiles what has to be, without a word on standard output, and starts this application alone: not the
  user's, which may be in production right now. No project is needed where the code is there.
  """
  @spec start() :: :ok
  def start do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Quiet)
    if Mix.Project.get(), do: Mix.Task.run("app.config")
    Mix.shell(shell)
    :ok = :logger.set_primary_config(:level, :none)
    {:ok, _} = Application.ensure_all_started(:cryptoki)
    :ok
  end
end
