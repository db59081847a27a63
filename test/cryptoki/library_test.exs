defmodule Cryptoki.LibraryTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  alias Cryptoki.Error
  alias Cryptoki.Test.{FaultyModule, MainToken, SoftHSM}

  @sources Path.expand("../../native/faulty_module/c", __DIR__)

  @tag skip: MainToken.apart("each instance has a library of its own")
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

  @tag skip: MainToken.apart("a library that hangs as it is given back is ended")
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

  test "an instance that is killed gives its library back as well" do
    Process.flag(:trap_exit, true)
    module = FaultyModule.new()
    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module))
    Process.exit(hsm, :kill)
    FaultyModule.await(module, ~r/C_Finalize ran 0x0/)
  end

  @tag skip: MainToken.apart("each instance has a library of its own")
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
      assert refusal(compiled(name)) =~ sentence
    end
  end

  defp compiled(name, arguments \\ []) do
    library = Path.join(SoftHSM.directory(), "#{name}-#{System.unique_integer([:positive])}.so")
    source = Path.join(@sources, name <> ".c")
    {"", 0} = System.cmd("cc", ["-shared", "-fPIC", "-o", library, source | arguments])
    library
  end

  defp refusal(library) do
    assert {:error, %Error{reason: :library_not_loaded} = error} =
             Cryptoki.start_link(library: library, token: [slot: 0])

    Exception.message(error)
  end

  test "one that cannot read its configuration asks for it" do
    module = FaultyModule.new()
    FaultyModule.control(module, "C_Initialize rv=0x5")

    sentence =
      "C_Initialize answered CKR_GENERAL_ERROR: is its configuration there, and readable for this user"

    assert refusal(module.library) =~ sentence <> "?"

    # SoftHSM's is named in the environment of C: in a VM of its own.
    code = """
    {:ok, _} = Application.ensure_all_started(:cryptoki)
    {:error, error} = Cryptoki.slots(library: #{inspect(SoftHSM.library())})
    IO.puts(Exception.message(error))
    """

    arguments = ["-pa", Application.app_dir(:cryptoki, "ebin"), "-e", code]
    environment = [{"SOFTHSM2_CONF", "/nowhere/softhsm2.conf"}]
    assert {text, 0} = System.cmd("elixir", arguments, env: environment, stderr_to_stdout: true)
    assert text =~ sentence <> "; SoftHSM's is the file that SOFTHSM2_CONF named"
  end

  test "a library that is linked with a PKCS #11 library is none itself" do
    other = FaultyModule.new()
    library = compiled("linked", ["-Wl,--no-as-needed", other.library])
    assert refusal(library) =~ "no PKCS #11 module: the C_GetFunctionList that it is linked with"
    assert refusal(library) =~ other.library
    assert {:error, %Error{reason: :library_not_loaded}} = Cryptoki.slots(library: library)
    assert FaultyModule.journal(other) == []
  end

  # Linked with p11-kit, which is one.
  for name <- ~w(libgnutls.so.30 libcurl-gnutls.so.4) do
    path = Path.join("/usr/lib/#{:erlang.system_info(:system_architecture)}", name)
    path = String.replace(path, ~r/-(pc|unknown)-/, "-")

    @tag skip: !File.exists?(path) && "there is no #{path}"
    test "#{name} is no PKCS #11 library" do
      assert refusal(unquote(path)) =~ "no PKCS #11 module"
    end
  end

  test "p11-kit's own is one, under each of its names" do
    directory = "/usr/lib/#{:erlang.system_info(:system_architecture)}"
    path = directory |> Path.join("libp11-kit.so.0") |> String.replace(~r/-(pc|unknown)-/, "-")

    if File.exists?(path) do
      link =
        Path.join(SoftHSM.directory(), "p11-kit-proxy-#{System.unique_integer([:positive])}.so")

      File.ln_s!(path, link)
      assert {:ok, _slots} = Cryptoki.slots(library: link)
    end
  end

  test "a library's own list is used, whatever it is linked with" do
    [own, other] = [FaultyModule.new(), FaultyModule.new()]

    library =
      compiled("linked", [~s(-DOWN="#{own.library}"), "-Wl,--no-as-needed", other.library])

    {:ok, hsm} = Cryptoki.start_link(Keyword.put(FaultyModule.options(own), :library, library))
    assert {:ok, _bytes} = Cryptoki.random(hsm, 8)
    assert %{interface: {2, 40}, interfaces: []} = Cryptoki.library_info!(hsm)
    :ok = Cryptoki.stop(hsm)
    assert FaultyModule.count(own, ~r/^C_GenerateRandom ran 0x0/) == 1
    assert FaultyModule.journal(other) == []
  end

  for version <- ["3.0", "3.2", "4.0"] do
    test "a list without an interface has the functions of 2.40, though it claims #{version}" do
      module = FaultyModule.new(load: "short_list=#{unquote(version)};interface=fail")
      {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module))
      assert %{interface: {2, 40}, interfaces: []} = Cryptoki.library_info!(hsm)

      # What is left behind is cancelled, by a function of 3.0 where there is one.
      Cryptoki.with_session(hsm, fn session ->
        {:ok, _operation} = Cryptoki.start(session, :digest, :sha256)
      end)

      assert {:ok, _digest} = Cryptoki.digest(hsm, :sha256, "")
      :ok = Cryptoki.stop(hsm)
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
