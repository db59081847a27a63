defmodule Cryptoki.Import.Made do
  @moduledoc false
  # An object that an import has made, and how it is taken away again: by its handle. What has its names when
  # that is not good any more may be another key.

  alias Cryptoki.{Attribute, Call, Error, Key, Keys, Target}
  alias Cryptoki.Keys.Identity
  alias Cryptoki.Native.Wait

  @enforce_keys [:handle, :stored?, :key]
  defstruct @enforce_keys

  @type t :: %__MODULE__{handle: Keys.handle(), stored?: boolean, key: Key.t() | nil}

  @stored Attribute.encode!(token: true)
  # Where its session is, its object is.
  @ended ~w[stale_handle object_handle_invalid token_absent]a

  @doc "The object of a template; nothing is left when it cannot be read."
  @spec new(Target.t(), Attribute.wire()) :: {:ok, t} | {:error, Error.t()}
  def new(target, template) do
    with {:ok, handle} <- Call.run(target, {:create, template}),
         do: of(target, handle, template)
  end

  @doc "The object that has just been made of a template in another way; the same."
  @spec of(Target.t(), Keys.handle(), Attribute.wire()) :: {:ok, t} | {:error, Error.t()}
  def of(target, handle, template) do
    made = %__MODULE__{handle: handle, stored?: @stored -- template == [], key: nil}

    case Keys.made(target, handle) do
      {:ok, key} -> {:ok, %{made | key: key}}
      {:error, error} -> undone({:error, %{error | executed: false}}, target, made)
    end
  end

  @doc "Why a key is not left on the token."
  @spec unproven(String.t()) :: {:error, Error.t()}
  def unproven(why) do
    text = "that the token has this key cannot be proven, and it was taken away again: #{why}"
    {:error, Error.new(:unsupported, text)}
  end

  @doc "What has been done, or its error with the object taken away: `executed:` tells whether it could be."
  @spec undone(result | {:error, Error.t()}, Target.t(), t) :: result | {:error, Error.t()}
        when result: term
  def undone({:error, error}, target, made),
    do: {:error, withdrawn(error, destroy(with_time(target), made))}

  def undone(done, _target, _made), do: done

  # That of the call may be over: it gets as much once more.
  defp with_time(target), do: %{target | deadline: Wait.deadline(target.timeout)}

  defp destroy(target, made) do
    case destroy_once(target, made.handle) do
      {:error, %Error{reason: reason}} when reason in @ended and not made.stored? -> :ok
      {:error, %Error{reason: reason} = error} when reason in @ended -> look(target, made, error)
      ok_or_error -> ok_or_error
    end
  end

  # It was the session that was lost, and the token may have the object still.
  defp destroy_once(target, handle) do
    with {:error, %Error{reason: :session_handle_invalid}} <-
           Call.run(target, {:destroy, handle}),
         do: Call.run(target, {:destroy, handle})
  end

  defp look(target, %{key: %Key{unique_id: <<_, _::binary>>} = key}, _error) do
    with {:ok, template} <- Identity.template(key),
         {:ok, [handle]} <- Keys.search(target, [template], 2) do
      Call.run(target, {:destroy, handle})
    else
      {:ok, []} -> :ok
      {:ok, _several} -> {:error, Error.new(:key_ambiguous, inspect(key))}
      {:error, _error} = error -> error
    end
  end

  defp look(_target, _made, error) do
    text = "it is not looked for by its names, which may be those of another key"
    {:error, %{error | detail: Enum.join(Enum.reject([error.detail, text], &is_nil/1), "; ")}}
  end

  defp withdrawn(error, :ok), do: error

  defp withdrawn(error, {:error, why}) do
    left = "what was made before it is on the token perhaps: #{Exception.message(why)}"
    detail = Enum.join(Enum.reject([error.detail, left], &is_nil/1), "; ")
    %{error | detail: detail, executed: :maybe}
  end
end
