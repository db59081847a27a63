defmodule Cryptoki.Test.MixTasks do
  @moduledoc false
  # The Mix tasks as programs, in a directory without a project, where nothing has to be compiled; a project
  # that depends on this one is in consumers_test.exs.

  alias Cryptoki.Test.{MainToken, Scratch, SoftHSM}

  @type context :: %{
          directory: Path.t(),
          environment: [{String.t(), String.t() | nil}],
          library: Path.t()
        }

  @doc "A directory with tokens of these labels, and the environment in which the tasks find them and their PIN."
  @spec new([String.t()]) :: context
  def new(labels) do
    directory = Scratch.directory("mix-tasks")

    # Its last name is that of Kryoptic's copy, which nobody may write over.
    {library, token} = MainToken.outside(Path.join(directory, Path.basename(directory)), labels)
    context(directory, library, token)
  end

  @doc "The same on SoftHSM, whatever the main token is."
  @spec softhsm([String.t()]) :: context
  def softhsm(labels) do
    directory = Scratch.directory("mix-tasks")
    configuration = SoftHSM.configuration(Path.join(directory, "tokens"))
    for label <- labels, do: SoftHSM.create(label, configuration)
    context(directory, SoftHSM.library(), [{"SOFTHSM2_CONF", configuration}])
  end

  defp context(directory, library, token) do
    environment =
      token ++
        [
          {"CRYPTOKI_LIBRARY", library},
          {"CRYPTOKI_PIN", SoftHSM.pin()},
          {"MIX_ENV", "test"}
        ]

    %{directory: directory, environment: environment, library: library}
  end

  @doc "Standard output, exit status and standard error of `mix cryptoki.TASK ARGUMENTS`, with nothing to read."
  @spec mix(context, [String.t()]) :: {String.t(), non_neg_integer, String.t()}
  def mix(context, arguments), do: run(context, arguments, "</dev/null")

  @doc "The same, with a redirection of the shell's."
  @spec run(context, [String.t()], String.t()) :: {String.t(), non_neg_integer, String.t()}
  def run(context, [task | arguments], redirection) do
    errors = Path.join(context.directory, "stderr-#{System.unique_integer([:positive])}")
    line = ~s(exec #{command()} "$@" 2>'#{errors}' #{redirection})
    {output, status} = shell(context, line, ["cryptoki." <> task | arguments])
    {output, status, File.read!(errors)}
  end

  @doc "A line of the shell with these arguments."
  @spec shell(context, String.t(), [String.t()]) :: {String.t(), non_neg_integer}
  def shell(context, line, arguments \\ []),
    do: System.cmd("sh", ["-c", line, "mix" | arguments], options(context))

  @doc "What starts Mix."
  @spec command(Path.t()) :: String.t()
  def command(ebin \\ Application.app_dir(:cryptoki, "ebin")), do: "elixir -pa '#{ebin}' -S mix"

  @spec options(context) :: keyword
  def options(context), do: [env: context.environment, cd: context.directory]

  @doc "With other variables; nil takes one away."
  @spec with_environment(context, [{String.t(), String.t() | nil}]) :: context
  def with_environment(context, more) do
    names = Enum.map(more, &elem(&1, 0))
    rest = Enum.reject(context.environment, &(elem(&1, 0) in names))
    %{context | environment: more ++ rest}
  end

  @doc "The path of a file in the directory, with this content if there is one."
  @spec file(context, String.t(), iodata | nil) :: Path.t()
  def file(context, name, content \\ nil) do
    path = Path.join(context.directory, name)
    if content, do: File.write!(path, content)
    path
  end

  @doc "Whether this OTP makes letters of standard input before anybody asks for it, as 26 and 27 do."
  @spec reads_early?() :: boolean
  def reads_early? do
    match?({:module, _}, Code.ensure_loaded(:prim_tty)) and
      not function_exported?(:prim_tty, :read, 1)
  end

  @doc "With a VM that takes any bytes from there; where it would not, it is told so, as guides/command_line.md says."
  @spec with_bytes(context) :: context
  def with_bytes(context) do
    if reads_early?(),
      do: with_environment(context, [{"ERL_FLAGS", "-kernel standard_io_encoding latin1"}]),
      else: context
  end

  @doc "pkcs11-tool of OpenSC, which knows nothing of us, on the token of a label."
  @spec pkcs11_tool(context, String.t(), [String.t()]) :: {String.t(), non_neg_integer}
  def pkcs11_tool(context, label, arguments) do
    place = ["--module", context.library, "--token-label", label]
    System.cmd("pkcs11-tool", place ++ arguments, [stderr_to_stdout: true] ++ options(context))
  end

  @doc "OpenSSL in the directory: what it says, and its status."
  @spec openssl(context, [String.t()]) :: {String.t(), non_neg_integer}
  def openssl(context, arguments),
    do: System.cmd("openssl", arguments, [stderr_to_stdout: true] ++ options(context))
end
