defmodule Cryptoki.Build.Cargo do
  @moduledoc false
  # Builds a crate of native/ with cargo. Its cache is _build/native, for all environments. CARGO_TARGET_DIR is not
  # followed: cargo gives a library one file name there, whatever source it came from, so two checkouts that share a
  # cache would be served each other's.

  alias Cryptoki.Build.Target

  @type place :: %{root: Path.t(), cache: Path.t()}

  @doc "Whether cargo is on the PATH."
  @spec there? :: boolean
  def there?, do: cargo() != nil

  @doc "What to install where it is not."
  @spec rust(place) :: String.t()
  def rust(place), do: "Rust #{rust_version(place)} or newer (https://rustup.rs)"

  @doc "The file that cargo builds and the target that it is for, nil for this machine."
  @spec build(map, place) :: {:ok, Path.t(), String.t() | nil} | {:error, String.t()}
  def build(artefact, place) do
    same_source!(artefact, place)

    # In release, or below the target that a variable or a configuration file of cargo's names. Where there are
    # both from before, the one that cargo puts there again is meant.
    if match?([_, _ | _], built(artefact, place)),
      do: artefact |> built(place) |> Enum.each(&File.rm/1)

    before = built(artefact, place)

    case {run(artefact, place), built(artefact, place) -- before, before} do
      {0, [file], _before} -> {:ok, file, target_of(file, place)}
      {0, [], [file]} -> {:ok, file, target_of(file, place)}
      {status, _new, _before} -> {:error, failure(status, place)}
    end
  end

  @doc "Removes what was built of the crate, not its dependencies: they are the longest part of a build and stay the same."
  @spec clean(map, place) :: term
  def clean(artefact, place) do
    if cargo = cargo() do
      args = ~w(clean --quiet --release --offline -p #{artefact.name})
      env = [{"CARGO_TARGET_DIR", place.cache}]
      System.cmd(cargo, args, cd: place.root, env: env, stderr_to_stdout: true)
    end
  end

  defp cargo, do: System.find_executable("cargo")

  defp run(artefact, place) do
    colour = if IO.ANSI.enabled?(), do: "always", else: "never"

    port =
      Port.open({:spawn_executable, cargo()}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        :hide,
        args: ~w(build --release --locked -p #{artefact.name} --color #{colour}),
        cd: place.root,
        env: [{~c"CARGO_TARGET_DIR", to_charlist(place.cache)}],
        line: 65_536
      ])

    passed_on(port)
  end

  defp built(artefact, place) do
    for folder <- ["release", "*/release"],
        file <- Path.wildcard(Path.join([place.cache, folder, artefact.built])),
        do: file
  end

  # The same cache after the dependency moved, say from a path to git: see above.
  defp same_source!(artefact, place) do
    marker = Path.join(place.cache, "source")

    unless File.read(marker) == {:ok, place.root} do
      if File.exists?(marker), do: clean(artefact, place)
      File.mkdir_p!(place.cache)
      temporary = "#{marker}.#{System.pid()}.tmp"
      File.write!(temporary, place.root)
      File.rename!(temporary, marker)
    end
  end

  # cargo's own lines go to the terminal as they come; its exit status.
  defp passed_on(port) do
    receive do
      {^port, {:data, {:noeol, part}}} ->
        IO.write(:stderr, part)
        passed_on(port)

      {^port, {:data, {:eol, line}}} ->
        # Said by every run that had nothing to do.
        unless line =~ ~r/^(\e\[[\d;]*m)*\s*Finished/, do: IO.puts(:stderr, line)
        passed_on(port)

      {^port, {:exit_status, status}} ->
        status
    end
  end

  # Asked only after a failure: cargo's own sentence about an edition it does not know helps nobody.
  defp failure(status, place) do
    {text, _} = System.cmd(cargo(), ["--version"], stderr_to_stdout: true, cd: place.root)

    with [_, found] <- Regex.run(~r/^cargo (\d+\.\d+\.\d+)/, text),
         :lt <- Version.compare(found, rust_version(place) <> ".0") do
      "cargo #{found} is too old to build the native part of cryptoki: " <>
        "it needs Rust #{rust_version(place)} or newer (rustup update)."
    else
      _ -> "cargo could not build the native part of cryptoki (exit status #{status}); see above."
    end
  end

  # cache/release/x.so was built for this machine, cache/triple/release/x.so for that one.
  defp target_of(file, place) do
    folder = file |> Path.dirname() |> Path.dirname()
    if folder != place.cache, do: Path.basename(folder), else: nil
  end

  # The variable is followed where a target is asked for, and nothing else says what cargo builds for.
  @doc "Why cargo cannot be asked: it would build for this machine, and another one is meant."
  @spec wrong_machine :: String.t() | nil
  def wrong_machine do
    cross = Target.cross()

    if cross && is_nil(Target.variable("CARGO_BUILD_TARGET")) do
      "#{cross} asks for another machine than this one, and cargo would build for this one. " <>
        "Set CARGO_BUILD_TARGET to the target's triple (and its linker in cargo's configuration), " <>
        "or CRYPTOKI_NATIVE_LIBRARY to a library built for it."
    end
  end

  defp rust_version(place) do
    toml = File.read!(Path.join(place.root, "Cargo.toml"))
    [_, version] = Regex.run(~r/^rust-version = "(.+)"$/m, toml)
    version
  end
end
