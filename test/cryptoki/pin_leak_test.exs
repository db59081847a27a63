defmodule Cryptoki.PinLeakTest do
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Cryptoki.Test.{MainToken, SoftHSM}

  # What a `pin:` of {module, function, arguments} calls.
  def pin(part), do: part <> binary_part(SoftHSM.pin(), 4, 4)

  setup do
    file = Path.join(SoftHSM.directory(), "pin-#{System.unique_integer([:positive])}")
    File.write!(file, SoftHSM.pin() <> "\n")
    System.put_env("CRYPTOKI_TEST_PIN", SoftHSM.pin())
    on_exit(fn -> System.delete_env("CRYPTOKI_TEST_PIN") end)
    %{pin_file: file}
  end

  forms = [
    string: quote(do: SoftHSM.pin()),
    charlist: quote(do: String.to_charlist(SoftHSM.pin())),
    function: quote(do: fn -> SoftHSM.pin() end),
    closure: quote(do: fn -> var!(closed_over) end),
    mfa: quote(do: {__MODULE__, :pin, [binary_part(SoftHSM.pin(), 0, 4)]}),
    env: quote(do: {:env, "CRYPTOKI_TEST_PIN"}),
    file: quote(do: {:file, var!(context).pin_file}),
    uri: :uri
  ]

  for {form, pin} <- forms do
    test "a PIN given as #{form} is nowhere to be seen", context do
      _ = context
      closed_over = SoftHSM.pin()
      _ = closed_over

      opts =
        unquote(
          if pin == :uri,
            do: quote(do: [uri: MainToken.uri()] ++ MainToken.initialized()),
            else: quote(do: MainToken.options(pin: unquote(pin)))
        )

      search(opts)
    end
  end

  test "nor is a wrong one, nor the one that unlocks", _context do
    log =
      capture_log(fn ->
        {:ok, hsm} = Cryptoki.start_link(MainToken.own(pin: "40414243"))
        assert {:error, error} = Cryptoki.unlock(hsm, "50515253")
        shown = inspect([error, Cryptoki.status!(hsm), states(hsm), tables()], limit: :infinity)
        refute shown =~ "40414243"
        refute shown =~ "50515253"
        :ok = Cryptoki.unlock(hsm, SoftHSM.pin())
        refute_shown([states(hsm), tables()])
        Cryptoki.stop(hsm)
      end)

    refute log =~ "40414243"
    refute log =~ "50515253"
    refute_shown(log)
  end

  test "nor does a trace of every call in the VM show one", _context do
    options =
      MainToken.own(pin: {__MODULE__, :pin, [binary_part(SoftHSM.pin(), 0, 4)]}, sessions: 1)

    test = self()
    {:ok, modules} = :application.get_key(:cryptoki, :modules)
    modules = [:erlang, Kernel, System, File | Enum.reject(modules, &(inspect(&1) =~ "Test"))]
    Enum.each(modules, &Code.ensure_loaded!/1)

    tracer = spawn_link(fn -> traced(test, []) end)
    flags = [:call, :send, :receive, :procs, {:tracer, tracer}]
    show = [{:_, [], [{:return_trace}]}]
    for module <- modules, do: :erlang.trace_pattern({module, :_, :_}, show, [:local])
    :erlang.trace(:all, true, flags)

    hsm = start_supervised!({Cryptoki, options})
    template = [modulus_bits: 2048, always_authenticate: true, sign: true, token: true]
    {_public, key} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, template)
    {:ok, _} = Cryptoki.sign(hsm, key, :sha256_rsa_pkcs, "data")
    {:ok, _} = Cryptoki.sign(hsm, key, :sha256_rsa_pkcs, "data", pin: {:env, "CRYPTOKI_TEST_PIN"})
    {:ok, _} = Cryptoki.sign(hsm, key, :sha256_rsa_pkcs, {:stream, ["da", "ta"]})
    _ = Cryptoki.unlock(hsm, {:env, "CRYPTOKI_TEST_PIN"}, force: true)
    stop_supervised!(Cryptoki)

    opts = Keyword.take(options, [:library, :init_args])
    pins = [old: {:env, "CRYPTOKI_TEST_PIN"}, new: {:env, "CRYPTOKI_TEST_PIN"}]
    _ = Cryptoki.Token.set_pin(options[:token], pins ++ opts)

    :erlang.trace(:all, false, [:all])
    for module <- modules, do: :erlang.trace_pattern({module, :_, :_}, false, [:local])
    delivered = :erlang.trace_delivered(:all)
    assert_receive {:trace_delivered, :all, ^delivered}, 60_000
    send(tracer, :enough)
    assert_receive {:traced, shown}, 60_000
    # It has seen what there is to see.
    assert Enum.any?(shown, &match?({:trace, _, :call, {Cryptoki.Login, :log_in, _}}, &1))
    assert Enum.any?(shown, &match?({:trace, _, :call, {Cryptoki.Native, :submit, _}}, &1))
    assert Enum.filter(shown, &shows_pin?/1) == []
  end

  # The bytes may stand in the environment of a fun, which nothing prints.
  defp shows_pin?(term) do
    with {_at, _size} <- :binary.match(:erlang.term_to_binary(term), SoftHSM.pin()) do
      options = [limit: :infinity, printable_limit: :infinity, structs: false]
      digits = SoftHSM.pin() |> String.to_charlist() |> Enum.map_join(", ", &"#{&1}")
      texts = [inspect(term, options), inspect(term, [charlists: :as_lists] ++ options)]
      Enum.any?(texts, &(&1 =~ SoftHSM.pin() or &1 =~ digits))
    else
      :nomatch -> false
    end
  end

  defp traced(test, shown) do
    receive do
      :enough -> send(test, {:traced, shown})
      # A binary that is traced stays alive, and there are many.
      message -> traced(test, [message | shown])
    end
  end

  test "nor the arguments of what the native code refuses" do
    {:ok, hsm} = Cryptoki.start_link(MainToken.options())
    {:ok, target} = Cryptoki.HSM.target(hsm)

    {error, trace} =
      try do
        Cryptoki.Call.run(target, {:no_such_operation, "a PIN"})
      rescue
        error in ArgumentError -> {error, __STACKTRACE__}
      end

    refute Exception.format(:error, error, trace) =~ "a PIN"
    refute inspect(trace) =~ "a PIN"
    Cryptoki.stop(hsm)
  end

  test "nor one in a call" do
    hsm = start_supervised!({Cryptoki, MainToken.options()})

    log =
      capture_log(fn ->
        for opts <- [[pin: SoftHSM.pin(), timeuot: 1], %{pin: SoftHSM.pin(), tiemout: 1}] do
          error = catch_error(Cryptoki.sign(hsm, [label: "x"], :ecdsa, "", opts))
          refute_shown(Exception.message(error))
        end

        {:error, error} = Cryptoki.sign(hsm, [label: "x"], :ecdsa, "", pin: SoftHSM.pin())
        refute_shown([error, Exception.message(error)])
      end)

    refute_shown(log)
  end

  defp search(opts) do
    Process.flag(:trap_exit, true)
    collect_everything_logged()
    refute_shown(Cryptoki.child_spec(opts))

    {:ok, supervisor} = Supervisor.start_link([{Cryptoki, opts}], strategy: :one_for_one)
    [{Cryptoki, hsm, _type, _modules}] = Supervisor.which_children(supervisor)
    ready(hsm)

    refute_shown([
      :supervisor.get_childspec(supervisor, Cryptoki),
      :sys.get_status(supervisor),
      :sys.get_state(supervisor),
      states(hsm),
      tables()
    ])

    # A session, the token server, their supervisor, the instance: each crashes with a report of
    # its own where it can.
    [session | _sessions] = sessions(hsm)
    down(session, fn -> GenServer.cast(session, :what_nobody_sends) end)
    ready(hsm)
    server = child(hsm, Cryptoki.TokenServer)
    down(server, fn -> GenServer.cast(server, :what_nobody_sends) end)
    sessions = child(hsm, :sessions)
    down(sessions, fn -> Process.exit(sessions, :kill) end)
    down(hsm, fn -> Process.exit(hsm, :kill) end)
    Supervisor.stop(supervisor)

    {terms, texts} = logged()
    assert Enum.any?(texts, &(&1 =~ "what_nobody_sends"))
    assert Enum.any?(texts, &(&1 =~ "child_terminated"))
    refute_shown(terms)
    for text <- texts, do: refute(text =~ SoftHSM.pin())
  end

  defp down(pid, fun) do
    ref = Process.monitor(pid)
    fun.()
    assert_receive {:DOWN, ^ref, :process, ^pid, _reason}
  end

  defp ready(hsm) do
    case Cryptoki.status(hsm) do
      {:ok, %{state: :ready, sessions: %{open: open, wanted: open}}} -> :ok
      _not_yet -> ready(hsm)
    end
  end

  # Before anything filters or translates it: crash, supervisor and progress reports.
  defp collect_everything_logged do
    %{level: level, filters: filters} = :logger.get_primary_config()
    :ok = :logger.set_primary_config(:level, :all)
    # Newer Loggers stop the reports of supervisors here.
    :ok = :logger.set_primary_config(:filters, [])
    :ok = :logger.add_handler(__MODULE__, __MODULE__, %{config: self(), level: :all})

    on_exit(fn ->
      :logger.remove_handler(__MODULE__)
      :logger.set_primary_config(:level, level)
      :logger.set_primary_config(:filters, filters)
    end)
  end

  # The callback of a handler of :logger.
  def log(event, %{config: test}) do
    formatted = :logger_formatter.format(event, %{single_line: false})
    send(test, {:logged, event, IO.chardata_to_string(formatted)})
  end

  defp logged(terms \\ [], texts \\ []) do
    receive do
      {:logged, term, text} -> logged([term | terms], [text | texts])
    after
      0 -> {terms, texts}
    end
  end

  defp child(hsm, id) do
    {^id, pid, _type, _modules} = hsm |> Supervisor.which_children() |> List.keyfind(id, 0)
    if is_pid(pid), do: pid, else: child(hsm, id)
  end

  defp sessions(hsm) do
    children = hsm |> child(:sessions) |> DynamicSupervisor.which_children()
    for {_id, pid, _type, _modules} <- children, is_pid(pid), do: pid
  end

  defp processes(hsm),
    do: [child(hsm, :sessions), child(hsm, Cryptoki.TokenServer) | sessions(hsm)]

  defp states(hsm) do
    for pid <- [hsm | processes(hsm)] do
      [:sys.get_status(pid), :sys.get_state(pid), Process.info(pid)]
    end
  end

  # Of all that is in them a failure would show the beginning: which it is in is said here.
  defp tables do
    tables = for table <- :ets.all(), info = :ets.info(table), is_list(info), do: {table, info}

    for {table, info} <- tables do
      rows = rows(table)
      shows = for row <- rows, shown = shown(row), shown =~ SoftHSM.pin(), do: shown
      assert shows == [], "in #{info[:name]} of #{inspect(info[:owner])}: #{shows}"
      rows
    end
  end

  defp rows(table) do
    :ets.tab2list(table)
  rescue
    ArgumentError -> []
  end

  defp shown(term),
    do: inspect(term, limit: :infinity, printable_limit: :infinity, structs: false)

  # As Elixir prints it, as Erlang does, and as it is on the wire without the environments of funs,
  # which nothing prints.
  defp refute_shown(term) do
    pin = SoftHSM.pin()
    refute shown(term) =~ pin
    refute inspect(term, limit: :infinity, printable_limit: :infinity) =~ pin
    refute IO.iodata_to_binary(:io_lib.format("~0p", [term])) =~ pin
    charlist = inspect(String.to_charlist(pin), charlists: :as_lists)

    refute inspect(term, limit: :infinity, charlists: :as_lists) =~
             String.slice(charlist, 1, byte_size(charlist) - 2)
  end
end
