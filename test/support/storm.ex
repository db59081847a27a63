defmodule Cryptoki.Test.Storm do
  @moduledoc false
  # Work by many processes while something is disturbed, for a while; all of it by chance, and by the same chances
  # when CRYPTOKI_STORM_SEED is what a storm has printed. CRYPTOKI_STORM_MINUTES says how long.

  alias Cryptoki.{Error, Instances}
  alias Cryptoki.Test.EveryCall.{Check, World}
  alias Cryptoki.Test.{FaultyModule, Load, SoftHSM}

  # The short form of `bin/test`.
  @short_ms 2_000
  # No mark of a name, no file: the same instance under a name stays found when it is started anew.
  @name __MODULE__

  @doc "How long a storm lasts, in milliseconds."
  @spec time :: pos_integer
  def time do
    case System.get_env("CRYPTOKI_STORM_MINUTES") do
      nil -> @short_ms
      minutes -> round(60_000 * (minutes |> Float.parse() |> elem(0)))
    end
  end

  @doc "The seed of this run, printed where it matters."
  @spec seed :: non_neg_integer
  def seed do
    case System.get_env("CRYPTOKI_STORM_SEED") do
      nil -> :erlang.unique_integer([:positive]) + System.os_time()
      seed -> String.to_integer(seed)
    end
    |> rem(1_000_000_000)
  end

  @doc "What a process of the storm draws from: its own, by its number."
  @spec chances(non_neg_integer, non_neg_integer) :: term
  def chances(seed, number), do: :rand.seed(:exsss, {seed, number, 0})

  @doc "Start options of the instance: by name, since it may be another one after a while."
  @spec options(FaultyModule.t(), keyword) :: keyword
  def options(module, more \\ []) do
    own = [name: @name, sessions: 4, timeout: 2_000, reconnect: [min: 1, max: 20]]
    FaultyModule.options(module, Keyword.merge(own, more))
  end

  @spec name :: atom
  def name, do: @name

  @doc """
  `workers` call `work` over and over until the time is over, while `disturb` is called again and again by
  one process. How often each outcome was; a worker that finds something wrong ends the test.
  """
  @spec run(non_neg_integer, pos_integer, (pos_integer -> term), (() -> term)) :: map
  def run(seed, workers, work, disturb) do
    until = System.monotonic_time(:millisecond) + time()

    tasks =
      for n <- 1..workers do
        Task.async(fn ->
          chances(seed, n)
          repeat(fn -> work.(n) end, until, %{})
        end)
      end

    disturber =
      Task.async(fn ->
        chances(seed, 0)
        repeat(disturb, until, %{})
      end)

    counts = Task.await_many(tasks, :infinity)
    Task.await(disturber, :infinity)
    Enum.reduce(counts, %{}, &Map.merge(&1, &2, fn _outcome, n, m -> n + m end))
  end

  defp repeat(work, until, counts) do
    if System.monotonic_time(:millisecond) < until do
      outcome = work.()
      {:messages, []} = Process.info(self(), :messages)
      repeat(work, until, Map.update(counts, outcome, 1, &(&1 + 1)))
    else
      counts
    end
  end

  @doc "The outcome of a call, for counting; anything that is not documented raises."
  @spec outcome(term) :: term
  def outcome(:ok), do: :ok
  def outcome({:ok, _value}), do: :ok

  def outcome({:error, %Error{} = error}) do
    if Check.documented?(error),
      do: error.reason,
      else: raise("not documented: #{inspect(error)}")
  end

  @doc "Waits a part of so many milliseconds, by chance."
  @spec pause(pos_integer) :: :ok
  def pause(most) do
    receive do
    after
      :rand.uniform(most) -> :ok
    end
  end

  @doc "One of a list, by chance."
  @spec one([item]) :: item when item: term
  def one(list), do: Enum.at(list, :rand.uniform(length(list)) - 1)

  @doc """
  Gives the PIN again, as a person would, when a wrong answer, or the end of the process that waited for
  it, has put it out of use.
  """
  @spec person(GenServer.server()) :: :ok
  def person(hsm) do
    with {:ok, %{state: :locked}} <- Cryptoki.status(hsm),
         do: Cryptoki.unlock(hsm, &SoftHSM.pin/0, force: true, timeout: 500)

    :ok
  end

  @doc "What is wrong when it is over: the instance is whole, and nothing more than before is there."
  @spec left(FaultyModule.t(), pos_integer) :: [String.t()]
  def left(module, threads) do
    FaultyModule.control(module, "")
    # It may be locked only once it has come to itself.
    whole = World.until(fn -> person(@name) == :ok and whole?() end, 60_000)
    ended = World.until(fn -> Load.session_threads() == threads end)

    cond do
      not whole -> ["not whole: #{inspect(Cryptoki.status(@name))}"]
      not ended -> ["#{Load.session_threads()} threads, #{threads} before"]
      true -> claims(module)
    end
  end

  defp claims(module) do
    hsm = Process.whereis(@name)
    left = World.strays(hsm) ++ World.claims(%{hsm: hsm, module: module})
    # What a login of the storm has left, of which nobody had heard, may lock it once more.
    again = World.until(fn -> person(@name) == :ok and whole?() end)

    if again,
      do: left,
      else: ["not whole a second time: #{inspect(Cryptoki.status(@name))}" | left]
  end

  # The instance may be on its way to being another one.
  defp whole? do
    hsm = Process.whereis(@name)
    is_pid(hsm) and is_pid(Instances.get(hsm, :server)) and World.whole?(hsm)
  catch
    _kind, _ended -> false
  end
end
