defmodule Cryptoki.Envelope.Cache do
  @moduledoc false
  # Data keys that the token has opened, for as long and as often as was said: a table that its process owns, in
  # which nothing can be read. Who opens boxes looks there himself, so that no key is in a message.
  #
  # Rows are `{key, sealed, until, left, generation}`; one more has the limits, and the generation whose rows count:
  # `forget/1` begins another, so that what was asked of the token before is not known afterwards.

  use GenServer

  alias Cryptoki.Options.Table
  alias Cryptoki.Sealed

  @day 86_400_000

  @doc "The options of one."
  @spec options() :: Table.t()
  def options do
    [
      name: [
        cast: :name,
        needed: true,
        must: "an atom",
        type: "atom",
        doc: "what `open/4` calls it"
      ],
      ttl: [
        cast: {:integer, 1, @day},
        must: "milliseconds, a day at most",
        type: "pos_integer",
        default: 60_000,
        doc: "how long a data key is known, in milliseconds, from when the token opened it"
      ],
      uses: [
        cast: {:integer, 1, 1_000_000_000},
        must: "a number of times from 1",
        type: "pos_integer",
        default: 1_000,
        doc: "how many times a box is opened until the token is asked again"
      ],
      size: [
        cast: {:integer, 1, 10_000_000},
        must: "a number of keys from 1",
        type: "pos_integer",
        default: 10_000,
        doc: "how many data keys are known at once; then one of them makes room"
      ]
    ]
  end

  @doc "The option of a call that names one."
  @spec option() :: Table.t()
  def option do
    [
      cache: [
        cast: :name,
        must: "the name of a cache",
        type: "atom",
        doc: "where data keys are looked for, and kept, before the token is asked"
      ]
    ]
  end

  @spec start_link(keyword | map) :: GenServer.on_start()
  def start_link(options) do
    :ok = Table.once!(options)
    limits = Table.cast!(options, options(), "option of a cache")
    GenServer.start_link(__MODULE__, limits, name: limits.name)
  end

  @doc "Raises `ArgumentError` when there is none of this name."
  @spec there!(atom) :: atom
  def there!(cache) do
    if limits(cache) == nil do
      raise ArgumentError,
            "cache: there is none with the name #{inspect(cache)}; {Cryptoki.Envelope, name: #{inspect(cache)}} " <>
              "among the children of a supervisor starts it"
    end

    cache
  end

  @doc "The data key of a box, by what it was asked for with; `open` asks the token."
  @spec through(atom, term, (() -> {:ok, binary} | error)) :: {:ok, binary} | error
        when error: {:error, Cryptoki.Error.t()}
  def through(cache, asked, open) do
    key = Sealed.hash(:erlang.term_to_binary(asked))

    with :error <- fetch(cache, key, now()) do
      generation = generation(cache)

      with {:ok, data_key} <- open.() do
        put(cache, key, data_key, now(), generation)
        {:ok, data_key}
      end
    end
  end

  @doc "What is known at this time."
  @spec fetch(atom, binary, integer) :: {:ok, binary} | :error
  def fetch(cache, key, now) do
    with [{_key, sealed, until, left, generation}] <-
           existing(fn -> :ets.lookup(cache, key) end, []),
         true <- generation == generation(cache),
         true <- now < until and :atomics.sub_get(left, 1, 1) >= 0 do
      {:ok, Sealed.open(sealed)}
    else
      [] ->
        :error

      false ->
        existing(fn -> :ets.delete(cache, key) end, true)
        :error
    end
  end

  @doc "What was asked of the token in this generation."
  @spec put(atom, binary, binary, integer, reference | nil) :: :ok
  def put(cache, key, data_key, now, generation) do
    with %{ttl: ttl, uses: uses, size: size} when uses > 1 <- limits(cache) do
      left = :atomics.new(1, [])
      :ok = :atomics.put(left, 1, uses - 1)
      existing(fn -> room(cache, size) end, :ok)
      row = {key, Sealed.seal(data_key), now + ttl, left, generation}
      existing(fn -> :ets.insert(cache, row) end, true)
    end

    :ok
  end

  # The limits have a row of their own, and may be the first.
  defp room(cache, size) do
    with true <- :ets.info(cache, :size) > size,
         first = :ets.first(cache),
         any when is_binary(any) <-
           if(first == :limits, do: :ets.next(cache, first), else: first),
         do: :ets.delete(cache, any)
  end

  @spec forget(atom) :: :ok
  def forget(cache) do
    existing(fn -> :ets.update_element(cache, :limits, {3, make_ref()}) end, true)
    existing(fn -> :ets.match_delete(cache, {:_, :_, :_, :_, :_}) end, true)
    :ok
  end

  @doc "Whose rows count."
  @spec generation(atom) :: reference | nil
  def generation(cache), do: with({_limits, generation} <- facts(cache), do: generation)

  defp limits(cache), do: with({limits, _generation} <- facts(cache), do: limits)

  defp facts(cache) do
    case existing(fn -> :ets.lookup(cache, :limits) end, []) do
      [{:limits, %{ttl: _, uses: _, size: _} = limits, generation}] -> {limits, generation}
      _none -> nil
    end
  end

  # Its owner may have ended, and then begins anew.
  defp existing(fun, otherwise) do
    fun.()
  rescue
    ArgumentError -> otherwise
  end

  defp now, do: System.monotonic_time(:millisecond)

  ## The owner: what nobody asks for ends with its time, too

  @impl true
  def init(limits) do
    options = [:named_table, :public, read_concurrency: true, write_concurrency: true]
    table = :ets.new(limits.name, options)
    true = :ets.insert(table, {:limits, limits, make_ref()})
    {:ok, %{table: table, every: max(div(limits.ttl, 2), 1)}, {:continue, :later}}
  end

  @impl true
  def handle_continue(:later, state) do
    _ = Process.send_after(self(), :sweep, state.every)
    {:noreply, state}
  end

  @impl true
  def handle_info(:sweep, state) do
    over = [{{:_, :_, :"$1", :_, :_}, [{:"=<", :"$1", now()}], [true]}]
    _ = :ets.select_delete(state.table, over)
    {:noreply, state, {:continue, :later}}
  end

  def handle_info(_another, state), do: {:noreply, state}
end
