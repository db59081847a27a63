defmodule Cryptoki.Group.Options do
  @moduledoc false
  # The options of a group.

  alias Cryptoki.Options.Table

  @reconnect [min: 200, max: 30_000]
  @failover [:sign, :encrypt, :wrap_key]

  @options [
    name: [
      cast: :name,
      type: "atom",
      must: "an atom",
      doc: "what the functions of `Cryptoki` know the group by, besides its pid"
    ],
    members: [
      needed: true,
      cast: {__MODULE__, :members},
      type: "[atom | pid | {atom, node}] | {:pg, term} | {:pg, scope :: atom, term}",
      must:
        "a list of instances (names, pids, {name, node}), or {:pg, group} or {:pg, scope, group}",
      doc: "the instances, of this node and others, or a group of `:pg` that they have joined"
    ],
    writes: [
      cast: {__MODULE__, :member},
      type: "atom | pid | {atom, node}",
      must: "one of the members",
      doc:
        "the member on which objects of the token are made, changed and destroyed; without it there is none"
    ],
    failover: [
      cast: {__MODULE__, :failover},
      default: [],
      type: "[sign: boolean, encrypt: boolean, wrap_key: boolean]",
      must: "a keyword list of #{Enum.map_join(@failover, ", ", &"#{&1}:")} with true or false",
      doc:
        "verbs that run again on another member though the first may have executed them: a signature more " <>
          "than was asked for, or an IV of the token's that nobody sees"
    ],
    timeout: [
      cast: :timeout,
      default: 10_000,
      type: "timeout",
      must: "milliseconds, at least 1, or :infinity",
      doc:
        "how long after the beginning of a call, that does not say so itself, another member is asked, in ms. One " <>
          "member takes as long as its own `timeout:` says"
    ],
    reconnect: [
      cast: {:pauses, @reconnect},
      default: @reconnect,
      type: "[min: pos_integer, max: pos_integer]",
      must: "a keyword list with min: and max:, milliseconds",
      doc: "how long a member that is out is left alone, longer each time, in ms"
    ]
  ]

  @spec cast!(keyword | map) :: map
  def cast!(options) do
    options = Table.cast!(options, @options, "option of a group", &cast/2)

    case options do
      %{writes: writes, members: members} when writes != nil and is_list(members) ->
        unless writes in members, do: raise(ArgumentError, "writes: must be one of the members")

      _any ->
        :ok
    end

    options
  end

  @doc "As Markdown."
  @spec docs() :: String.t()
  def docs, do: Table.docs(@options)

  @doc "Their type, quoted."
  @spec type() :: Macro.t()
  def type, do: unquote(Macro.escape(Table.type(@options)))

  defp cast({__MODULE__, :member}, member), do: member(member)

  defp cast({__MODULE__, :members}, {:pg, _group} = pg), do: {:ok, pg}
  defp cast({__MODULE__, :members}, {:pg, scope, _group} = pg) when is_atom(scope), do: {:ok, pg}

  defp cast({__MODULE__, :members}, [_ | _] = members) do
    cast = for member <- members, do: member(member)

    cond do
      false in cast -> false
      length(Enum.uniq(cast)) != length(cast) -> {:error, "names one of them twice"}
      true -> {:ok, Enum.map(cast, &elem(&1, 1))}
    end
  end

  defp cast({__MODULE__, :failover}, verbs) do
    verbs = if is_map(verbs), do: Map.to_list(verbs), else: verbs

    Keyword.keyword?(verbs) and
      Enum.all?(verbs, fn {verb, on} -> verb in @failover and is_boolean(on) end) and
      {:ok, for({verb, true} <- verbs, uniq: true, do: verb)}
  end

  defp cast({__MODULE__, _other}, _value), do: false
  defp cast(kind, value), do: Table.cast(kind, value)

  # One of this node is its name.
  defp member({name, node}) when is_atom(name) and node == node(), do: member(name)

  defp member({name, node}) when is_atom(name) and is_atom(node) and name != nil,
    do: {:ok, {name, node}}

  defp member(pid) when is_pid(pid), do: {:ok, pid}
  defp member(name) when is_atom(name) and name not in [nil, true, false], do: {:ok, name}
  defp member(_other), do: false
end
