defmodule Cryptoki.Test.BuildProject do
  @moduledoc false
  # A small project with the mix.exs, Cargo.toml and build/ of this one, for the Mix compile task.

  alias Cryptoki.Test.SoftHSM

  @doc "A new one, with Cargo.toml for the two crates that are installed, the worker in the least form."
  @spec directory(String.t()) :: Path.t()
  def directory(name) do
    project = Path.join(SoftHSM.directory(), name)
    folders = ~w(lib native/cryptoki_nif/src native/cryptoki_worker/src)
    for folder <- folders, do: File.mkdir_p!(Path.join(project, folder))

    for file <- ~w(mix.exs build),
        do: File.cp_r!(Path.join(File.cwd!(), file), Path.join(project, file))

    cargo = File.read!(Path.join(File.cwd!(), "Cargo.toml"))

    members = ~s(members = ["native/cryptoki_nif", "native/cryptoki_worker"])

    File.write!(
      Path.join(project, "Cargo.toml"),
      String.replace(cargo, ~r/^members = .*$/m, members)
    )

    crate(project, "cryptoki_nif", ~s([lib]\ncrate-type = ["cdylib"]\n))
    crate(project, "cryptoki_worker", "")
    File.write!(Path.join(project, "native/cryptoki_worker/src/main.rs"), worker_source())
    project
  end

  defp crate(project, name, rest) do
    File.write!(Path.join(project, "native/#{name}/Cargo.toml"), """
    [package]
    name = "#{name}"
    version.workspace = true
    edition.workspace = true
    rust-version.workspace = true

    #{rest}
    """)
  end

  # With what the task looks for in it.
  defp worker_source do
    """
    #[used] #[unsafe(no_mangle)]
    static VERSION: &str = concat!("cryptoki_worker:version=", env!("CARGO_PKG_VERSION"), "\\0");
    fn main() { println!("a worker"); }
    """
  end

  @doc "What the task alone answers, in a mix of its own."
  @spec result(Path.t(), [String.t()], [{String.t(), String.t() | nil}]) :: term
  def result(project, args \\ [], environment \\ []) do
    file = Path.join(project, "result.term")

    code = """
    result = Mix.Task.run("compile.cryptoki_native", #{inspect(args)})
    File.write!(#{inspect(file)}, :erlang.term_to_binary(result))
    """

    {text, 0} = mix(project, code, environment)

    if File.exists?(file),
      do: file |> File.read!() |> :erlang.binary_to_term(),
      else: raise("the task left no answer: #{text}")
  end

  @doc "Runs code in a mix of the project."
  @spec mix(Path.t(), String.t(), [{String.t(), String.t() | nil}]) ::
          {String.t(), non_neg_integer}
  def mix(project, code, environment \\ []) do
    options = [
      cd: project,
      env: clean_environment() ++ [{"MIX_ENV", "dev"}] ++ environment,
      stderr_to_stdout: true
    ]

    System.cmd(
      System.find_executable("mix"),
      ["run", "--no-compile", "--no-start", "-e", code],
      options
    )
  end

  @doc "What bin/test or a person set for this project and not for that one."
  @spec clean_environment :: [{String.t(), nil}]
  def clean_environment do
    for name <-
          ~w(MIX_ENV MIX_BUILD_PATH MIX_TARGET CROSSCOMPILE TARGET_ARCH TARGET_OS TARGET_ABI CARGO_TARGET_DIR) ++
            ~w(CARGO_BUILD_TARGET CRYPTOKI_NATIVE_LIBRARY CRYPTOKI_NATIVE_WORKER CRYPTOKI_BUILD CRYPTOKI_BASE_URL CRYPTOKI_CACHE) ++
            ~w(HEX_CACERTS_PATH HTTPS_PROXY https_proxy NO_PROXY no_proxy),
        do: {name, nil}
  end

  @doc "The installed library of a folder, and the worker beside it."
  @spec library(Path.t()) :: Path.t()
  def library(folder), do: installed(folder, "current")

  @spec worker(Path.t()) :: Path.t()
  def worker(folder), do: installed(folder, "current_worker")

  defp installed(folder, current),
    do: Path.join(folder, String.trim(File.read!(Path.join(folder, current))))

  @doc "Everything of the PATH that mix, rebar3 and a release need, in one folder, and no cargo."
  @spec path_without_cargo(Path.t()) :: Path.t()
  def path_without_cargo(project) do
    folder = Path.join(project, "bin")
    File.mkdir_p!(folder)

    for name <-
          ~w(elixir mix iex erl erlc escript rebar3 git sh bash env sed awk grep cut cat tr od) ++
            ~w(readlink dirname basename expr uname mkdir rm ln cp mv ls pwd hostname id ps sleep) do
      link = Path.join(folder, name)
      executable = System.find_executable(name)
      unless File.exists?(link) or is_nil(executable), do: File.ln_s!(executable, link)
    end

    folder
  end
end
