defmodule Bench.World do
  @moduledoc false
  # What bin/bench has prepared: a token with its keys, the programs to compare with, and a token that is slow on command.

  alias Bench.{Calls, Program}

  @enforce_keys [:library, :pin, :uri, :limit, :python, :slow]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          library: Path.t(),
          pin: binary,
          uri: binary,
          limit: port,
          python: port | nil,
          slow: %{uri: binary, control: Path.t(), limit: port}
        }

  @doc "Keys on the token, programs that have logged in to it."
  @spec open() :: t
  def open do
    [library, pin, uri, slow] = for name <- ~w(LIBRARY PIN URI SLOW), do: fetch!(name)
    {:ok, hsm} = Cryptoki.start_link(uri: uri, sessions: 1)
    :ok = Calls.make_keys(hsm)
    :ok = Cryptoki.stop(hsm)
    limit = fetch!("LIMIT")
    python = System.get_env("CRYPTOKI_BENCH_PYTHON")

    ready(%__MODULE__{
      library: library,
      pin: pin,
      uri: uri,
      limit: Program.start(limit, [library, "bench", pin]),
      python: python && Program.start(python, ["bench/python.py", library, "bench", pin]),
      slow: %{
        uri: "pkcs11:token=slow?module-path=#{slow}&pin-value=#{pin}",
        control: slow <> ".control",
        limit: Program.start(limit, [slow, "slow", pin])
      }
    })
  end

  # A login writes to the token: another process that begins to read it in that moment is told of an error by SoftHSM.
  defp ready(world) do
    programs = [world.limit, world.slow.limit | List.wrap(world.python)]
    for program <- programs, do: [_, _ | _] = Program.ask(program, "random", 1, 1, 0)
    world
  end

  defp fetch!(name), do: System.fetch_env!("CRYPTOKI_BENCH_" <> name)

  @doc "One more of the loops in C, for itself: what it makes is not in the way of the others."
  @spec limit(t) :: port
  def limit(world) do
    limit = Program.start(fetch!("LIMIT"), [world.library, "bench", world.pin])
    [_, _ | _] = Program.ask(limit, "random", 1, 1, 0)
    limit
  end

  @doc "How the slow token is from now on: lines for the control file of native/faulty_module."
  @spec slow(t, binary) :: :ok
  def slow(%__MODULE__{slow: %{control: control}}, lines) do
    File.write!(control <> ".new", lines <> "\n")
    File.rename!(control <> ".new", control)
  end

  @doc "Runs a function on an instance of the token, or of the slow one, which ends with it."
  @spec with_instance(t, :uri | :slow, keyword, (pid -> result)) :: result when result: term
  def with_instance(world, which, opts, fun) do
    uri = if which == :slow, do: world.slow.uri, else: world.uri
    {:ok, hsm} = Cryptoki.start_link([uri: uri] ++ opts)

    try do
      await_ready(hsm, opts[:sessions] || 1)
      fun.(hsm)
    after
      :ok = Cryptoki.stop(hsm)
    end
  end

  defp await_ready(hsm, sessions) do
    case Cryptoki.status(hsm) do
      {:ok, %{state: :ready, sessions: %{open: ^sessions}}} ->
        :ok

      _not_yet ->
        Process.sleep(1)
        await_ready(hsm, sessions)
    end
  end
end
