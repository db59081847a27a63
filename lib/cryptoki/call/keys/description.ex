defmodule Cryptoki.Keys.Description do
  @moduledoc false
  # What the token says of the objects behind handles.

  alias Cryptoki.{Attribute, Call, Error, Instances, Key, Target, Unread}
  alias Cryptoki.Keys.Together
  alias Cryptoki.Native.Wait

  @type handle :: Cryptoki.Native.handle()

  # What is read of an object whose class is not known yet.
  @described Key.attributes() ++ Key.fingerprint_attributes(nil)

  @doc """
  The objects behind handles; those that were destroyed meanwhile are left out, and those that the token
  cannot read are told in the log. When that is all of them it is the error.
  """
  @spec describe_all(Target.t(), [handle]) :: {:ok, [Key.t()]} | {:error, Error.t()}
  def describe_all(target, handles) do
    with {keys, unread} when is_list(keys) <- all(target, handles, fn -> {[], []} end),
         do: Unread.rest(target, Enum.reverse(keys), unread)
  end

  # `found` makes keys of what was read before: while the token reads on.
  defp all(_target, [], found), do: with({:halt, result} <- found.(), do: result)

  defp all(target, handles, found) do
    case some(target, handles, found) do
      {_described, _rest, {:halt, result}} -> result
      {described, rest, found} -> all(target, rest, fn -> taken(described, found) end)
    end
  end

  defp taken(_described, {:halt, result}), do: {:halt, result}
  defp taken(described, found), do: Enum.reduce_while(described, found, &take/2)

  defp take({:ok, key}, {keys, unread}), do: {:cont, {[key | keys], unread}}
  defp take(:gone, found), do: {:cont, found}
  defp take({:error, error}, _found), do: {:halt, {:halt, {:error, error}}}

  defp take({:unreadable, error}, {keys, unread}) do
    found = {keys, [error | unread]}
    if Unread.all?(keys, elem(found, 1)), do: {:halt, {:halt, found}}, else: {:cont, found}
  end

  # Together; where that fails, one after the other says of each why.
  defp some(target, [_one, _more | _rest] = handles, found) do
    with {:ok, read, rest, found} <- Together.some(target, handles, @described, found),
         {:ok, values} <- values(target, read),
         {:ok, %{token: token}} <- Instances.facts(target) do
      about = token_info(target, token)
      {Stream.map(read, &described(target, about, &1, values)), rest, found}
    else
      {:error, _error} -> one_by_one(target, Together.split(handles), found)
    end
  end

  defp some(target, [handle], found), do: one_by_one(target, {[handle], []}, found)

  defp one_by_one(target, {now, rest}, found),
    do: {[], rest, taken(Stream.map(now, &readable(target, &1)), found.())}

  # What is public of a certificate is its value: a second request for all that have one.
  defp values(target, read) do
    wanted = for {handle, [class | _]} <- read, Key.public_value?(class), do: handle
    with {:ok, values} <- Together.all(target, wanted, [:value]), do: {:ok, Map.new(values)}
  end

  defp described(target, about, {handle, [_ | _] = read}, values) do
    case Map.get(values, handle, [nil]) do
      [value] -> {:ok, Key.read(read, value, handle, about)}
      {:error, error} -> unreadable(target, handle, error)
    end
  end

  defp described(target, _about, {handle, {:error, error}}, _values),
    do: unreadable(target, handle, error)

  @doc "The object behind a handle, or whether it is gone, or this one cannot be read."
  @spec readable(Target.t(), handle) ::
          {:ok, Key.t()} | :gone | {:unreadable | :error, Error.t()}
  def readable(target, handle) do
    with {:error, error} <- describe(target, handle), do: unreadable(target, handle, error)
  end

  defp unreadable(target, handle, error) do
    cond do
      gone?(target, handle, error) -> :gone
      Unread.one?(error) -> {:unreadable, error}
      true -> {:error, error}
    end
  end

  @doc "Whether somebody has destroyed the object of a list since it was found: then it is none of it any more."
  @spec gone?(Target.t(), handle, Error.t()) :: boolean
  def gone?(_target, _handle, %Error{reason: :object_handle_invalid}), do: true

  def gone?(target, handle, %Error{reason: :stale_handle}),
    do: Wait.standing(target.native, handle) == {:ok, :gone}

  def gone?(_target, _handle, _error), do: false

  @doc "The object behind a handle."
  @spec describe(Target.t(), handle) :: {:ok, Key.t()} | {:error, Error.t()}
  def describe(target, handle) do
    with {:ok, attributes} <- read(target, handle, @described),
         more = Key.fingerprint_attributes(attributes[:class]) -- @described,
         {:ok, others} <- read(target, handle, more),
         {:ok, %{token: token}} <- Instances.facts(target) do
      attributes = Map.merge(attributes, others)
      fingerprint = Key.fingerprint(attributes)
      about = token_info(target, token)
      {:ok, Key.new(attributes, handle: handle, token_info: about, fingerprint: fingerprint)}
    end
  end

  defp token_info(target, token) do
    token
    |> Map.take([:label, :manufacturer, :model, :serial])
    |> Map.put(:instance, target.instance)
  end

  @doc "Attributes of the object behind a handle, by name."
  @spec read(Target.t(), handle, [Attribute.name()]) :: {:ok, map} | {:error, Error.t()}
  def read(_target, _handle, []), do: {:ok, %{}}

  def read(target, handle, names) do
    with {:ok, answer} <- Call.run(target, {:attributes, handle, Attribute.types!(names)}),
         do: {:ok, Attribute.decode(answer, names)}
  end
end
