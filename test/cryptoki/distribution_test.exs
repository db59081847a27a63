defmodule Cryptoki.DistributionTest do
  use ExUnit.Case, async: false

  # Nodes whose connections are TLS with keys of a token: two VMs that are started with the flags of the guide, talked to
  # over their standard input. OpenSSL looks at the port of one.

  alias Cryptoki.{Error, SSL}
  alias Cryptoki.Test.{Cluster, Panics, Scratch, SoftHSM, TLS}

  @moduletag timeout: 600_000
  @host "127.0.0.1"
  @name __MODULE__.HSM

  setup_all do
    label = SoftHSM.create()
    directory = TLS.authority(Scratch.directory("distribution"))
    stranger = TLS.authority(Scratch.directory("stranger"))
    TLS.client(directory)
    library = SoftHSM.library_copy()
    {:ok, hsm} = Panics.start(SoftHSM.options(label: label, library: library))

    for {name, mechanism, template} <- [
          {"ec", :ec_key_pair_gen, [curve: :secp256r1]},
          {"rsa", :rsa_pkcs_key_pair_gen, [modulus_bits: 2048]},
          {"ed", :ec_edwards_key_pair_gen, [curve: :ed25519]}
        ] do
      template = [label: name, id: name, token: true] ++ template
      {public, _private} = Cryptoki.generate_key_pair!(hsm, mechanism, template)
      public = Cryptoki.public_key!(hsm, public)
      for to <- [directory, stranger], do: write(to, name, TLS.certificate(to, public, name))
    end

    :ok = Cryptoki.stop(hsm)
    %{label: label, library: library, directory: directory, stranger: stranger}
  end

  defp write(directory, name, pem), do: Scratch.write(directory, name <> ".pem", pem)

  defp options(directory),
    do: [certfile: Path.join(directory, "ec.pem"), cacertfile: Path.join(directory, "ca.pem")]

  describe "nodes" do
    @describetag skip: TLS.missing()

    setup do
      Cluster.epmd()
    end

    test "connect by keys of a token, as soon as the instances are ready", context do
      {a, _name} = node!(context, "ec")
      {b, node} = node!(context, "rsa")
      # Both are up, with TLS for everything, and there is no instance yet.
      refute connect?(a, node)
      start!(a, context)
      refute connect?(a, node)
      start!(b, context)
      assert connect?(a, node)
      assert :peer.call(a, :erpc, :call, [node, :erlang, :node, []]) == node
      # With the cookie, a call to the token of the other node, over its own key.
      there = {@name, node}
      assert {:ok, <<_::64>>} = :peer.call(a, Cryptoki, :random, [there, 8], 300_000)
    end

    test "show a program outside a certificate whose key signs, and want one", context do
      {a, node} = node!(context, "ec")
      start!(a, context)
      port = port(node)
      own = ~w(-cert #{context.directory}/client.pem -key #{context.directory}/client.key)
      {text, _status} = TLS.s_client(context.directory, port, own)
      assert text =~ ~r/Verif\w+(?: return code: 0 \(ok\)|: OK)/
      assert text =~ ~r/subject=CN ?= ?ec/
      assert text =~ ~r/signature type: (ECDSA|ecdsa_secp256r1_sha256)/
      {text, _status} = TLS.s_client(context.directory, port, ~w(-tls1_2))
      assert text =~ ~r/alert (handshake failure|certificate required)/i
    end

    test "of TLS 1.3 alone connect by Ed25519", context do
      [{a, _name}, {b, node}] = for name <- ~w(ed ed), do: node!(context, name)
      for peer <- [a, b], do: start!(peer, context)
      assert connect?(a, node)
    end

    test "of another authority, or with a key that is not the certificate's, do not", context do
      {a, _name} = node!(context, "ec")
      {b, other} = node!(%{context | directory: context.stranger}, "rsa")
      {c, wrong} = node!(context, "ec", "ed")
      for peer <- [a, b, c], do: start!(peer, context)
      refute connect?(a, other)
      refute connect?(a, wrong)
      refute connect?(c, other)
    end
  end

  # What the guide has, with the names of the test.
  defp node!(%{directory: directory}, certificate, key \\ nil) do
    config = Path.join(directory, "#{System.unique_integer([:positive])}.conf")
    guide = File.read!("guides/tls.md")
    [_, file] = Regex.run(~r/^```erlang\n(.*?)^```/ms, guide)

    names = [
      {"'Elixir.MyApp.HSM'", "'#{@name}'"},
      {~s(<<"node">>), ~s(<<"#{key || certificate}">>)},
      {"/etc/acme/node.pem", "#{directory}/#{certificate}.pem"},
      {"/etc/acme/ca.pem", "#{directory}/ca.pem"}
    ]

    File.write!(config, Enum.reduce(names, file, &replace/2))
    [_, flags] = Regex.run(~r/flags `(-proto_dist .*? FILE)`/, guide)
    flags = String.split(replace({"FILE", config}, flags))
    flags = flags ++ ~w(-setcookie #{Node.get_cookie()} -kernel net_setuptime 120)

    paths = for path <- :code.get_path(), do: [~c"-pa", to_charlist(path)]

    {:ok, peer, node} =
      :peer.start(%{
        name: ~c"cryptoki-tls-#{System.pid()}-#{System.unique_integer([:positive])}",
        host: to_charlist(@host),
        longnames: true,
        connection: :standard_io,
        wait_boot: 120_000,
        args: Enum.map(flags, &to_charlist/1) ++ Enum.concat(Enum.reverse(paths))
      })

    on_exit(fn -> stop(peer) end)
    {:ok, _} = :peer.call(peer, :application, :ensure_all_started, [:cryptoki], 120_000)
    :ok = :peer.call(peer, :logger, :set_primary_config, [:level, :none], 120_000)
    {peer, node}
  end

  defp replace({name, own}, text) do
    assert [_before, _behind] = String.split(text, name)
    String.replace(text, name, own)
  end

  defp stop(peer) do
    :peer.stop(peer)
  catch
    :exit, _stopped -> :ok
  end

  defp start!(peer, %{label: label, library: library}) do
    options = SoftHSM.options(name: @name, label: label, library: library, sessions: 2)
    {:ok, _hsm} = :peer.call(peer, Panics, :start, [options], 300_000)
  end

  defp connect?(peer, node), do: :peer.call(peer, :net_kernel, :connect_node, [node], 300_000)

  defp port(node) do
    [name, _host] = node |> Atom.to_string() |> String.split("@")
    {:port, port, _version} = :erl_epmd.port_please(to_charlist(name), {127, 0, 0, 1})
    port
  end

  describe "options" do
    @describetag skip: TLS.missing()

    test "are those of both sides", %{directory: directory} do
      own = [ssl: [verify_fun: {&__MODULE__.any/3, nil}, versions: [:"tlsv1.2"]]]

      # As strings of Erlang, too.
      options = Keyword.update!(options(directory), :certfile, &to_charlist/1)

      assert {:ok, [server: server, client: client]} =
               SSL.distribution(@name, [label: "ec"], options ++ own)

      assert server[:fail_if_no_peer_cert]
      refute Keyword.has_key?(client, :fail_if_no_peer_cert)

      for side <- [server, client] do
        assert [%{cert: [_der], key: %{algorithm: :ecdsa, sign_fun: sign}}] = side[:certs_keys]
        assert is_function(sign, 3)
        assert side[:verify] == :verify_peer
        assert side[:versions] == [:"tlsv1.2"]
        assert {fun, nil} = side[:verify_fun]
        assert is_function(fun, 3)
      end
    end

    test "of a file that is none are an error that names it", %{directory: directory} do
      File.write!(Path.join(directory, "empty.pem"), "")
      File.write!(Path.join(directory, "none.pem"), "none")

      for {file, text} <- [
            {"missing.pem", "no such file"},
            {"empty.pem", "empty"},
            {"none.pem", "none.pem"},
            {".", "illegal operation on a directory"}
          ],
          option <- [:certfile, :cacertfile] do
        file = Path.join(directory, file)
        given = Keyword.put(options(directory), option, file)
        assert {:error, %Error{} = error} = SSL.distribution(@name, [label: "ec"], given)
        assert error.reason == :invalid_argument
        assert Exception.message(error) =~ text
        assert Exception.message(error) =~ "#{option} #{file}"
        assert_raise Error, fn -> SSL.distribution!(@name, [label: "ec"], given) end
      end
    end
  end

  def any(_certificate, _event, state), do: {:valid, state}

  test "mistakes raise", %{directory: directory} do
    options = options(directory)

    for {name, key, given, text} <- [
          {{@name, :a@b}, [label: "ec"], options, "name: must be that of an instance of this"},
          {self(), [label: "ec"], options, "name: must be"},
          {nil, [label: "ec"], options, "name: must be"},
          {@name, [], options, "key: an empty selector"},
          {@name, [label: "ec"], [certfile: "a"], "cacertfile: must be the name of a file"},
          {@name, [label: "ec"], [certfile: "a\0", cacertfile: "b"], "certfile: must be"},
          {@name, [label: "ec"], [ssl: :verify_none] ++ options, "ssl: must be a keyword"},
          {@name, [label: "ec"], [keyfile: "a"] ++ options, "unknown option :keyfile"}
        ] do
      assert_raise ArgumentError, ~r/#{Regex.escape(text)}/, fn ->
        SSL.distribution(name, key, given)
      end
    end
  end

  if TLS.missing() do
    test "an older OTP is told which one is needed", %{directory: directory} do
      assert {:error, %Error{reason: :unsupported} = error} =
               SSL.distribution(@name, [label: "ec"], options(directory))

      assert Exception.message(error) =~ "OTP 27"
    end
  end
end
