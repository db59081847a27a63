defmodule Cryptoki.GuidesTest do
  # Alone: each guide has a copy of SoftHSM, and two in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.Test.{FaultyModule, Guide, Jose, MainToken, Nobody, Payments, SoftHSM, TLS}

  @library "/usr/lib/softhsm/libsofthsm2.so"

  setup do
    System.put_env("HSM_PIN", SoftHSM.pin())
    on_exit(fn -> System.delete_env("HSM_PIN") end)
  end

  @starts_softhsm MainToken.lacks(:kryoptic, "what it shows starts SoftHSM")

  @tag skip: @starts_softhsm
  test "README.md" do
    pin = %{"123456" => SoftHSM.pin()}
    Guide.run("README.md", Map.merge(replacements(SoftHSM.create()), pin))
  end

  # By a user who is not root, in a home with nothing in it, where SoftHSM has what its commands make, and the tests'
  # tokens are not. In a fresh Debian: bin/support/fresh.
  @tag skip: @starts_softhsm || Nobody.missing()
  test "first_signature.md, as it stands, as a user who is not root" do
    home = Nobody.home()
    text = File.read!("guides/first_signature.md")
    blocks = Regex.scan(~r/^```console\n(.*?)^```/ms, text, capture: :all_but_first)
    assert [commands, mix, ["$ mix deps.get\n"]] = blocks
    [pin] = Regex.run(~r/`(HSM_PIN=\d+) iex -S mix`/, text, capture: :all_but_first)
    [name, value] = String.split(pin, "=")
    environment = [{"SOFTHSM2_CONF", nil}, {"HOME", home}, {"TMPDIR", home}, {name, value}]
    opts = [cd: home, env: environment, stderr_to_stdout: true]

    as_nobody = fn command, arguments ->
      [command | arguments] = Nobody.words() ++ [command | arguments]
      System.cmd(command, arguments, opts)
    end

    shell = &as_nobody.("sh", ["-ec", String.replace(&1, ~r/^\$ /m, "")])
    assert {slots, 0} = shell.(hd(commands))
    assert slots =~ ~r/Initialized: +no/ and not (slots =~ ~r/Initialized: +yes/)
    assert {_, 0} = shell.(hd(mix))
    assert File.exists?(Path.join(home, "signer/lib/signer/application.ex"))

    # What runs the page is of this project, and comes along.
    {Guide, beam, _file} = :code.get_object_code(Guide)
    File.write!(Path.join(home, "cryptoki/ebin/#{Guide}.beam"), beam)
    File.cp!("guides/first_signature.md", Path.join(home, "first_signature.md"))

    # A machine that does other things as well may need longer than five seconds for a call.
    patient = %{
      ~s(], pin: "123456"\)) => ~s(], pin: "123456", timeout: 60_000\)),
      ~s("HSM_PIN"}}) => ~s("HSM_PIN"}, timeout: 60_000})
    }

    for {from, _} <- patient, do: assert(length(String.split(text, from)) == 2)

    run = """
    if match?({"0\\n", 0}, System.cmd("id", ["-u"])), do: raise("root")
    {:ok, _} = Application.ensure_all_started(:cryptoki)
    Cryptoki.Test.Guide.run("first_signature.md", #{inspect(patient)})
    """

    assert {_, 0} = as_nobody.("elixir", ["-pa", "cryptoki/ebin", "-e", run])
    assert [_token] = File.ls!(Path.join(home, ".local/share/softhsm2/tokens"))
  end

  @tag skip: @starts_softhsm
  test "first_signature.livemd, but for its dependency" do
    label = "book-#{System.unique_integer([:positive])}"
    [install] = Regex.run(~r/^Mix\.install.*$/m, File.read!("guides/first_signature.livemd"))

    replacements = Map.merge(replacements(label), %{install => ":installed", "livebook" => label})
    Guide.run("guides/first_signature.livemd", replacements)
  end

  for guide <- ~w[keys_and_uris.md sessions.md coming_from.md cheatsheet.cheatmd] do
    @tag skip: @starts_softhsm
    test guide do
      Guide.run("guides/#{unquote(guide)}", replacements(token_with_keys()))
    end
  end

  # As much of Ecto and Cloak as the types and ciphers of people implement.
  defp stand_ins do
    unless Code.ensure_loaded?(Ecto.Type) do
      Code.eval_string("""
      defmodule Ecto.Type do
        @callback type :: atom
        @callback cast(term) :: {:ok, term} | :error
        @callback load(term) :: {:ok, term} | :error
        @callback dump(term) :: {:ok, term} | :error
        @callback equal?(term, term) :: boolean
        @callback embed_as(atom) :: :self | :dump
        defmacro __using__(_opts), do: quote(do: @behaviour Ecto.Type)
      end
      """)
    end

    unless Code.ensure_loaded?(Cloak.Cipher) do
      Code.eval_string("""
      defmodule Cloak.Cipher do
        @callback encrypt(binary, keyword) :: {:ok, binary} | :error | {:error, term}
        @callback decrypt(binary, keyword) :: {:ok, binary} | :error | {:error, term}
        @callback can_decrypt?(binary, keyword) :: boolean
      end
      """)
    end
  end

  test "envelope.md, with an Ecto type and a Cloak cipher that work" do
    stand_ins()
    start_with_keys()
    # On its own: a guide takes what is linked to it along.
    {pid, ref} = spawn_monitor(fn -> Guide.run("guides/envelope.md", %{}) end)
    assert_receive {:DOWN, ^ref, :process, ^pid, :normal}, 120_000
    assert [_, _] = Cryptoki.find!(MyApp.HSM, class: :secret_key, token: true) -- find("archive")

    type = MyApp.Encrypted
    assert {:ok, box} = apply(type, :dump, ["alice@acme.test"])
    refute box =~ "alice"
    assert apply(type, :load, [box]) == {:ok, "alice@acme.test"}
    assert apply(type, :load, ["no box"]) == :error
    assert {apply(type, :dump, [nil]), apply(type, :load, [nil])} == {{:ok, nil}, {:ok, nil}}

    assert {apply(type, :cast, ["x"]), apply(type, :cast, [1]), apply(type, :type, [])} ==
             {{:ok, "x"}, :error, :binary}

    opts = [hsm: MyApp.HSM, keks: [[label: "kek 2027"], [label: "kek 2026"]]]
    assert {:ok, box} = apply(MyApp.HSMCipher, :encrypt, ["text", opts])
    assert apply(MyApp.HSMCipher, :can_decrypt?, [box, opts])
    refute apply(MyApp.HSMCipher, :can_decrypt?, ["AES.GCM.V1", opts])
    assert apply(MyApp.HSMCipher, :decrypt, [box, opts]) == {:ok, "text"}
    assert {:error, sentence} = apply(MyApp.HSMCipher, :decrypt, [box <> "x", opts])
    assert sentence =~ "envelope: "
  end

  defp find(label), do: Cryptoki.find!(MyApp.HSM, label: label)

  test "scaling.md" do
    Guide.run("guides/scaling.md", %{})
  end

  test "keys_in_and_out.md" do
    start_with_keys()
    Guide.run("guides/keys_in_and_out.md", %{})
  end

  test "jwt.md, with erlang-jose where it is" do
    start_with_keys()
    [jose] = Regex.run(~r/^\{:ok, jwk\} = .*?(?=^```)/ms, File.read!("guides/jwt.md"))
    Guide.run("guides/jwt.md", if(Jose.erlang_jose?(), do: %{}, else: %{jose => ":not_there"}))
  end

  test "certificate_authority.md, whose chain OpenSSL accepts" do
    start_with_keys()
    directory = Path.join(SoftHSM.directory(), "ca")
    File.mkdir_p!(directory)
    Guide.run("guides/certificate_authority.md", %{"/etc/acme" => directory})
    verify = ~w(verify -x509_strict -CAfile root.pem -untrusted issuing.pem)
    in_it = [cd: directory, stderr_to_stdout: true]
    assert {_, 0} = System.cmd("openssl", verify ++ ["chain.pem"], in_it)

    revoked = verify ++ ~w(-crl_check -CRLfile issuing.crl chain.pem)
    assert {text, 2} = System.cmd("openssl", revoked, in_it)
    assert text =~ "certificate revoked"

    # The issuing authority is taken back, too; what came after it is not.
    list = ~w(-crl_check -CRLfile root.crl issuing.pem)
    assert {text, 2} = System.cmd("openssl", verify ++ list, in_it)
    assert text =~ "certificate revoked"
    verify = ~w(verify -x509_strict -CAfile root.pem -untrusted chain2.pem chain2.pem)
    assert {_, 0} = System.cmd("openssl", verify, in_it)
  end

  test "signing.md", do: with_certificate("signing", "contract")
  test "decryption.md", do: with_certificate("decryption", "contract")

  @tag skip: TLS.missing()
  test "tls.md" do
    :ok = TLS.start()
    with_certificate("tls", "chain")
  end

  # What each hands on to :ssl; the host is that of the test.
  @tag skip: TLS.missing()
  test "tls.md has options of :ssl for what is built on it" do
    :ok = TLS.start()
    directory = certified("tls-options", "chain")
    [code] = Regex.run(~r/^defmodule MyApp.TLS.*?(?=^```)/ms, File.read!("guides/tls.md"))
    code = String.replace(code, "MyApp.TLS", "MyApp.TLSOptions")
    code |> String.replace("/etc/acme", directory) |> Code.eval_string()
    tls = &apply(MyApp.TLSOptions, &1, [])

    servers = [
      tls.(:bandit)[:thousand_island_options][:transport_options],
      tls.(:phoenix)[:thousand_island_options][:transport_options],
      Keyword.delete(tls.(:cowboy), :port)
    ]

    clients = [
      tls.(:mint)[:transport_opts],
      tls.(:finch).default[:conn_opts][:transport_opts],
      tls.(:postgrex)[:ssl]
    ]

    for server <- servers, client <- clients do
      asks = [cacertfile: "#{directory}/ca.pem", verify: :verify_peer, fail_if_no_peer_cert: true]
      {listening, port} = TLS.listen(server ++ asks)
      served = TLS.serve(listening, fn socket -> elem(apply(:ssl, :peercert, [socket]), 1) end)
      options = [active: false, mode: :binary] ++ client
      {:ok, socket} = apply(:ssl, :connect, [~c"localhost", port, options, 60_000])
      [own] = TLS.der(File.read!("#{directory}/chain.pem"))
      assert {:ok, ^own} = apply(:ssl, :recv, [socket, byte_size(own), 60_000])
      assert {:ok, ^own} = apply(:ssl, :peercert, [socket])
      Task.await(served, 60_000)
    end
  end

  # The key "contract" has a certificate of an authority, in the file of this name.
  defp with_certificate(guide, name) do
    directory = certified(guide, name)
    Guide.run("guides/#{guide}.md", %{"/etc/acme" => directory})
  end

  defp certified(guide, name) do
    start_with_keys()
    directory = TLS.authority(Path.join(SoftHSM.directory(), guide))
    public_key = Cryptoki.public_key!(MyApp.HSM, label: "contract")
    pem = TLS.certificate(directory, public_key, "www.acme.test")
    File.write!(Path.join(directory, name <> ".pem"), pem)
    directory
  end

  @tag skip: @starts_softhsm
  test "testing.md, as an application whose tests run" do
    directory = Path.join(SoftHSM.directory(), "testing")
    text = File.read!("guides/testing.md")
    files = Regex.scan(~r/^```elixir\n# (\S+)\n(.*?)^```/ms, text, capture: :all_but_first)
    for [file, code] <- files, do: write(Path.join(directory, file), code)

    [faulty] = Regex.run(~r/"(deps\S+\.so)"/, text, capture: :all_but_first)
    write(Path.join(directory, faulty), File.read!(FaultyModule.build()))
    [softhsm] = Regex.run(~r/@softhsm "(.+)"/, text, capture: :all_but_first)
    assert softhsm == @library

    # What Mix does: the application, then the helper, then the tests.
    code = """
    files = &(&1 |> Path.wildcard() |> Enum.sort() |> Enum.each(fn file -> Code.require_file(file) end))
    :ok = Application.load(:ex_unit)
    Application.put_env(:ex_unit, :autorun, false)
    files.("lib/**/*.ex")
    :ok = :application.load({:application, :my_app, mod: {MyApp.Application, []}, applications: [:cryptoki]})
    files.("test/support/*.ex")
    files.("test/test_helper.exs")
    files.("test/my_app/*_test.exs")
    ExUnit.run()
    """

    ebin = Application.app_dir(:cryptoki, "ebin")
    [variable] = Regex.run(~r/SOFTHSM2_CONF=\$PWD\/(\S+) mix test/, text, capture: :all_but_first)
    configuration = Path.join(directory, variable)
    opts = [cd: directory, stderr_to_stdout: true, env: [{"SOFTHSM2_CONF", configuration}]]
    assert {output, 0} = System.cmd("elixir", ["-pa", ebin, "-e", code], opts)
    assert output =~ ~r/^(8 tests, 0 failures|Result: 8 passed)$/m, output
    assert File.ls!(configuration <> ".tokens") == []
  end

  @tag skip: @starts_softhsm
  test "testing.md, from Erlang" do
    [code] = Regex.run(~r/^init_per_testcase.*?(?=^```)/ms, File.read!("guides/testing.md"))
    exports = "-export([init_per_testcase/2, end_per_testcase/2]).\n"
    file = Path.join(SoftHSM.directory(), "hsm_suite.erl")
    File.write!(file, "-module(hsm_suite).\n" <> exports <> code)
    {:ok, module, beam} = :compile.file(to_charlist(file), [:binary])
    {:module, ^module} = :code.load_binary(module, to_charlist(file), beam)
    config = apply(module, :init_per_testcase, [:signs, []])
    assert {:ok, %{state: :ready}} = Cryptoki.status(config[:hsm])
    assert :ok = apply(module, :end_per_testcase, [:signs, config])
  end

  defp write(file, content) do
    File.mkdir_p!(Path.dirname(file))
    File.write!(file, content)
  end

  test "operations.md has a health check that tells what is the matter" do
    module = FaultyModule.new()

    [code] =
      Regex.run(~r/^defmodule MyApp.Health.*?(?=^```)/ms, File.read!("guides/operations.md"))

    Code.eval_string(code)
    check = fn -> apply(MyApp.Health, :check, []) end
    slow? = fn milliseconds -> apply(MyApp.Health, :slow?, [milliseconds]) end
    assert {:down, _not_running} = check.()

    opts = [name: MyApp.HSM, sessions: 2, timeout: 1_000, reconnect: [min: 1, max: 20]]
    FaultyModule.control(module, "C_OpenSession rv=0xB1 after=2")
    start_supervised!({Cryptoki, FaultyModule.options(module, opts)})
    assert {:warn, sentence} = check.()
    assert sentence =~ "the token has no session left"
    FaultyModule.control(module, "")
    await(fn -> check.() == :ok end)

    FaultyModule.control(module, "C_Digest hang")
    for _ <- 1..4, do: {:error, _} = Cryptoki.digest(MyApp.HSM, :sha256, "", timeout: 50)
    await(fn -> match?({:down, "C_Digest: no answer in time" <> _}, check.()) end)
    await(fn -> slow?.(10) end)
    FaultyModule.control(module, "")
    await(fn -> check.() == :ok and not slow?.(10) end)
  end

  describe "operations.md, on the node:" do
    @describetag skip: @starts_softhsm

    setup do
      System.put_env("HSM_SO_PIN", SoftHSM.so_pin())
      on_exit(fn -> System.delete_env("HSM_SO_PIN") end)
      %{label: SoftHSM.create(), library: SoftHSM.library_copy()}
    end

    @tag skip:
           @starts_softhsm || MainToken.apart("SoftHSM looks at its PIN when it is initialised")
    test "a PIN that was set back", %{label: label, library: library} do
      [here, elsewhere] = blocks("### The PIN was changed, and set back")
      ready = "iex> Cryptoki.status!(MyApp.HSM).state\n:ready\n```\n"
      environment = %{"library: library" => "library: #{inspect(library)}", "payments" => label}
      options = [library: library, label: label, name: MyApp.HSM, pin: {:env, "HSM_PIN"}]
      assert {_, 0} = change_pin(label, SoftHSM.pin(), "11111111")
      # Stopped by what runs the code.
      {:ok, _hsm} = Cryptoki.start_link(SoftHSM.options(options))
      # Who finds no token at the first look finds it at a later one.
      await(fn -> Cryptoki.status!(MyApp.HSM).state == :locked end)
      run(here <> ready, environment)

      # SoftHSM looks at its PIN when it is initialised: what another program did is done by a token that refuses.
      module = FaultyModule.new()
      FaultyModule.control(module, "C_Login rv=0xA0")
      options = [name: MyApp.HSM, pin: {:env, "HSM_PIN"}]
      {:ok, _hsm} = Cryptoki.start_link(FaultyModule.options(module, options))
      await(fn -> Cryptoki.status!(MyApp.HSM).state == :locked end)
      FaultyModule.control(module, "")
      run(elsewhere <> ready, %{})
    end

    test "SoftHSM sees a PIN that another program has changed when it is initialised anew",
         context do
      options = SoftHSM.options(library: context.library, label: context.label)
      assert {_, 0} = change_pin(context.label, SoftHSM.pin(), "11111111")
      hsm = start_supervised!({Cryptoki, options})
      assert {_, 0} = change_pin(context.label, "11111111", SoftHSM.pin())
      force = &Cryptoki.unlock(&1, SoftHSM.pin(), force: true)
      assert {:error, %{reason: :pin_incorrect}} = force.(hsm)
      stop_supervised!(Cryptoki)
      hsm = start_supervised!({Cryptoki, options})
      assert :ok = force.(hsm)
    end

    test "a key that another program has put in place of the old one", context do
      %{label: label, library: library} = context
      hsm = start_supervised!({Cryptoki, SoftHSM.options(library: library, label: label)})
      template = [label: "invoice", id: <<1>>, token: true, curve: :secp256r1]
      {_public, old} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, template)
      before = Cryptoki.public_key!(hsm, label: "invoice")
      sign = &Cryptoki.sign(hsm, &1, :ecdsa_sha256, "data", format: :der)
      assert {:ok, _signature} = sign.(label: "invoice")

      login = ~w(--login --pin #{SoftHSM.pin()})
      remove = &pkcs11_tool(label, login ++ ~w(--delete-object --label invoice --type #{&1}))
      make = ~w(--keypairgen --key-type EC:prime256v1 --label invoice --id 02)

      for kind <- ~w(privkey pubkey), do: assert({_, 0} = remove.(kind))
      assert {:error, %{reason: :key_not_found}} = sign.(label: "invoice")
      assert {_, 0} = pkcs11_tool(label, login ++ make)

      assert {:ok, signature} = sign.(label: "invoice")
      await(fn -> Cryptoki.public_key!(hsm, label: "invoice") != before end)
      public_key = Cryptoki.public_key!(hsm, label: "invoice")
      assert :public_key.verify("data", :sha256, signature, public_key)
      assert {:error, %{reason: :key_not_found}} = sign.(old)

      {:ok, new} = Cryptoki.find_one(hsm, label: "invoice", class: :private_key)
      assert {_, 0} = pkcs11_tool(label, login ++ make)
      assert {:ok, _signature} = sign.(new)
      await(fn -> match?({:error, %{reason: :key_ambiguous}}, sign.(label: "invoice")) end)
      assert {:ok, _signature} = sign.(new)
    end

    defp change_pin(label, old, new),
      do: pkcs11_tool(label, ~w(--change-pin --pin #{old} --new-pin #{new}))

    defp pkcs11_tool(label, arguments) do
      place = ~w(--module #{SoftHSM.library()} --token-label #{label})
      System.cmd("pkcs11-tool", place ++ arguments, stderr_to_stdout: true)
    end

    # The code under a heading, each block for itself.
    defp blocks(heading) do
      [_, rest] = String.split(File.read!("guides/operations.md"), heading)
      [section | _] = String.split(rest, ~r/^##+ /m)
      List.flatten(Regex.scan(~r/^```elixir\n.*?(?=^```$)/ms, section))
    end

    defp run(code, replacements) do
      file = Path.join(SoftHSM.directory(), "block.md")
      File.write!(file, code)
      Guide.run(file, replacements)
    end
  end

  test "install.md, for Nerves: a configuration and options that are right" do
    [configuration, children] =
      for [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, File.read!("guides/install.md")),
          do: code

    file = Path.join(SoftHSM.directory(), "target.exs")
    File.write!(file, "import Config\n" <> configuration)
    assert [nerves: [erlinit: [env: "TPM2_PKCS11_STORE=" <> store]]] = Config.Reader.read!(file)

    assert {[{Cryptoki, options}], _} =
             Code.eval_string(String.replace(children, "children = ", ""))

    assert %{id: MyApp.HSM} = Cryptoki.child_spec(options)
    assert {:file, pin} = options[:pin]
    assert Path.dirname(pin) == store
  end

  test "vendors.md has start options that are right, and a source for each vendor" do
    text = File.read!("guides/vendors.md")
    [_intro | vendors] = String.split(text, ~r/^## /m)
    assert length(vendors) == 7

    for vendor <- vendors do
      [_, code] = Regex.run(~r/^```elixir\n(.*?)^```/ms, vendor)
      {options, _} = Code.eval_string(code)
      # The library of a name is looked for on this machine, where only SoftHSM is.
      options = Keyword.update(options, :uri, nil, &String.replace(&1, ~r/\?.*/, ""))
      options = Keyword.put_new(options, :library, "/opt/vendor.so")
      assert %{id: Cryptoki} = Cryptoki.child_spec(options)
      assert vendor =~ ~r{\]\(https://[^)]+\)}
    end
  end

  describe "every guide" do
    # Of mix.exs, which an application that has the package does not see.
    @describetag :tree

    for guide <- Path.wildcard("guides/*.{md,cheatmd,livemd}") do
      @guide guide
      test "is listed where people look: #{guide}" do
        extras = Mix.Project.config()[:docs].()[:extras]
        assert @guide in extras or List.keymember?(extras, String.to_atom(@guide), 0)
        assert File.read!("README.md") =~ "(#{@guide})", "README.md does not link to #{@guide}"
      end
    end

    test "of errors has the table of the code" do
      assert Cryptoki.Test.AnswersGuide.current?()
    end
  end

  defp replacements(label), do: %{@library => SoftHSM.library_copy(), "payments" => label}

  defp start_with_keys do
    start_supervised!({Cryptoki, MainToken.own(name: MyApp.HSM)})
    Payments.make(MyApp.HSM)
  end

  defp token_with_keys do
    label = SoftHSM.create()

    start_supervised!({Cryptoki, SoftHSM.options(label: label, library: SoftHSM.library_copy())})
    |> Payments.make()

    stop_supervised!(Cryptoki)
    label
  end
end
