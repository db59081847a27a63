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
    result =
      handles
      |> Together.chunks()
      |> Stream.flat_map(&described(target, &1))
      |> Enum.reduce_while({[], []}, fn
        {:ok, key}, {keys, unread} -> {:cont, {[key | keys], unread}}
        :gone, found -> {:cont, found}
        {:unreadable, error}, {keys, unread} -> unread(keys, [error | unread])
        {:error, error}, _found -> {:halt, {:error, error}}
      end)

    with {keys, unread} when is_list(keys) <- result,
         do: Unread.rest(target, Enum.reverse(keys), unread)
  end

  defp unread(keys, unread),
    do: if(Unread.all?(keys, unread), do: {:halt, {keys, unread}}, else: {:cont, {keys, unread}})

  # Together; where that fails, one after the other says of each why.
  defp described(target, [_one, _more | _rest] = handles) do
    with {:ok, read} <- Together.read(target, handles, @described),
         {:ok, %{token: token}} <- Instances.facts(target) do
      about = token_info(target, token)
      Enum.zip_with(handles, read, &described(target, about, &1, &2))
    else
      {:error, _error} -> Stream.map(handles, &readable(target, &1))
    end
  end

  defp described(target, handles), do: Stream.map(handles, &readable(target, &1))

  defp described(target, _about, handle, {:error, error}), do: unreadable(target, handle, error)
  defp described(_target, about, handle, attributes), do: {:ok, key(about, handle, attributes)}

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

  defp gone?(_target, _handle, %Error{reason: :object_handle_invalid}), do: true

  defp gone?(target, handle, %Error{reason: :stale_handle}),
    do: Wait.standing(target.native, handle) == {:ok, :gone}

  defp gone?(_target, _handle, _error), do: false

  @doc "The object behind a handle."
  @spec describe(Target.t(), handle) :: {:ok, Key.t()} | {:error, Error.t()}
  def describe(target, handle) do
    with {:ok, attributes} <- read(target, handle, @described),
         more = Key.fingerprint_attributes(attributes[:class]) -- @described,
         {:ok, others} <- read(target, handle, more),
         {:ok, %{token: token}} <- Instances.facts(target),
         do: {:ok, key(token_info(target, token), handle, Map.merge(attributes, others))}
  end

  defp key(about, handle, attributes) do
    private = [handle: handle, token_info: about, fingerprint: Key.fingerprint(attributes)]
    Key.new(attributes, private)
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
