defmodule Cryptoki.LibraryTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  alias Cryptoki.Error
  alias Cryptoki.Test.{FaultyModule, MainToken, SoftHSM}

  @sources Path.expand("../../native/faulty_module/c", __DIR__)

  test "two names of one file are one library, initialised once and finalised after the last" do
    module = FaultyModule.new()
    link = module.library <> ".link.so"
    File.ln_s!(module.library, link)

    {:ok, one} = Cryptoki.start_link(FaultyModule.options(module))
    by_link = Keyword.put(FaultyModule.options(module), :library, link)
    {:ok, other} = Cryptoki.start_link(by_link)
    assert FaultyModule.count(module, ~r/C_Initialize ran 0x0/) == 1

    :ok = Cryptoki.stop(one)
    assert FaultyModule.count(module, ~r/C_Finalize/) == 0
    assert {:ok, _bytes} = Cryptoki.random(other, 8)

    :ok = Cryptoki.stop(other)
    FaultyModule.await(module, ~r/C_Finalize ran 0x0/)

    # And again, as after a restart of the instance.
    {:ok, again} = Cryptoki.start_link(by_link)
    assert {:ok, _bytes} = Cryptoki.random(again, 8)
    assert FaultyModule.count(module, ~r/C_Initialize ran 0x0/) == 2
    :ok = Cryptoki.stop(again)
  end

  test "a library that somebody else has initialised is used, and left initialised" do
    module = FaultyModule.new()
    FaultyModule.control(module, "C_Initialize rv=0x191 after_forward")

    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module))
    assert {:ok, _bytes} = Cryptoki.random(hsm, 8)
    :ok = Cryptoki.stop(hsm)

    {:ok, again} = Cryptoki.start_link(FaultyModule.options(module))
    assert {:ok, _bytes} = Cryptoki.random(again, 8)
    :ok = Cryptoki.stop(again)
    assert FaultyModule.count(module, ~r/C_Finalize/) == 0
  end

  test "a library that hangs while it is given back is finalised when it comes to itself" do
    module = FaultyModule.new()
    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module))
    FaultyModule.control(module, "C_GetSlotList hang")
    Task.start(fn -> Cryptoki.slots(hsm) end)
    FaultyModule.await(module, ~r/C_GetSlotList hangs/)

    :ok = Cryptoki.stop(hsm)
    assert FaultyModule.count(module, ~r/C_Finalize/) == 0
    FaultyModule.control(module, "")
    FaultyModule.await(module, ~r/C_Finalize ran 0x0/)
  end

  test "a second instance cannot ask for another initialisation" do
    options = FaultyModule.options(FaultyModule.new())
    {:ok, hsm} = Cryptoki.start_link(options)

    for other <- [[locking: :serialized], [init_args: "x"]] do
      assert {:error, %Error{reason: :invalid_argument} = error} =
               Cryptoki.start_link(Keyword.merge(options, other))

      assert Exception.message(error) =~ "only once"
    end

    :ok = Cryptoki.stop(hsm)
  end

  test "a missing symbol and a library of another kind are sentences, not the end of the VM" do
    for {name, sentence} <- [
          {"unresolved", "faulty_symbol_that_nobody_defines"},
          {"not_pkcs11", "no PKCS #11 module"}
        ] do
      library = Path.join(SoftHSM.directory(), name <> ".so")
      source = Path.join(@sources, name <> ".c")
      {"", 0} = System.cmd("cc", ["-shared", "-fPIC", "-o", library, source])

      assert {:error, %Error{reason: :library_not_loaded} = error} =
               Cryptoki.start_link(library: library, token: [slot: 0])

      assert Exception.message(error) =~ sentence
    end
  end

  # As the sentence has them, and as the list of the library.
  @interfaces %{
    softhsm2: {"2.40", []},
    kryoptic: {"3.2, 3.0, 2.40", [{3, 2}, {3, 0}, {2, 40}]}
  }

  test "an interface that the library does not have is refused with those it has" do
    copy = Path.join(SoftHSM.directory(), "interfaces.so")
    File.cp!(MainToken.options()[:library], copy)
    options = Keyword.put(MainToken.options(), :library, copy)
    {has, versions} = @interfaces[MainToken.name()]

    asked = Keyword.put(options, :interface, {3, 1})
    assert {:error, %Error{reason: :library_not_loaded} = error} = Cryptoki.start_link(asked)
    assert Exception.message(error) =~ "no interface 3.1, it has #{has}"

    {:ok, hsm} = Cryptoki.start_link(Keyword.put(options, :interface, {2, 40}))
    assert %{interface: {2, 40}, interfaces: interfaces} = Cryptoki.library_info!(hsm)
    assert Enum.map(interfaces, & &1.version) == versions
    :ok = Cryptoki.stop(hsm)
  end
end
