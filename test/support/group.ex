defmodule Cryptoki.Test.Group do
  @moduledoc false
  # Groups of tokens that hold the same keys, and tokens that fail on command among them.

  alias Cryptoki.Test.{FaultyModule, SoftHSM}

  @options [sessions: 4, timeout: 20_000, reconnect: [min: 1, max: 50]]
  @ec {:namedCurve, {1, 2, 840, 10045, 3, 1, 7}}

  @doc "A key of P-256, as `:public_key` has it."
  @spec key :: tuple
  def key, do: :public_key.generate_key(@ec)

  @doc "Its public half, for `:public_key.verify/4`."
  @spec public(tuple) :: tuple
  def public(key), do: {{:ECPoint, elem(key, 4)}, elem(key, 3)}

  @doc "A token that fails on command, with its instance of this name, and the keys on it."
  @spec member(atom, [{String.t(), tuple}], keyword) :: FaultyModule.t()
  def member(name, keys, more \\ []) do
    module = FaultyModule.new(labels: [SoftHSM.label()], token: :softhsm2)
    start(module, name, more)
    for {label, key} <- keys, do: {:ok, _} = import_key(name, key, label)
    module
  end

  @doc "Its instance."
  @spec start(FaultyModule.t(), atom, keyword) :: pid
  def start(module, name, more \\ []) do
    options = Keyword.merge([name: name] ++ @options, more)
    spec = Supervisor.child_spec({Cryptoki, FaultyModule.options(module, options)}, id: name)
    ExUnit.Callbacks.start_supervised!(spec)
  end

  @spec import_key(term, tuple, String.t()) :: {:ok, term} | {:error, term}
  def import_key(hsm, key, label),
    do: Cryptoki.import_key(hsm, key, label: label, id: <<1>>, token: true, sign: true)

  @doc "Whether a signature of ECDSA is one of the key."
  @spec valid?(binary, binary, tuple) :: boolean
  def valid?(signature, data, key), do: :public_key.verify(data, :sha256, signature, public(key))

  @doc "Waits until the group says so."
  @spec await(term, (map -> boolean)) :: map
  def await(group, holds?) do
    {:ok, status} = Cryptoki.Group.status(group)
    if holds?.(status), do: status, else: await(group, holds?)
  end

  @doc "What the group says of a member."
  @spec of(map, term) :: map
  def of(status, member), do: Enum.find(status.members, &(&1.member == member))
end
