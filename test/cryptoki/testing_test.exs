defmodule Cryptoki.TestingTest do
  # Alone: tokens that go away are seen by whoever lists those of the same directory.
  use ExUnit.Case, async: false

  alias Cryptoki.{Error, Testing}
  alias Cryptoki.Test.{MainToken, SoftHSM, Token}

  @moduletag skip: MainToken.lacks(:kryoptic, "it makes tokens of SoftHSM")

  setup do
    %{library: SoftHSM.library_copy()}
  end

  test "an instance works on a token of its own, which is gone when it was stopped", context do
    before = tokens()
    token = start_supervised!({Testing, library: context.library})
    assert [directory] = tokens() -- before

    hsm = start_supervised!({Cryptoki, Testing.options(token, sessions: 1)})
    assert %{state: :ready, login: :accepted, sessions: %{open: 1}} = Cryptoki.status!(hsm)
    template = [label: "k", token: true, curve: :secp256r1]
    {:ok, {public, private}} = Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, template)
    signature = Cryptoki.sign!(hsm, private, :ecdsa_sha256, "data")
    assert Cryptoki.valid?(hsm, public, :ecdsa_sha256, "data", signature)

    :ok = stop_supervised(Cryptoki)
    :ok = stop_supervised(Testing)
    assert tokens() == before
    refute File.exists?(Path.join(root(), directory))
  end

  test "each has its own, also when many are made at once beside a running one", context do
    first = start_supervised!({Testing, library: context.library})
    hsm = start_supervised!({Cryptoki, Testing.options(first)})

    # A supervisor starts one child after the other.
    supervisors = for n <- 1..8, do: start_supervised!(DynamicSupervisor, id: n)

    made =
      supervisors
      |> Task.async_stream(
        fn supervisor ->
          child = {Testing, library: context.library}
          {:ok, token} = DynamicSupervisor.start_child(supervisor, child)
          Testing.options(token)
        end,
        max_concurrency: 8,
        timeout: 60_000
      )
      |> Enum.map(fn {:ok, options} -> options end)

    serials = for options <- made, do: options[:token][:serial]
    assert serials == Enum.uniq(serials)

    for options <- made do
      other = start_supervised!({Cryptoki, options}, id: options[:token][:serial])
      assert Cryptoki.token_info!(other).serial == options[:token][:serial]
      assert {:ok, []} = Cryptoki.find(other, [])
    end

    assert Cryptoki.status!(hsm).state == :ready
  end

  test "label and PINs are those that were asked for; another PIN is refused", context do
    label = "wanted-#{System.unique_integer([:positive])}"
    options = [label: label, pin: "123456", so_pin: "87654321", library: context.library]
    token = start_supervised!({Testing, options})
    wrong = start_supervised!({Cryptoki, Testing.options(token, pin: "654321")})
    assert %{state: :locked, reason: %{reason: :pin_incorrect}} = Cryptoki.status!(wrong)
    :ok = Cryptoki.unlock(wrong, "123456")
    assert %{state: :ready, token: %{label: ^label}} = Cryptoki.status!(wrong)
    stop_supervised!(Cryptoki)

    place = [library: context.library, timeout: 60_000]
    old = [so_pin: "87654321", pin: "1234567"]
    assert :ok = Cryptoki.Token.init_pin([label: label], old ++ place)
  end

  test "a label that is there already is refused, and that token stays as it is", context do
    label = SoftHSM.create()
    before = tokens()

    assert {:error, %Error{reason: :token_ambiguous} = error} =
             Testing.start_link(label: label, library: context.library)

    assert Exception.message(error) =~ "softhsm2-util --delete-token --token #{inspect(label)}"
    assert tokens() == before

    hsm = start_supervised!({Cryptoki, SoftHSM.options(label: label, library: context.library)})
    assert Cryptoki.status!(hsm).state == :ready
  end

  test "what cannot be had leaves no token behind", context do
    before = tokens()
    label = String.duplicate("x", 32)

    assert_raise ArgumentError, ~r/^pin: must be a string of 4 to 255 bytes, got: a binary/, fn ->
      Testing.start_link(pin: "123", library: context.library)
    end

    for {option, value} <- [label: "", label: label <> "x", label: "a\nb", library: "", so_pin: 1] do
      assert_raise ArgumentError, ~r/^#{option}: must be/, fn ->
        Testing.start_link([{option, value}])
      end
    end

    assert_raise ArgumentError, ~r/unknown option :lable, did you mean :label\?/, fn ->
      Testing.start_link(lable: label)
    end

    assert {:error, %Error{reason: :library_not_loaded}} =
             Testing.start_link(library: "/nowhere/libsofthsm2.so")

    assert tokens() == before
  end

  @tag skip: Token.named(:kryoptic).skip
  test "the free slot of another library stays free" do
    library = Path.join(SoftHSM.directory(), "testing-kryoptic.so")
    Token.copy_kryoptic(library)
    configuration = Path.join(SoftHSM.directory(), "testing-kryoptic.conf")
    database = Path.join(SoftHSM.directory(), "testing-kryoptic.sql")

    File.write!(
      configuration,
      "[[slots]]\nslot = 1\ndbtype = \"sqlite\"\ndbargs = \"#{database}\"\n"
    )

    in_a_vm = [{"KRYOPTIC_CONF", configuration}]

    assert {:error, :unsupported, _sentence} =
             run("start.(library: #{inspect(library)})", in_a_vm)

    flags = "Cryptoki.slots!(library: #{inspect(library)}) |> hd() |> get_in([:token, :flags])"
    assert :token_initialized not in run(flags, in_a_vm)
  end

  describe "the configuration" do
    test "that is named and not there is written, and tokens are beside it" do
      file = Path.join(SoftHSM.directory(), "new/softhsm2.conf")

      assert {:ok, [_token]} = run("start.([])", conf(file), file <> ".tokens")

      assert File.ls!(file <> ".tokens") == []
      assert File.read!(file) =~ "directories.tokendir = #{file}.tokens\n"
    end

    test "is the one that C reads, whatever System.put_env says later" do
      file = Path.join(SoftHSM.directory(), "early/softhsm2.conf")
      late = Path.join(SoftHSM.directory(), "late/softhsm2.conf")
      code = ~s|System.put_env("SOFTHSM2_CONF", "#{late}"); start.([])|
      assert {:ok, [_token]} = run(code, conf(file), file <> ".tokens")
      assert File.exists?(file)
      refute File.exists?(late)
    end

    test "of the user is taken where none is named" do
      home = Path.join(SoftHSM.directory(), "home")
      tokens = Path.join(home, "tokens")
      directory = Path.join(home, ".config/softhsm2")
      File.mkdir_p!(directory)
      SoftHSM.configuration(tokens, Path.join(directory, "softhsm2.conf"))
      environment = [{"HOME", home}, {"SOFTHSM2_CONF", nil}]
      assert {:ok, [_token]} = run("start.([])", environment, tokens)
      assert File.ls!(tokens) == []
    end

    test "that cannot be read is named, with what to do" do
      directory = Path.join(SoftHSM.directory(), "unreadable")
      File.mkdir_p!(directory)
      assert {:error, :library_not_loaded, sentence} = run("start.([])", conf(directory))

      assert sentence =~
               "SoftHSM's configuration cannot be read (#{directory}: illegal operation on a directory)"

      assert sentence =~ "System.put_env/2 is too late"
    end

    defp conf(file), do: [{"SOFTHSM2_CONF", file}]
  end

  # What `code` gives in a VM that was started with this environment; of `start.(options)` what is in the
  # directory of tokens meanwhile.
  defp run(code, environment, tokens \\ nil) do
    code = """
    {:ok, _} = Application.ensure_all_started(:cryptoki)
    Logger.configure(level: :error)
    start = fn options ->
      with {:ok, token} <- Cryptoki.Testing.start_link(options) do
        there = File.ls!(#{inspect(tokens)})
        GenServer.stop(token)
        {:ok, there}
      else
        {:error, error} -> {:error, error.reason, Exception.message(error)}
      end
    end
    _ = start
    (fn -> #{code} end).() |> :erlang.term_to_binary() |> Base.encode64() |> IO.puts()
    """

    arguments = ["-pa", Application.app_dir(:cryptoki, "ebin"), "-e", code]
    {output, status} = System.cmd("elixir", arguments, env: environment, stderr_to_stdout: true)
    assert status == 0, output
    output |> String.split() |> List.last() |> Base.decode64!() |> :erlang.binary_to_term()
  end

  defp root, do: Path.join(SoftHSM.directory(), "tokens")
  defp tokens, do: root() |> File.ls!() |> Enum.sort()
end
