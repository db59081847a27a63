defmodule Cryptoki.PublicHalf.Certificate do
  @moduledoc false
  # The certificate of a key: among those with its id, with its label, and then all of them, the one with
  # its public key. A key of which nothing can be proven has the certificate with its id.

  alias Cryptoki.{Attribute, Call, Error, Key, Keys, PublicHalf, PublicKey, Target, Unread}
  alias Cryptoki.PublicKey.Decode

  @most 1000

  @doc "Its DER."
  @spec fetch(Target.t(), Key.t()) :: {:ok, binary} | {:error, Error.t()}
  def fetch(target, key) do
    with {:ok, public} <- public(target, key), do: look(target, places(key, public), public, key)
  end

  defp public(target, %Key{class: :private_key} = key) do
    case PublicHalf.fetch(target, Keys.wanted!(key, :private_key)) do
      {:ok, {:proven, public}} -> {:ok, public}
      {:ok, {:unproven, _keys, _why}} -> {:ok, nil}
      # It could be proven of none, so of no certificate either.
      {:error, %Error{reason: :unsupported, code: nil}} -> none(key)
      {:error, _error} = error -> error
    end
  end

  defp public(target, key) do
    case PublicKey.fetch(target, PublicKey.search!(key)) do
      {:error, %Error{reason: :unsupported, code: nil}} -> {:ok, nil}
      answer -> answer
    end
  end

  defp places(%Key{id: id}, nil), do: if(id in [nil, ""], do: [], else: [[id: id]])

  defp places(%Key{id: id, label: label}, _public) do
    names = for {name, value} <- [id: id, label: label], value not in [nil, ""], do: {name, value}
    Enum.uniq([names | for(name <- names, do: [name])] ++ [[]])
  end

  defp look(_target, [], _public, key), do: none(key)

  defp look(target, [names | rest], public, key) do
    template = Attribute.encode!([class: :certificate] ++ names)

    with {:ok, handles} <- Call.run(target, {:find, template, @most}),
         {:ok, ders, unread} <- ders(target, handles, public) do
      case Enum.uniq(ders) do
        [] when unread == [] or rest != [] -> look(target, rest, public, key)
        [] -> {:error, hd(unread)}
        [der] -> {:ok, der}
        _several -> {:error, Error.new(:key_ambiguous, "certificates of #{inspect(key)}")}
      end
    end
  end

  defp ders(target, handles, public) do
    Enum.reduce_while(handles, {:ok, [], []}, fn handle, {:ok, ders, unread} ->
      case Keys.read(target, handle, [:class, :value]) do
        {:ok, read} -> {:cont, {:ok, of(read, public) ++ ders, unread}}
        {:error, error} -> unread(target, handle, error, ders, unread)
      end
    end)
  end

  # One that is gone, or cannot be read, spoils no other.
  defp unread(target, handle, error, ders, unread) do
    cond do
      Keys.gone?(target, handle, error) -> {:cont, {:ok, ders, unread}}
      Unread.one?(error) -> {:cont, {:ok, ders, [error | unread]}}
      true -> {:halt, {:error, error}}
    end
  end

  defp of(%{class: :certificate, value: <<_, _::binary>> = der} = read, public) do
    if public == nil or Decode.attributes(read) == {:ok, public}, do: [der], else: []
  end

  defp of(_something_else, _public), do: []

  defp none(key),
    do: {:error, Error.new(:key_not_found, "a certificate of #{inspect(key)}")}
end
