defmodule Cryptoki.UpgradeTest do
  # What changes under a VM that signs: the native library on the disk, and our modules.
  use ExUnit.Case, async: true

  alias Cryptoki.Native
  alias Cryptoki.Test.{Panics, Reliability, SoftHSM}

  @moduletag :safety
  @moduletag timeout: 600_000

  setup context do
    Process.flag(:trap_exit, true)
    number = System.unique_integer([:positive])
    # As Mix lays it out: the application below lib.
    build = Path.join(SoftHSM.directory(), "upgrade-#{number}")
    folder = Path.join(build, "lib")
    File.mkdir_p!(folder)
    Panics.arm(folder, [])
    library = Native.Loader.path()
    ebin = Panics.application(folder, library)
    if context[:installs], do: install(build, [library])
    peer = Panics.start_peer(folder, ebin)

    options = [
      library: SoftHSM.library_copy(),
      token: [label: SoftHSM.label()],
      pin: SoftHSM.pin(),
      sessions: 4,
      timeout: 60_000
    ]

    {:ok, hsm} = :peer.call(peer, Panics, :start, [options], :infinity)
    :ok = :peer.call(peer, Panics, :sign_for_ever, [hsm], :infinity)
    %{peer: peer, hsm: hsm, build: build, library: library}
  end

  # With `write!` of build/cryptoki_native.ex writing to the file itself, under one name for all builds, the VM
  # ends with a signal: that is the control below.
  @tag :installs
  test "the build replaces the library a hundred times under a VM that signs", context do
    %{peer: peer, hsm: hsm, build: build, library: library} = context

    # The same code, other bytes: what lies behind the last section is not mapped.
    others =
      for n <- 1..2 do
        other = Path.join(build, "other-#{n}.so")
        File.write!(other, [File.read!(library), <<n>>])
        other
      end

    installed = install(build, others |> Stream.cycle() |> Enum.take(100))
    assert length(Enum.uniq(installed)) == 2
    assert length(installed) == 100
    assert :peer.call(peer, Panics, :signatures, [hsm], :infinity) > 0

    Reliability.record(
      :number,
      "replacements of the library under a VM that signs, crashes",
      "100, 0"
    )
  end

  test "the control: a plain copy over the library ends the VM", context do
    %{peer: peer, build: build, library: library} = context
    [mapped] = Path.wildcard(Path.join(build, "lib/cryptoki/priv/native/*.so"))
    bytes = File.read!(library)
    copy_until_dead(peer, mapped, String.duplicate(<<0>>, byte_size(bytes)), 100)

    Reliability.record(
      :number,
      "copies over the library until the VM crashed (control)",
      "crashed"
    )
  end

  test "all our modules are loaded again and purged, twice, under a live instance", context do
    %{peer: peer, hsm: hsm} = context
    {:ok, modules} = :application.get_key(:cryptoki, :modules)
    # All but what these tests run on.
    modules = Enum.reject(modules, &(inspect(&1) =~ ~r/^Cryptoki\.Test\./))
    assert length(modules) > 80

    for _round <- 1..2, module <- modules do
      loaded = :peer.call(peer, :code, :load_file, [module], :infinity)
      # The VM keeps the native module that it has: there is one native library in a VM.
      if module == Native,
        do: assert({:error, :on_load_failure} = loaded),
        else: assert({:module, ^module} = loaded)

      purge(peer, module)
    end

    assert :peer.call(peer, Panics, :signatures, [hsm], :infinity) > 0
    assert {:ok, %{state: :ready}} = :peer.call(peer, Cryptoki, :status, [hsm], :infinity)
    assert :peer.call(peer, Cryptoki, :stop, [hsm], :infinity) == :ok

    Reliability.record(
      :number,
      "modules loaded again and purged under a live instance, twice",
      length(modules)
    )
  end

  test "modules that have changed are loaded and purged, twice, and the instance logs in again",
       context do
    %{peer: peer, hsm: hsm} = context
    {:ok, modules} = :application.get_key(:cryptoki, :modules)

    # There is one native library in a VM; and the module of what a listener keeps is left as it is.
    kept = [Native, Cryptoki.SSL.SignFun]
    modules = Enum.reject(modules, &(inspect(&1) =~ ~r/^Cryptoki\.Test\./ or &1 in kept))
    :ok = :peer.call(peer, Panics, :keep_sign_fun, [hsm], :infinity)

    pins = [
      {:file, pin_file(context)},
      {String, :duplicate, [SoftHSM.pin(), 1]},
      &SoftHSM.pin/0,
      nil
    ]

    hsms =
      for pin <- pins do
        # A login belongs to all instances of a library.
        place = [library: SoftHSM.library_copy(), token: [label: SoftHSM.label()]]

        {:ok, hsm} =
          :peer.call(peer, Panics, :start, [[pin: pin, sessions: 1] ++ place], :infinity)

        hsm
      end

    :ok = :peer.call(peer, Cryptoki, :unlock, [List.last(hsms), SoftHSM.pin()], :infinity)

    for round <- 1..2, module <- modules do
      binary = changed(module, round)

      assert {:module, ^module} =
               :peer.call(peer, :code, :load_binary, [module, ~c"changed", binary], :infinity)

      purge(peer, module)
    end

    assert :peer.call(peer, Cryptoki.Error, :changed_for_a_test, [], :infinity) == 2
    assert :peer.call(peer, Panics, :signatures, [hsm], :infinity) > 0
    assert <<_der::binary>> = :peer.call(peer, Panics, :sign_by_fun, ["text"], :infinity)

    # Each connects anew, with the PIN that it was given before.
    for hsm <- hsms do
      assert :peer.call(peer, Panics, :reconnect, [hsm], :infinity) == :accepted
      assert :peer.call(peer, Cryptoki, :stop, [hsm], :infinity) == :ok
    end

    Reliability.record(
      :number,
      "changed modules loaded and purged under instances that then log in again, twice",
      length(modules)
    )
  end

  defp pin_file(context) do
    path = Path.join(context.build, "pin")
    File.write!(path, SoftHSM.pin() <> "\n")
    path
  end

  # The module with one function more: other code, so that functions made by the one before are no more.
  defp changed(module, round) do
    {:ok, {^module, [abstract_code: {:raw_abstract_v1, forms}]}} =
      module |> :code.which() |> :beam_lib.chunks([:abstract_code])

    name = :changed_for_a_test
    function = {:function, 1, name, 0, [{:clause, 1, [], [], [{:integer, 1, round}]}]}
    export = {:attribute, 1, :export, [{name, 0}]}
    {definitions, functions} = Enum.split_while(forms, &(elem(&1, 0) != :function))
    {functions, eof} = Enum.split_while(functions, &(elem(&1, 0) != :eof))
    forms = definitions ++ [export] ++ functions ++ [function] ++ eof
    {:ok, ^module, binary} = :compile.forms(forms, [:binary, :debug_info, :nowarn_unused_vars])
    binary
  end

  # A call that is under way leaves the old code when it is done; a process that stayed in it would be one too many.
  defp purge(peer, module),
    do:
      if(:peer.call(peer, :code, :soft_purge, [module], :infinity),
        do: :ok,
        else: purge(peer, module)
      )

  # The compile task itself, once for each of these ready-made libraries; what was installed each time.
  defp install(build, libraries) do
    file = Path.join(build, "installed")

    code = """
    installed =
      for library <- #{inspect(libraries, limit: :infinity)} do
        System.put_env("CRYPTOKI_NATIVE_LIBRARY", library)
        {:ok, []} = Mix.Task.rerun("compile.cryptoki_native", [])
        File.read!(#{inspect(Path.join(build, "lib/cryptoki/priv/native/current"))})
      end
    File.write!(#{inspect(file)}, :erlang.term_to_binary(installed))
    """

    {text, status} =
      System.cmd("mix", ["run", "--no-compile", "--no-start", "-e", code],
        env: [{"MIX_BUILD_PATH", build}, {"MIX_ENV", "test"}],
        stderr_to_stdout: true
      )

    assert status == 0, text
    file |> File.read!() |> :erlang.binary_to_term()
  end

  defp copy_until_dead(_peer, _mapped, _bytes, 0), do: flunk("the VM has survived")

  defp copy_until_dead(peer, mapped, bytes, times) do
    File.write!(mapped, bytes)

    receive do
      {:EXIT, ^peer, _reason} -> :ok
    after
      100 -> copy_until_dead(peer, mapped, bytes, times - 1)
    end
  end
end
