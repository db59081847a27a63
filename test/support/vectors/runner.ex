defmodule Cryptoki.Test.Vectors.Runner do
  @moduledoc false
  # Runs the tests of a family on a token and compares what comes of it with what was published: a valid
  # one has to agree, an invalid one to be an error (never an exception), an acceptable one is either.

  alias Cryptoki.Error
  alias Cryptoki.Test.Vectors.Families

  @at_once 6
  @chunk 40
  # They say nothing of the vector.
  @broken ~w[timeout busy shutdown token_absent locked session_lost stale_handle key_not_found panic
             module_misbehaved operation_active operation_not_initialized session_handle_invalid
             function_not_supported]a

  # Whose input is the caller's own.
  @ours ~w[sign sign_stream sign_steps encrypt encrypt_stream encrypt_lazily encrypt_steps message_encrypt
           message_encrypt_parts wrap generate derive]a

  @type result :: %{
          vectors: non_neg_integer,
          asked: non_neg_integer,
          agree: non_neg_integer,
          disagree: [map],
          not_run: %{String.t() => non_neg_integer},
          ways: %{(:one_call | :pieces | :message) => non_neg_integer}
        }

  @doc "All tests of a family, or a fixed sample; `place` has `:token` and `:hsm`."
  @spec run(map, Families.t(), :all | :sample) :: result
  def run(place, family, which) do
    family
    |> Families.groups(which)
    |> Enum.flat_map(&chunks/1)
    |> Task.async_stream(&unit(place, family, &1),
      max_concurrency: @at_once,
      ordered: false,
      timeout: :infinity
    )
    |> Enum.reduce(none(), fn {:ok, result}, sum -> add(sum, result) end)
  end

  defp none, do: %{vectors: 0, asked: 0, agree: 0, disagree: [], not_run: %{}, ways: %{}}

  defp add(one, other) do
    Map.merge(one, other, fn
      :disagree, a, b -> a ++ b
      name, a, b when name in [:not_run, :ways] -> Map.merge(a, b, fn _key, m, n -> m + n end)
      _number, a, b -> a + b
    end)
  end

  defp chunks(group) do
    for tests <- Enum.chunk_every(group["tests"], @chunk), do: %{group | "tests" => tests}
  end

  defp unit(place, family, %{"tests" => tests} = group) do
    case family.plan.(place, group) do
      {:not_run, why} ->
        %{none() | not_run: %{why => length(tests)}}

      %{key: by_test} = plan when is_function(by_test) ->
        for test <- tests, reduce: none() do
          sum -> with_key(place.hsm, by_test.(test), &add(sum, one(place, plan, &1, group, test)))
        end

      plan ->
        with_key(place.hsm, plan.key, fn key ->
          Enum.reduce(tests, none(), &add(&2, one(place, plan, key, group, &1)))
        end)
    end
  end

  # The answer that has no key is the answer to each question.
  defp with_key(_hsm, nil, fun), do: fun.({:ok, nil})

  defp with_key(hsm, template, fun) do
    case asked(fn -> Cryptoki.create(hsm, template) end) do
      {:ok, key} = created ->
        result = fun.(created)
        _ = Cryptoki.destroy(hsm, key)
        result

      refused ->
        fun.(refused)
    end
  end

  defp one(place, plan, key, group, test) do
    case Map.get(plan, :only, fn _test -> :ok end).(test) do
      :ok -> ways(place, plan, key, group, test)
      {:not_run, why} -> %{none() | not_run: %{why => 1}}
    end
  end

  defp ways(_place, %{ways: []}, _key, _group, _test),
    do: %{none() | not_run: %{"no mechanism with this hash" => 1}}

  defp ways(place, plan, key, group, test) do
    for {name, which, ask, expected} <- plan.ways,
        for?(which, test),
        reduce: %{none() | vectors: 1} do
      sum ->
        answer = with {:ok, key} <- key, do: asked(fn -> ask.(place.hsm, key, test) end)
        answer = if name in @ours, do: refused(answer), else: answer
        result = %{none() | asked: 1, ways: %{kind(to_string(name)) => 1}}

        add(
          sum,
          case judge(test["result"], answer, expected, test) do
            :agree -> %{result | agree: 1}
            {kind, text} -> %{result | disagree: [disagreement(group, test, name, kind, text)]}
          end
        )
    end
  end

  defp kind(way) do
    cond do
      way =~ "message_" -> :message
      way =~ ~r/stream|steps|lazily/ -> :pieces
      true -> :one_call
    end
  end

  defp for?(:all, _test), do: true
  defp for?(:valid, test), do: test["result"] == "valid"
  defp for?(which, test), do: which.(test)

  # ArgumentError is for what only the programmer writes; what travels with the data of others is an error.
  defp refused({:raised, %ArgumentError{} = exception}),
    do: {:error, Error.new(:invalid_argument, Exception.message(exception))}

  defp refused(answer), do: answer

  defp disagreement(group, test, way, kind, text) do
    %{
      file: group["file"],
      test: test["tcId"],
      way: way,
      result: test["result"],
      flags: test["flags"] || [],
      comment: test["comment"] || "",
      kind: kind,
      text: text,
      group: Map.delete(group, "tests"),
      data: test
    }
  end

  defp asked(fun) do
    fun.()
  rescue
    exception -> {:raised, exception}
  end

  defp judge(result, answer, expected, test)

  defp judge(_result, {:raised, exception}, _expected, _test),
    do: {:raised, "#{inspect(exception.__struct__)}: #{Exception.message(exception)}"}

  defp judge(_result, {:error, %Error{reason: reason} = error}, _expected, _test)
       when reason in @broken,
       do: {:broken, text(error)}

  defp judge("valid", {:error, error}, _expected, _test), do: {:refused, text(error)}
  defp judge(_result, {:error, _error}, _expected, _test), do: :agree
  defp judge("invalid", answer, _expected, _test), do: {:accepted, size(answer)}

  defp judge(_result, answer, expected, test),
    do: if(answer == expected.(test), do: :agree, else: {:differs, size(answer)})

  @doc "Disagreements as text: how many of each kind, and one of them."
  @spec explain([map]) :: String.t()
  def explain(disagreements) do
    disagreements
    |> Enum.group_by(&{&1.kind, &1.way, &1.result, &1.flags})
    |> Enum.map_join("\n", fn {{kind, way, result, flags}, [first | _] = all} ->
      "#{length(all)} #{kind}, #{way}, published as #{result} #{inspect(flags)}: #{first.text} " <>
        "(#{first.file} #{first.test}: #{first.comment})"
    end)
  end

  defp text(error), do: "#{error.function || "the library"} says #{error.reason}"

  defp size({:ok, bytes}) when is_binary(bytes), do: "#{byte_size(bytes)} bytes"
  defp size(_answer), do: ""
end
