defmodule Cryptoki.Test.Group do
  @moduledoc false
  # Groups of tokens that hold the same keys, and tokens that fail on command among them.

  alias Cryptoki.Test.{FaultyModule, SoftHSM, Token}

  @options [sessions: 4, timeout: 20_000, reconnect: [min: 1, max: 50]]
  @ec {:namedCurve, {1, 2, 840, 10045, 3, 1, 7}}

  @doc "A key of P-256, as `:public_key` has it."
  @spec key :: tuple
  def key, do: :public_key.generate_key(@ec)

  @doc "One of RSA, whose modulus the private key shows: nothing has to be signed to prove which it is."
  @spec rsa_key :: tuple
  def rsa_key, do: :public_key.generate_key({:rsa, 2048, 65_537})

  @doc "Its public half, for `:public_key.verify/4`."
  @spec public(tuple) :: tuple
  def public(key), do: {{:ECPoint, elem(key, 4)}, elem(key, 3)}

  @doc "A token that fails on command, with its instance of this name, and the keys on it."
  @spec member(atom, [{String.t(), tuple}], keyword) :: FaultyModule.t()
  def member(name, keys, more \\ []) do
    {token, more} = Keyword.pop(more, :token, :softhsm2)
    module = FaultyModule.new(labels: [SoftHSM.label()], token: token)
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

  @doc "A group that nothing ends but `Cryptoki.stop/1`."
  @spec alone(keyword) :: {:ok, pid}
  def alone(options) do
    {:ok, group} = Cryptoki.Group.start_link(options)
    Process.unlink(group)
    {:ok, group}
  end

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

  ## Five members, of which one is well behaved

  @five ~w[hangs reboots another busy slow]a

  @doc """
  Five members: one that will hang, reboot, have another key of the name, be full, be slow; and their group. Who
  reboots has its library in a process of its own, and so has who is slow, which is of Kryoptic where that is built.
  """
  @spec five(atom) :: %{
          key: tuple,
          group: atom,
          names: %{atom => atom},
          modules: %{atom => FaultyModule.t()}
        }
  def five(group) do
    key = rsa_key()
    names = Map.new(@five, &{&1, Module.concat(group, &1)})

    modules =
      for {kind, name} <- names, into: %{} do
        keys = [{"invoice", if(kind == :another, do: rsa_key(), else: key)}]
        {kind, member(name, keys, five_options(kind))}
      end

    members = for kind <- @five, do: names[kind]

    options = [
      name: group,
      members: members,
      reconnect: [min: 20, max: 1_000],
      timeout: :infinity
    ]

    ExUnit.Callbacks.start_supervised!({Cryptoki.Group, options})
    %{key: key, group: group, names: names, modules: modules}
  end

  defp five_options(:hangs), do: [sessions: 2, timeout: 1_000]
  defp five_options(:busy), do: [sessions: 1, queue_limit: 1]
  defp five_options(:another), do: [sessions: 4]
  defp five_options(:reboots), do: [sessions: 4, isolation: :process]

  defp five_options(:slow) do
    token = if Token.library(:kryoptic), do: :kryoptic, else: :softhsm2
    [sessions: 4, isolation: :process, token: token]
  end

  @doc "What goes wrong with them."
  @spec disturb(map) :: :ok
  def disturb(%{modules: modules}) do
    FaultyModule.control(modules.hangs, "C_Sign hang")
    FaultyModule.control(modules.busy, "C_Sign delay=3")
    FaultyModule.control(modules.slow, "C_Sign delay=15")
  end

  @doc "Nothing any more."
  @spec calm(map) :: :ok
  def calm(%{modules: modules}),
    do: Enum.each(modules, fn {_kind, module} -> FaultyModule.control(module, "") end)

  @doc """
  So many callers sign so often, each its own data; what came of it: `:ok`, how long each took in microseconds, the
  errors, and how often a token has signed. A wrong signature raises. `reboots?` is whether one of them reboots meanwhile.
  """
  @spec sign(map, pos_integer, pos_integer, reboots? :: boolean) :: map
  def sign(%{modules: modules} = five, callers, calls, reboots? \\ true) do
    marks = Map.new(modules, fn {kind, module} -> {kind, FaultyModule.mark(module)} end)

    answers =
      1..callers
      |> Task.async_stream(&caller(five, &1, calls, reboots?),
        timeout: :infinity,
        max_concurrency: callers
      )
      |> Enum.flat_map(fn {:ok, answers} -> answers end)

    signed =
      for {kind, module} <- modules, into: %{} do
        calls = FaultyModule.since(module, marks[kind])

        {kind,
         Enum.count(calls, &match?({"C_Sign", event, "0x0"} when event in ~w[ran released], &1))}
      end

    %{
      ok: Enum.count(answers, &match?({:ok, _}, &1)),
      times: for({:ok, time} <- answers, do: time) |> Enum.sort(),
      errors: for({:error, error} <- answers, do: error),
      signed: signed
    }
  end

  defp caller(five, number, calls, reboots?) do
    for n <- 1..calls do
      # The first of them is who presses the button.
      if reboots? and number == 1 and rem(n, 10) == 0,
        do: FaultyModule.control(five.modules.reboots, "sessions forget")

      one(five, number, n)
    end
  end

  defp one(%{key: key, group: group}, number, n) do
    data = "#{number} #{n}"

    {time, answer} =
      :timer.tc(fn -> Cryptoki.sign(group, [label: "invoice"], :sha256_rsa_pkcs, data) end)

    with {:ok, signature} <- answer do
      {:RSAPrivateKey, _, modulus, exponent, _, _, _, _, _, _, _} = key
      true = :public_key.verify(data, :sha256, signature, {:RSAPublicKey, modulus, exponent})
      {:ok, time}
    end
  end
end
