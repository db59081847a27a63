defmodule Cryptoki.PanicTest do
  # A panic anywhere in the native code costs an error, in a VM whose native library panics where it is told
  # to; the payload of each panic panics again when it is dropped.
  #
  # How it was seen to fail: with `guarded` of cryptoki_ffi only calling what it is given, 37 of 39 tests end
  # with an aborted VM or a call that is never answered; the same when it drops the payload. Without the guard of
  # `let_go` and of the control thread's loop: the tests of the destructors and of that loop.
  use ExUnit.Case, async: true

  alias Cryptoki.{Error, Native}
  alias Cryptoki.Test.{Panics, SoftHSM}

  @moduletag :safety
  @natives Native.module_info(:nifs) |> Keyword.keys() |> Enum.uniq() |> Enum.sort()

  setup_all do
    folder = Path.join(SoftHSM.directory(), "panics")
    File.mkdir_p!(folder)
    Panics.arm(folder, [])
    %{folder: folder, ebin: Panics.application(folder, Panics.build())}
  end

  setup %{folder: folder, ebin: ebin} do
    Panics.arm(folder, [])
    peer = Panics.start_peer(folder, ebin)
    library = SoftHSM.library_copy()
    options = [library: library, token: [label: SoftHSM.label()], pin: SoftHSM.pin()]
    options = options ++ [sessions: 2, timeout: 60_000, reconnect: [min: 1, max: 20]]
    context = %{peer: peer, options: options, library: library}
    {:ok, hsm} = start(context)
    Map.put(context, :hsm, hsm)
  end

  test "the NIFs are those of the library", do: assert(length(@natives) > 10)

  for nif <- @natives do
    test "#{nif}: wherever it panics, the caller has an error", context do
      # What has no arguments decodes none.
      places = ~w[body decoding encoding drop]
      decodes? = Native.module_info(:nifs)[unquote(nif)] > 0
      places = if decodes?, do: places, else: places -- ["decoding"]

      for place <- places do
        Panics.arm(context.folder, ["#{unquote(nif)} #{place}"])
        answer = nif(context, unquote(nif))
        assert {:error, {:own, :panic, "the native code panicked"}} = answer, place
        assert Panics.armed(context.folder) == []
      end

      # Even the answer can panic: then nothing is left but an exception.
      Panics.arm(context.folder, for(place <- ~w[body answer], do: "#{unquote(nif)} #{place}"))
      assert {:raised, %ArgumentError{}} = nif(context, unquote(nif))
      well(context)
    end
  end

  for place <- ["session work", "session loop", "request encoding", "request drop"] do
    test "#{place}: the caller has an error, and another session takes the place", context do
      answer = armed(context, unquote(place), fn -> random(context) end)
      assert {:error, %Error{reason: :panic, executed: :maybe}} = answer
      well(context)
    end
  end

  test "a session of one's own", context do
    answer =
      armed(context, "session leased", fn ->
        call(context, Panics, :random_leased, [context.hsm])
      end)

    assert {:error, %Error{reason: :panic}} = answer
    well(context)
  end

  test "what a caller left behind is cleaned", context do
    armed(context, "session clean", fn ->
      call(context, Panics, :leave_dirty, [context.hsm])
      fired(context)
    end)

    well(context)
  end

  for place <- ["control work", "control loop"] do
    test "#{place}: the control thread goes on", context do
      answer =
        armed(context, unquote(place), fn ->
          call(context, Cryptoki, :mechanisms, [context.hsm])
        end)

      assert {:error, %Error{reason: :panic}} = answer
      well(context)
    end
  end

  test "control login: the instance tries again", context do
    armed(context, "control login", fn ->
      {:ok, other} = start(context)
      fired(context)
      well(%{context | hsm: other})
      assert call(context, Cryptoki, :stop, [other]) == :ok
    end)

    well(context)
  end

  test "a thread that opens a library", context do
    answer = armed(context, "open thread", fn -> start(context) end)
    assert {:error, %Error{reason: :panic}} = answer
    well(context)
  end

  test "a session that is opened: the instance heals", context do
    {:ok, other} = armed(context, "session open", fn -> start(context) end)
    well(%{context | hsm: other})
  end

  for place <-
        ["session close", "control close", "control detach"] ++
          for(type <- ~w[Library Instance Session], do: "#{type}Resource destructor") do
    test "#{place}: stopping goes on, and starting works", context do
      {:ok, other} = start(%{context | options: library_copy(context.options)})

      armed(context, unquote(place), fn ->
        assert call(context, Cryptoki, :stop, [other]) == :ok
        fired(context)
      end)

      well(context)
      {:ok, again} = start(context)
      well(%{context | hsm: again})
    end
  end

  test "the destructor of a request", context do
    armed(context, "RequestResource destructor", fn ->
      call(context, Panics, :random_alone, [context.hsm])
      fired(context)
    end)

    well(context)
  end

  for place <- ["LeaseResource down", "LeaseResource destructor"] do
    test "#{place}: the session of a dead caller is given back", context do
      armed(context, unquote(place), fn ->
        call(context, Panics, :die_leased, [context.hsm])
        fired(context)
      end)

      # Both sessions at once.
      assert {:ok, _} = call(context, Panics, :random_beside_leased, [context.hsm])

      well(context)
    end
  end

  # What these NIFs answer goes to the processes of the instance, or to a user by another verb.
  test "verbs that ask no thread", context do
    assert {:error, %Error{reason: :panic}} =
             armed(context, "instance_info body", fn ->
               call(context, Cryptoki, :status, [context.hsm])
             end)

    assert {:error, %Error{reason: :panic}} =
             armed(context, "instance_new body", fn -> start(context) end)

    for place <- ["session_id body", "bump_epoch body", "instance_state body"] do
      {:ok, other} = armed(context, place, fn -> start(context) end)
      well(%{context | hsm: other})
      :ok = call(context, Cryptoki, :stop, [other])
    end

    well(context)
  end

  test "the lines on stderr have places and nothing else", context do
    armed(context, "session work", fn -> random(context) end)

    lines =
      context.folder |> Path.join("stderr") |> File.read!() |> String.split("\n", trim: true)

    assert lines != []
    ours = for line <- lines, line =~ "panicked", do: line
    assert ours != []
    for line <- ours, do: assert(line =~ ~r/^cryptoki: native code panicked at [\w\/.-]+:\d+$/)
  end

  test "a release build cannot have the switch" do
    command = ~w(check --release --locked -p cryptoki_nif --features inject-panics)
    environment = [{"CARGO_TARGET_DIR", Panics.cache()}]
    {text, status} = System.cmd("cargo", command, env: environment, stderr_to_stdout: true)
    assert status != 0
    assert text =~ "inject-panics is for tests: a release build cannot have it"
  end

  test "the library of this test has the switch", %{folder: folder} do
    [library] = Path.wildcard(Path.join(folder, "cryptoki/priv/native/*.so"))
    assert File.read!(library) =~ "CRYPTOKI_INJECT_PANIC"
  end

  defp start(context), do: call(context, Panics, :start, [context.options])
  defp nif(context, nif), do: call(context, Panics, :call, [nif, context.hsm, context.library])
  defp random(context), do: call(context, Cryptoki, :random, [context.hsm, 8])

  defp library_copy(options), do: Keyword.put(options, :library, SoftHSM.library_copy())

  defp call(%{peer: peer}, module, function, arguments),
    do: :peer.call(peer, module, function, arguments, :infinity)

  defp armed(context, place, fun) do
    Panics.arm(context.folder, [place])
    answer = fun.()
    assert Panics.armed(context.folder) == [], "nothing came to #{place}"
    answer
  end

  defp fired(context),
    do: if(Panics.armed(context.folder) == [], do: :ok, else: fired(context))

  # The instance is whole again, by itself, and works.
  defp well(context) do
    case call(context, Cryptoki, :status, [context.hsm]) do
      {:ok, %{state: :ready, queue: 0, sessions: %{wanted: n, open: n, busy: 0, overdue: 0}}} ->
        for _ <- 1..4, do: assert({:ok, <<_::binary-8>>} = random(context))

      _not_yet ->
        well(context)
    end
  end
end
