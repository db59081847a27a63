defmodule Cryptoki.Test.FaultyModule do
  @moduledoc false
  # A library that fails on command (native/faulty_module/README.md) in front of a SoftHSM of its own,
  # or of Kryoptic when that is the main token, with tokens of its own: two copies of SoftHSM in one VM
  # that share a token directory undo each other's file locks.

  alias Cryptoki.Test.{MainToken, SoftHSM, Token}

  @root Path.expand("../..", __DIR__)

  defstruct [:library, :control, :journal, :target, :configuration, :init_args, :labels]

  @type t :: %__MODULE__{
          library: Path.t(),
          control: Path.t(),
          journal: Path.t(),
          target: Path.t(),
          configuration: Path.t() | nil,
          init_args: binary | nil,
          labels: [binary]
        }

  @doc """
  A library of its own with the tokens `labels:` (one with the label of SoftHSM.label/0 if not
  said), of the kind `token:` (the main token's if not said). `load:` are the faults at load.
  """
  @spec new(keyword) :: t
  def new(opts \\ []) do
    labels = opts[:labels] || [SoftHSM.label()]
    made(opts[:token] || MainToken.name(), %{named() | labels: labels}, opts)
  end

  @doc "For a setup: one for each test, that fails no more when the test is over."
  @spec own() :: %{module: t}
  def own do
    module = new()
    ExUnit.Callbacks.on_exit(fn -> control(module, "") end)
    %{module: module}
  end

  defp made(:softhsm2, module, opts) do
    configuration = SoftHSM.configuration(module.library <> ".tokens")
    for label <- module.labels, do: SoftHSM.create(label, configuration)
    install(%{module | target: SoftHSM.library_copy(), configuration: configuration}, opts)
  end

  defp made(:kryoptic, module, opts) do
    target = module.library <> "-target.so"
    Token.copy_kryoptic(target)
    name = Path.basename(module.library) <> ".tokens"
    %{init_args: init_args} = Token.kryoptic(target, name, module.labels)
    install(%{module | target: target, init_args: init_args}, opts)
  end

  @doc "One in front of a copy of another library than SoftHSM, whose tokens it knows nothing of."
  @spec in_front_of(Path.t()) :: t
  def in_front_of(library) do
    module = named()
    target = module.library <> "-target.so"
    File.cp!(library, target)
    install(%{module | target: target}, [])
  end

  @doc "Another library in front of the same target: the same tokens, faults of its own."
  @spec beside(t) :: t
  def beside(%__MODULE__{} = module) do
    same = Map.take(module, [:target, :configuration, :init_args, :labels])
    install(Map.merge(named(), same), [])
  end

  defp named do
    name = Path.join(SoftHSM.directory(), "faulty-#{System.unique_integer([:positive])}")
    %__MODULE__{library: name <> ".so", control: name <> ".control", journal: name <> ".journal"}
  end

  defp install(module, opts) do
    File.cp!(build(), module.library)

    File.write!(module.library <> ".env", """
    FAULTY_TARGET=#{module.target}
    FAULTY_CONTROL=#{module.control}
    FAULTY_JOURNAL=#{module.journal}
    FAULTY_LOAD=#{opts[:load]}
    #{if module.configuration, do: "SOFTHSM2_CONF=#{module.configuration}"}
    """)

    module
  end

  @doc "Start options for its first token."
  @spec options(t, keyword) :: keyword
  def options(%__MODULE__{} = module, more \\ []) do
    place = [library: module.library, init_args: module.init_args, label: hd(module.labels)]
    SoftHSM.options(place ++ more)
  end

  @doc "What goes wrong from now on, and nothing else."
  @spec control(t, binary) :: :ok
  def control(%__MODULE__{control: control}, lines) do
    File.write!(control <> ".new", lines <> "\n")
    File.rename!(control <> ".new", control)
  end

  @doc "Lets what hangs go on, with everything else as it is."
  @spec release(t) :: :ok
  def release(%__MODULE__{control: control}), do: File.touch!(control <> ".release")

  @doc "Waits until the journal has `count` lines that match."
  @spec await(t, Regex.t(), pos_integer) :: :ok
  def await(%__MODULE__{} = module, line, count \\ 1) do
    if count(module, line) >= count, do: :ok, else: await(module, line, count)
  end

  @doc "How many lines of the journal match."
  @spec count(t, Regex.t()) :: non_neg_integer
  def count(%__MODULE__{} = module, line),
    do:
      module
      |> journal()
      |> Enum.count(fn {function, event, rv} -> "#{function} #{event} #{rv}" =~ line end)

  @doc """
  The calls so far: `{function, event, return value}`. Hanging and being released are lines of their own.
  """
  @spec journal(t) :: [{binary, binary, binary}]
  def journal(%__MODULE__{journal: journal}) do
    case File.read(journal) do
      {:ok, text} -> entries(text)
      {:error, :enoent} -> []
    end
  end

  # Somebody may be in the middle of writing the last line, or may have been when the first was read.
  defp entries(text) do
    lines = text |> String.split("\n") |> Enum.drop(-1) |> Enum.map(&String.split(&1, " "))
    for [_number, _thread, function, event, rv] <- lines, do: {function, event, rv}
  end

  @doc "The calls while `fun` ran, as journal/1 has them, with its result."
  @spec calls(t, (() -> result)) :: {result, [{binary, binary, binary}]} when result: term
  def calls(%__MODULE__{} = module, fun) do
    before = mark(module)
    result = fun.()
    {result, since(module, before)}
  end

  @doc "How long the journal is, for since/2."
  @spec mark(t) :: non_neg_integer
  def mark(%__MODULE__{journal: journal}) do
    case File.stat(journal) do
      {:ok, %{size: size}} -> size
      {:error, :enoent} -> 0
    end
  end

  @doc "The calls since then, as journal/1 has them."
  @spec since(t, non_neg_integer) :: [{binary, binary, binary}]
  def since(%__MODULE__{} = module, before) do
    # Lines are appended whole, and a journal grows long.
    {:ok, file} = :file.open(module.journal, [:read, :binary, :raw])
    {:ok, text} = :file.pread(file, before, max(mark(module) - before, 1)) |> none()
    :file.close(file)
    entries(text)
  end

  defp none(:eof), do: {:ok, ""}
  defp none(read), do: read

  @doc """
  Builds the library, before the first test begins: one that another program's build keeps waiting would
  have no time left. Cargo knows whether there is anything to do; once a run is enough.
  """
  @spec build() :: Path.t()
  def build do
    case :persistent_term.get(__MODULE__, nil) do
      nil ->
        target = System.get_env("CARGO_TARGET_DIR", Path.join(@root, "_build/native"))
        command = ~w(build --release --locked --quiet -p faulty_module)
        environment = [{"CARGO_TARGET_DIR", target}]
        opts = [cd: @root, env: environment, stderr_to_stdout: true]
        {_output, 0} = System.cmd("cargo", command, opts)
        extension = if match?({:unix, :darwin}, :os.type()), do: "dylib", else: "so"
        library = Path.join(target, "release/libfaulty_module.#{extension}")
        :persistent_term.put(__MODULE__, library)
        library

      library ->
        library
    end
  end
end
