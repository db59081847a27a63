defmodule Cryptoki.Bang do
  @moduledoc false
  # `bang sign(hsm, key, mechanism, data, opts) :: binary` defines `sign!` for `sign`, which answers
  # the value or raises the error. Arguments are written as their types; `opts` may be left out.

  defmacro bang({:"::", _meta, [{name, _call_meta, types}, result]}) do
    twin = :"#{name}!"
    arity = length(types)
    arguments = Macro.generate_unique_arguments(arity, __MODULE__) |> named(types)

    parameters =
      if match?({:opts, _, _}, List.last(types)),
        do: List.update_at(arguments, -1, &quote(do: unquote(&1) \\ [])),
        else: arguments

    value = Macro.var(:value, __MODULE__)
    {answered, answer} = if result == :ok, do: {:ok, :ok}, else: {{:ok, value}, value}

    # Not every clause can be reached for every function: dialyzer need not say so.
    quote generated: true do
      @doc unquote(doc(__CALLER__.module, name, arity, arguments))
      @spec unquote(twin)(unquote_splicing(types)) :: unquote(result)
      def unquote(twin)(unquote_splicing(parameters)) do
        case unquote(name)(unquote_splicing(arguments)) do
          {:error, error} -> raise error
          unquote(answered) -> unquote(answer)
        end
      end
    end
  end

  defp doc(module, name, arity, arguments) do
    arguments = Enum.map_join(arguments, ", ", &Atom.to_string(elem(&1, 0)))

    """
    As `#{name}/#{arity}`: answers what is in its `{:ok, value}` and raises its `Cryptoki.Error`.

        #{inspect(module)}.#{name}!(#{arguments})
    """
  end

  defp named(unique, types) do
    for {{_unique, meta, context}, type} <- Enum.zip(unique, types) do
      case type do
        {:"::", _, [{name, _, _}, _type]} -> {name, meta, context}
        {name, _, _} -> {name, meta, context}
      end
    end
  end
end
