defmodule Cryptoki.Group.Arguments do
  @moduledoc false
  # The keys in the arguments of a call: where the row of its verb says, in the arguments of its mechanism, and in
  # the options that have a second operation. Read once, and put in for each member that is asked.

  import Cryptoki.Names, only: [is_proper_list: 1]

  alias Cryptoki.{Key, Mechanism, URI}
  alias Cryptoki.Group.{Proofs, Verbs}

  @second [:sign, :verify]

  @doc "The keys that a call names."
  @spec keys([term], Verbs.row()) :: [Proofs.used()]
  def keys(_arguments, {_where, _again, [], nil}), do: []

  def keys(arguments, {_where, _again, keys, mechanism}) do
    named =
      for {at, use} <- keys, selector <- [at(arguments, at)], selector != nil, do: {use, selector}

    named ++ inner(mechanism && at(arguments, mechanism)) ++ second(arguments, keys)
  end

  defp at([argument | _rest], 0), do: argument
  defp at([_argument | rest], at), do: at(rest, at - 1)
  defp at([], _at), do: nil

  @doc "The arguments with what `put` gives in the place of each key."
  @spec put([term], Verbs.row(), (Proofs.used() -> term)) :: [term]
  def put(arguments, {_where, _again, [{at, use}], mechanism}, put) do
    arguments
    |> replace(at, &put_one(&1, use, put))
    |> replace_mechanism(mechanism, put)
    |> replace_second(use, put)
  end

  def put(arguments, {_where, _again, keys, mechanism}, put) do
    keys
    |> Enum.reduce(arguments, fn {at, use}, arguments ->
      replace(arguments, at, &put_one(&1, use, put))
    end)
    |> replace_mechanism(mechanism, put)
  end

  defp put_one(nil, _use, _put), do: nil
  defp put_one(selector, use, put), do: put.({use, selector})

  defp replace([first | rest], 0, fun), do: [fun.(first) | rest]
  defp replace([first | rest], at, fun), do: [first | replace(rest, at - 1, fun)]

  ## In a mechanism

  defp inner({_name, arguments} = mechanism) do
    if names_keys?(arguments) do
      {:ok, _mechanism} = Mechanism.resolve_keys(mechanism, &{:ok, noted(&1)})
      noted()
    else
      []
    end
  end

  defp inner(_mechanism), do: []

  # `Mechanism.resolve_keys/2` answers the mechanism: what it came across is noted beside it.
  @noted {__MODULE__, :noted}

  defp noted(selector) do
    Process.put(@noted, [{:any, selector} | Process.get(@noted, [])])
    selector
  end

  defp noted, do: @noted |> Process.delete() |> List.wrap() |> Enum.reverse()

  # Most arguments are numbers and bytes.
  defp names_keys?(arguments) when is_proper_list(arguments) or is_map(arguments) do
    not is_struct(arguments) and
      Enum.any?(arguments, fn
        {_name, value} -> may_name?(value)
        _other -> false
      end)
  end

  defp names_keys?(_arguments), do: false

  defp may_name?([{name, _value} | _]) when is_atom(name), do: true
  defp may_name?(%Key{}), do: true
  defp may_name?(%URI{}), do: true
  defp may_name?(value) when is_map(value), do: true
  defp may_name?("pkcs11:" <> _), do: true
  defp may_name?({_name, arguments}), do: names_keys?(arguments)
  defp may_name?(_other), do: false

  defp replace_mechanism(arguments, nil, _put), do: arguments

  defp replace_mechanism(arguments, at, put) do
    replace(arguments, at, fn
      {_name, inner} = mechanism ->
        if names_keys?(inner) do
          {:ok, mechanism} = Mechanism.resolve_keys(mechanism, &{:ok, wanted(put.({:any, &1}))})
          mechanism
        else
          mechanism
        end

      mechanism ->
        mechanism
    end)
  end

  defp wanted(%Key{} = key), do: {:key, key}
  defp wanted(selector), do: Proofs.wanted!(:any, selector)

  ## In the options of two operations at once

  defp second(arguments, [{_at, use}]) when use in [:encrypt, :decrypt] do
    options = List.last(arguments)

    for name <- @second,
        {selector, _mechanism} <- [head(Verbs.option(options, name))],
        do: {name, selector}
  end

  defp second(_arguments, _keys), do: []

  defp head({selector, mechanism}), do: {selector, mechanism}
  defp head({selector, mechanism, _signature}), do: {selector, mechanism}
  defp head(_none), do: nil

  defp replace_second(arguments, use, _put) when use not in [:encrypt, :decrypt], do: arguments

  defp replace_second(arguments, _use, put) do
    options = List.last(arguments)

    case Enum.find(@second, &(head(Verbs.option(options, &1)) != nil)) do
      nil ->
        arguments

      name ->
        second = Verbs.option(options, name)
        second = put_elem(second, 0, put.({name, elem(second, 0)}))
        List.replace_at(arguments, -1, Enum.into([{name, second}], Map.new(options)))
    end
  end
end
