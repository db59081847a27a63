defmodule Cryptoki.Referee.ObjectsTest do
  use Cryptoki.Test.Referee, async: true

  # Many objects: each is found, and a stream of all holds few at a time.

  @count 10_000
  @most 8 * 1024 * 1024

  on_each_token do
    @tag timeout: :infinity
    test "#{@count} objects", %{hsm: hsm} do
      all = [class: :data, application: "referee"]

      1..@count
      |> Enum.chunk_every(div(@count, 4))
      |> Task.async_stream(&make(hsm, &1), timeout: :infinity)
      |> Stream.run()

      labels = for object <- Cryptoki.find!(hsm, all), do: object.label
      assert Enum.sort(labels) == Enum.sort(for n <- 1..@count, do: "object #{n}")

      for n <- [1, 5_000, @count] do
        object = Cryptoki.find_one!(hsm, class: :data, label: "object #{n}")
        assert value(hsm, object) == <<n::64>>
      end

      assert {:error, %Error{reason: :key_ambiguous}} = Cryptoki.find_one(hsm, all)
      assert Cryptoki.find!(hsm, class: :data, label: "object 0") == []

      # In a process of its own, whose memory is that of the stream.
      {count, most} =
        Task.await(Task.async(fn -> watch(Cryptoki.stream(hsm, all)) end), :infinity)

      assert count == @count
      assert most < @most

      # Lazy: the token is asked for those that are wanted.
      assert [_, _, _] = hsm |> Cryptoki.stream(all) |> Enum.take(3)

      for object <- Cryptoki.stream(hsm, all), do: assert(Cryptoki.destroy(hsm, object) == :ok)
      assert Cryptoki.find!(hsm, all) == []
    end
  end

  defp make(hsm, numbers) do
    for n <- numbers do
      template = [class: :data, application: "referee", label: "object #{n}", value: <<n::64>>]
      Cryptoki.create!(hsm, template)
    end

    :ok
  end

  defp watch(objects) do
    Enum.reduce(objects, {0, 0}, fn _object, {count, most} ->
      {:memory, memory} = Process.info(self(), :memory)
      {count + 1, max(most, memory)}
    end)
  end
end
