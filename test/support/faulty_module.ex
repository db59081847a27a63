defmodule Cryptoki.Test.FaultyModule do
  @moduledoc false
  # A library that fails on command, in front of a SoftHSM of its own: native/faulty_module/README.md.

  alias Cryptoki.Test.SoftHSM

  @root Path.expand("../..", __DIR__)

  defstruct [:library, :control, :journal, :target]

  @type t :: %__MODULE__{
          library: Path.t(),
          control: Path.t(),
          journal: Path.t(),
          target: Path.t()
        }

  @doc "A library of its own; `load:` are the faults at load. Tokens made before it is opened are seen."
  @spec new(keyword) :: t
  def new(opts \\ []) do
    name = Path.join(SoftHSM.directory(), "faulty-#{System.unique_integer([:positive])}")

    module = %__MODULE__{
      library: name <> ".so",
      control: name <> ".control",
      journal: name <> ".journal",
      target: SoftHSM.library_copy()
    }

    File.cp!(build(), module.library)

    File.write!(module.library <> ".env", """
    FAULTY_TARGET=#{module.target}
    FAULTY_CONTROL=#{module.control}
    FAULTY_JOURNAL=#{module.journal}
    FAULTY_LOAD=#{opts[:load]}
    """)

    module
  end

  @doc "What goes wrong from now on, and nothing else."
  @spec control(t, binary) :: :ok
  def control(%__MODULE__{control: control}, lines) do
    File.write!(control <> ".new", lines <> "\n")
    File.rename!(control <> ".new", control)
  end

  @doc "Waits until the journal has `count` lines that match."
  @spec await(t, Regex.t(), pos_integer) :: :ok
  def await(%__MODULE__{} = module, line, count \\ 1) do
    if count(module, line) >= count, do: :ok, else: await(module, line, count)
  end

  @doc "How many lines of the journal match."
  @spec count(t, Regex.t()) :: non_neg_integer
  def count(%__MODULE__{journal: journal}, line) do
    case File.read(journal) do
      {:ok, text} -> text |> String.split("\n") |> Enum.count(&(&1 =~ line))
      {:error, :enoent} -> 0
    end
  end

  # Cargo knows whether there is anything to do; once a run is enough.
  defp build do
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
