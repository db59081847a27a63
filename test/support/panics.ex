defmodule Cryptoki.Test.Panics do
  @moduledoc false
  # A VM of its own whose native code panics where it is told to (native/cryptoki_nif/src/inject.rs). The
  # functions below `In that VM` run there.

  alias Cryptoki.{HSM, Instances, Native}
  alias Cryptoki.Test.SoftHSM

  @root Path.expand("../..", __DIR__)

  @doc "Builds the native library with the feature; cargo knows whether there is anything to do."
  @spec build :: Path.t()
  def build do
    command = ~w(build --locked --quiet -p cryptoki_nif --features inject-panics)
    opts = [cd: @root, env: [{"CARGO_TARGET_DIR", cache()}], stderr_to_stdout: true]
    {_output, 0} = System.cmd("cargo", command, opts)
    Path.join(cache(), "debug/libcryptoki_nif.so")
  end

  @doc "cargo's cache of that build."
  @spec cache :: Path.t()
  def cache, do: Path.expand("../inject", Mix.Project.build_path())

  @doc """
  An application directory like the one in use, with another native library under the name that the loader
  accepts.
  """
  @spec application(Path.t(), Path.t()) :: Path.t()
  def application(folder, library) do
    app = Path.join(folder, "cryptoki")
    native = Path.join(app, "priv/native")
    File.mkdir_p!(native)
    File.cp_r!(Application.app_dir(:cryptoki, "ebin"), Path.join(app, "ebin"))
    bytes = File.read!(library)
    md5 = bytes |> :erlang.md5() |> Base.encode16(case: :lower)
    name = "cryptoki_nif-#{Mix.Project.config()[:version]}-inject-#{md5}.so"
    File.write!(Path.join(native, name), bytes)
    File.write!(Path.join(native, "current"), name <> "\n")
    Path.join(app, "ebin")
  end

  @doc "A VM on that application; what it writes to stderr goes to `folder`/stderr."
  @spec start_peer(Path.t(), Path.t()) :: pid
  def start_peer(folder, ebin) do
    erl = Path.join([:code.root_dir(), "bin", "erl"])
    stderr = Path.join(folder, "stderr")
    elixir = for app <- [:elixir, :logger], do: Application.app_dir(app, "ebin")

    {:ok, peer, _node} =
      :peer.start_link(%{
        connection: :standard_io,
        wait_boot: 300_000,
        exec: {~c"/bin/sh", [~c"-c", ~c"exec \"$@\" 2>>'#{stderr}'", ~c"sh", to_charlist(erl)]},
        args: Enum.flat_map([ebin | elixir], &[~c"-pa", to_charlist(&1)]),
        # Answers come as messages: that the NIF does not find them first is no chance.
        env: [
          {~c"CRYPTOKI_INJECT_PANIC", to_charlist(places(folder))},
          {~c"CRYPTOKI_LOOK", ~c"0"}
        ]
      })

    {:ok, _} = :peer.call(peer, :application, :ensure_all_started, [:cryptoki], :infinity)
    :ok = :peer.call(peer, :logger, :set_primary_config, [:level, :none], :infinity)
    peer
  end

  @doc "Says where the native code panics next."
  @spec arm(Path.t(), [binary]) :: :ok
  def arm(folder, places), do: File.write!(places(folder), Enum.join(places, "\n"))

  @doc "Where it has not panicked yet."
  @spec armed(Path.t()) :: [binary]
  def armed(folder), do: folder |> places() |> File.read!() |> String.split("\n", trim: true)

  defp places(folder), do: Path.join(folder, "places")

  ## In that VM

  @doc "Starts an instance that nothing ends but `Cryptoki.stop/1`."
  @spec start(keyword) :: {:ok, pid} | {:error, term}
  def start(options) do
    alone(fn ->
      with {:ok, hsm} <- Cryptoki.start_link(options) do
        Process.unlink(hsm)
        {:ok, hsm}
      end
    end)
  end

  @doc "Calls a NIF with arguments that are right: what it answers or raises."
  @spec call(atom, pid, Path.t()) :: term
  def call(nif, hsm, library) do
    alone(fn ->
      {:ok, target} = HSM.target(hsm)
      arguments = arguments(nif, %{target: target, library: library})

      try do
        apply(Native, nif, arguments)
      rescue
        error -> {:raised, error}
      end
    end)
  end

  @doc "Runs a function in a process of its own, whose resources are let go when it ends."
  @spec alone((() -> answer)) :: answer when answer: term
  def alone(fun) do
    caller = self()
    ref = make_ref()
    {_pid, monitor} = spawn_monitor(fn -> send(caller, {ref, fun.()}) end)

    receive do
      {:DOWN, ^monitor, _, _, reason} ->
        receive do
          {^ref, answer} -> answer
        after
          0 -> {:exit, reason}
        end
    end
  end

  @doc "Four processes that sign without pause, and crash when that fails."
  @spec sign_for_ever(pid) :: :ok
  def sign_for_ever(hsm) do
    {:ok, {_public, private}} =
      Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, curve: :secp256r1, token: false)

    :persistent_term.put(
      {__MODULE__, hsm},
      for(_ <- 1..4, do: spawn(fn -> sign(hsm, private, 0) end))
    )
  end

  @doc "How many signatures they have made; all of them are alive."
  @spec signatures(pid) :: non_neg_integer
  def signatures(hsm) do
    for signer <- :persistent_term.get({__MODULE__, hsm}), reduce: 0 do
      count ->
        true = Process.alive?(signer)
        send(signer, {:count, self()})
        receive(do: ({:signed, n} -> count + n))
    end
  end

  defp sign(hsm, key, count) do
    {:ok, _signature} = Cryptoki.sign(hsm, key, :ecdsa_sha256, "data")

    receive do
      {:count, from} -> send(from, {:signed, count + 1})
    after
      0 -> :ok
    end

    sign(hsm, key, count + 1)
  end

  @doc "Makes the function that a TLS listener has of a key, and keeps it."
  @spec keep_sign_fun(pid) :: :ok
  def keep_sign_fun(hsm) do
    template = [curve: :secp256r1, token: false]
    {:ok, {_public, private}} = Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, template)

    :persistent_term.put(
      :sign_fun,
      Cryptoki.SSL.SignFun.new(Cryptoki.SSL, [hsm, private, :ecdsa, []])
    )
  end

  @doc "Signs with it."
  @spec sign_by_fun(binary) :: binary
  def sign_by_fun(data), do: :persistent_term.get(:sign_fun).(data, :sha256, [])

  @doc "Kills the processes of an instance and waits until it is connected anew; how it is logged in then."
  @spec reconnect(pid) :: atom
  def reconnect(hsm) do
    server = Instances.get(hsm, :server)
    Process.exit(server, :kill)
    reconnected(hsm, server)
  end

  defp reconnected(hsm, before) do
    case {Instances.get(hsm, :server), Cryptoki.status(hsm)} do
      {now, {:ok, %{state: :ready, login: login}}} when now != before -> login
      {now, {:ok, %{state: :locked, reason: reason}}} when now != before -> reason
      _not_yet -> reconnected(hsm, before)
    end
  end

  @doc "A process that holds a session of its own and is killed."
  @spec die_leased(pid) :: :ok
  def die_leased(hsm) do
    caller = self()

    {pid, monitor} =
      spawn_monitor(fn ->
        Cryptoki.with_session(hsm, fn _session ->
          send(caller, :leased)
          Process.sleep(:infinity)
        end)
      end)

    receive(do: (:leased -> Process.exit(pid, :kill)))
    receive(do: ({:DOWN, ^monitor, _, _, _} -> :ok))
  end

  @doc "A call, from a process of its own."
  @spec random_alone(pid) :: term
  def random_alone(hsm), do: alone(fn -> Cryptoki.random(hsm, 8) end)

  @doc "A call in a session of one's own."
  @spec random_leased(pid) :: term
  def random_leased(hsm),
    do: Cryptoki.with_session(hsm, fn session -> Cryptoki.random(session, 8) end)

  @doc "A call that needs a second session."
  @spec random_beside_leased(pid) :: term
  def random_beside_leased(hsm),
    do: Cryptoki.with_session(hsm, fn _session -> Cryptoki.random(hsm, 8) end)

  @doc "Leaves an operation half done in a session of one's own."
  @spec leave_dirty(pid) :: term
  def leave_dirty(hsm) do
    Cryptoki.with_session(hsm, fn session ->
      {:ok, operation} = Cryptoki.start(session, :digest, :sha256)
      :ok = Cryptoki.Operation.update(operation, "half")
    end)
  end

  defp arguments(:version, _), do: []
  defp arguments(:open, %{library: library}), do: [make_ref(), library, nil, false, [], nil, nil]
  defp arguments(:close, context), do: [make_ref(), opened(context)]
  defp arguments(:control, %{target: target}), do: [make_ref(), target.library, {:slots}]
  defp arguments(:job, %{target: target}), do: [make_ref(), target.library, {:events}]
  defp arguments(:inside, context), do: [make_ref(), scratch(context)]
  defp arguments(:kill, %{target: target}), do: [target.library, "it hangs"]
  defp arguments(:instance_new, %{target: target}), do: [target.library, 10]
  defp arguments(:instance_state, context), do: [scratch(context), :absent]
  defp arguments(:instance_info, context), do: [scratch(context)]
  defp arguments(:bump_epoch, context), do: [scratch(context)]
  defp arguments(:handle_standing, context), do: [make_ref(), scratch(context), {1, 1, 1}]

  defp arguments(:login, context),
    do: [make_ref(), scratch(context), token_in_slot(context), 1, SoftHSM.pin(), nil]

  defp arguments(:session_open, context),
    do: [make_ref(), scratch(context), token_in_slot(context)]

  defp arguments(:session_id, context), do: [session(context)]
  defp arguments(:session_overdue, context), do: [session(context)]
  defp arguments(:session_close, context), do: [make_ref(), session(context)]
  defp arguments(:submit, %{target: target}), do: [make_ref(), target.native, {:random, 8}]
  defp arguments(:lease_session, %{target: target}), do: [make_ref(), target.native]

  defp arguments(:end_lease, %{target: target}) do
    ref = make_ref()
    {:ok, _request, leased} = Native.lease_session(ref, target.native)
    :ok = await(ref)
    [leased]
  end

  defp arguments(give_up, %{target: target}) when give_up in [:cancel, :withdraw] do
    {:ok, request} = Native.submit(make_ref(), target.native, {:random, 8})
    [request]
  end

  # Sessions are opened for it, but none of them answers its instance's callers.
  defp scratch(%{target: target}), do: Native.instance_new(target.library, 10)

  defp token_in_slot(%{target: target}) do
    %{slot: slot, token: token} = Instances.get(target.instance, :facts)
    {slot, Instances.identity(token), true}
  end

  defp opened(%{library: library}) do
    ref = make_ref()
    {:ok, _request} = Native.open(ref, library, nil, false, [], nil, nil)
    {:ok, opened} = await(ref)
    opened
  end

  defp session(context) do
    ref = make_ref()
    {:ok, _request} = Native.session_open(ref, scratch(context), token_in_slot(context))
    {:ok, session} = await(ref)
    session
  end

  defp await(ref), do: receive(do: ({^ref, result, _times} -> result))
end
