defmodule Cryptoki.Keys.Identity do
  @moduledoc false
  # By what a key is found again when its handle is not good any more, and what has to agree then. Where
  # it is, on the token or in a session, is part of it: the names of the one may be those of the other.

  alias Cryptoki.{Attribute, Error, Key, Keys}

  @doc "Its unique id where the token gives one, else class, label and id; and where it is."
  @spec template(Key.t()) :: {:ok, Attribute.wire()} | {:error, Error.t()}
  def template(%Key{unique_id: unique_id} = key) when unique_id not in [nil, ""],
    do: {:ok, encoded(class: key.class, unique_id: unique_id, token: key.token)}

  def template(%Key{label: label, id: id, token: token} = key) do
    if label in [nil, ""] and id in [nil, ""] do
      detail = "#{inspect(key)} has neither label nor id and was found before the token restarted"
      {:error, Error.new(:key_not_found, detail)}
    else
      kind = [class: key.class, key_type: key.key_type]
      {:ok, encoded(kind ++ [label: label, id: id, token: token])}
    end
  end

  defp encoded(attributes),
    do: attributes |> Enum.reject(&match?({_name, nil}, &1)) |> Attribute.encode!()

  @doc "Of what the template finds the key itself, when it is of a session, which another instance may have here."
  @spec of_session([Keys.handle()], Key.t()) :: [Keys.handle()]
  def of_session(handles, %Key{token: false, handle: {_number, _life, generation}}),
    do: for({_, _, ^generation} = handle <- handles, do: handle)

  def of_session(handles, _key), do: handles

  @doc "Whether what the template finds has to be compared with the key."
  @spec compared?(Key.t()) :: boolean
  def compared?(key), do: key.fingerprint != nil or unsaid?(key)

  @doc "Whether an object that the template has found is the key."
  @spec same?(Key.t(), Key.t()) :: boolean
  def same?(found, key) do
    found.fingerprint == key.fingerprint and (found.token == nil or not unsaid?(key))
  end

  # Its token did not say where it is; without a handle the key is somebody's description.
  defp unsaid?(key), do: key.token == nil and key.handle != nil
end
