defmodule Cryptoki.Cache do
  @moduledoc false
  # What an instance remembers of the objects on its token: the handle that a selector found, the one by
  # which a key was found again, and which keys want a login for each use.
  #
  # Rows are `{key, value, class, label, id, until}`. What a selector found is good for a few seconds only:
  # another program may give the name to another object. An object made here ends the rows of the
  # selectors that may name it as well, which class, label and id tell. A handle needs no such care: the
  # native side refuses it when it is not that of its object any more.

  # One selector a customer, say, must not fill the memory.
  @limit 10_000
  # Milliseconds.
  @age 5_000

  @type t :: :ets.table()
  @typedoc "What a selector asks for, nil for what it leaves open; what an object has, as templates have it."
  @type asked :: %{class: term, label: binary | nil, id: binary | nil}

  @doc "A new one; it ends with the calling process."
  @spec new() :: t
  def new, do: :ets.new(__MODULE__, [:set, :public, read_concurrency: true])

  @doc "What is known."
  @spec get(t, key :: term) :: {:ok, term} | :error
  def get(cache, key) do
    case lookup(cache, key) do
      [{_key, value, _class, _label, _id, :infinity}] ->
        {:ok, value}

      [{_key, value, _class, _label, _id, until}] ->
        if now() < until, do: {:ok, value}, else: :error

      [] ->
        :error
    end
  end

  @doc "Remembers what stays true for the life of its handle."
  @spec put(t, key :: term, value :: term) :: :ok
  def put(cache, key, value), do: insert(cache, {key, value, :none, :none, :none, :infinity})

  @doc "Remembers the one object that a selector has found."
  @spec put_found(t, key :: term, value :: term, asked) :: :ok
  def put_found(cache, key, value, asked) do
    insert(cache, {key, value, asked.class, asked.label, asked.id, now() + @age})
  end

  @doc "Forgets what selectors have found that name the new object as well."
  @spec made(t, asked) :: :ok
  def made(cache, object) do
    asks =
      for {place, value} <- [{:"$1", object.class}, {:"$2", object.label}, {:"$3", object.id}],
          do: {:orelse, {:"=:=", place, nil}, {:"=:=", place, {:const, value}}}

    spec = [{{:_, :_, :"$1", :"$2", :"$3", :_}, asks, [true]}]
    _ = existing(fn -> :ets.select_delete(cache, spec) end, 0)
    :ok
  end

  @doc "Forgets everything."
  @spec clear(t) :: :ok
  def clear(cache) do
    _ = existing(fn -> :ets.delete_all_objects(cache) end, true)
    :ok
  end

  defp insert(cache, row) do
    existing(
      fn ->
        if :ets.info(cache, :size) >= @limit, do: :ets.delete_all_objects(cache)
        :ets.insert(cache, row)
      end,
      true
    )

    :ok
  end

  # As `existing/2` of a function, which each call would make.
  defp lookup(cache, key) do
    :ets.lookup(cache, key)
  rescue
    ArgumentError -> []
  end

  # It goes with its instance, whose queue then says so.
  defp existing(fun, none) do
    fun.()
  rescue
    ArgumentError -> none
  end

  defp now, do: System.monotonic_time(:millisecond)
end
