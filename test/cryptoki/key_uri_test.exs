defmodule Cryptoki.KeyUriTest do
  # The URI made of an object names it and no other, or there is none: with it others are found, and
  # destroyed.
  use ExUnit.Case, async: false

  alias Cryptoki.{Error, Key}
  alias Cryptoki.Test.MainToken

  @parts [nil, "", "a", "b", "a b;c=/?", "ä€"]
  @ids [nil, "", "a", <<0, 255>>]

  test "of objects that differ in what they are called" do
    hsm = start_supervised!({Cryptoki, MainToken.own(sessions: 1)})

    objects =
      for label <- @parts, id <- @ids, class <- classes(), do: object(hsm, class, label, id)

    objects = Enum.reject(objects, &is_nil/1)
    assert length(objects) > 25

    for key <- Enum.shuffle(objects), {:ok, uri} <- [Key.uri(key)] do
      # Two have the same names where an absent one is read as an empty one.
      same = Enum.filter(objects, &(names(&1) == names(key)))
      assert {:ok, found} = Cryptoki.find(hsm, uri)
      assert Enum.sort(numbers(found)) == Enum.sort(numbers(same)), uri
    end

    {named, _nameless} = Enum.split_with(objects, &match?({:ok, _}, Key.uri(&1)))
    assert length(named) > 15

    # What was destroyed is nothing's URI, whatever is left.
    for key <- Enum.uniq_by(Enum.shuffle(named), &names/1) do
      uri = Key.to_uri(key)
      {:ok, same} = Cryptoki.find(hsm, uri)
      for one <- same, do: Cryptoki.destroy!(hsm, one)
      assert {:error, %Error{reason: :key_not_found}} = Cryptoki.destroy(hsm, uri)
      assert {:ok, []} = Cryptoki.find(hsm, uri)
    end
  end

  test "of random names" do
    hsm = start_supervised!({Cryptoki, MainToken.own(sessions: 1)})

    objects =
      for _ <- 1..60, key = object(hsm, Enum.random(classes()), random(), random()), do: key

    for key <- objects do
      case Key.uri(key) do
        {:ok, uri} ->
          {:ok, found} = Cryptoki.find(hsm, uri)
          assert key.handle in for(one <- found, do: one.handle)
          assert Enum.uniq(for one <- found, do: names(one)) == [names(key)]

        {:error, _sentence} ->
          assert_raise ArgumentError, fn -> Key.to_uri(key) end
      end
    end
  end

  defp random do
    case :rand.uniform(4) do
      1 -> ""
      2 -> :crypto.strong_rand_bytes(:rand.uniform(4))
      3 -> for _ <- 1..:rand.uniform(5), into: "", do: <<:rand.uniform(0x7E)>>
      4 -> <<:rand.uniform(0xD7FF)::utf8>>
    end
  end

  defp classes, do: [:secret_key, :data]

  defp object(hsm, class, label, id) do
    names = for {name, value} <- [label: label, id: id], value != nil, do: {name, value}

    case {class, id} do
      {:data, nil} -> create(hsm, [class: :data, value: "x"] ++ names)
      {:data, _id} -> nil
      {:secret_key, _id} -> create(hsm, secret() ++ names)
    end
  end

  defp secret, do: [class: :secret_key, key_type: :generic_secret, value: <<1::256>>]

  # Some tokens take no label that is not UTF-8.
  defp create(hsm, template) do
    case Cryptoki.create(hsm, template) do
      {:ok, key} -> key
      {:error, %Error{}} -> nil
    end
  end

  defp names(key), do: {key.class, key.label, key.id}
  defp numbers(keys), do: for(key <- keys, do: key.handle)
end
