defmodule Cryptoki.SSHTest do
  use ExUnit.Case, async: true

  # Certificates and signatures of the token, judged by ssh-keygen, and logins, by a daemon of OTP's.
  # That the referee refuses was seen with other hashes, mpints without their sign, and options out
  # of order.

  @compile {:no_warn_undefined, :ssh}

  alias Cryptoki.Error
  alias Cryptoki.Test.{KeyPairs, MainToken, Scratch, SSH, TLS}

  @nobody :no_such_instance
  @user [type: :user, key_id: "alice", principals: ["alice"], hours: 8]
  @ed25519 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 4)})

    keys = KeyPairs.make(hsm, ~w(rsa secp256r1 secp384r1 secp521r1 ed25519)a)
    directory = Scratch.directory("ssh")
    {_file, alice} = SSH.key(directory, ~w(-t ed25519))
    %{hsm: hsm, keys: keys, directory: directory, alice: alice}
  end

  for {key, name} <- [
        rsa: "rsa-sha2-512",
        secp256r1: "ecdsa-sha2-nistp256",
        secp384r1: "ecdsa-sha2-nistp384",
        secp521r1: "ecdsa-sha2-nistp521",
        ed25519: "ssh-ed25519"
      ] do
    describe "a key of #{key}" do
      @key key
      @name name

      test "is shown as ssh-keygen shows it", %{hsm: hsm, keys: keys, directory: directory} do
        line = Cryptoki.SSH.public_key!(hsm, keys[@key], comment: "of the token")
        file = Path.join(directory, "#{@key}.pub")
        File.write!(file, line)
        {text, 0} = SSH.keygen(~w(-l -f #{file}))
        assert {:ok, fingerprint} = Cryptoki.SSH.fingerprint(line)
        assert text =~ ~r/^\d+ #{Regex.escape(fingerprint)} of the token \(/
        public = Cryptoki.public_key!(hsm, keys[@key])
        assert Cryptoki.SSH.fingerprint!(public) == fingerprint
      end

      # Twice as often as numbers begin with a bit that is not their sign.
      test "certifies", %{hsm: hsm, keys: keys, directory: directory, alice: alice} do
        for _try <- 1..4 do
          line = Cryptoki.SSH.certificate!(hsm, keys[@key], alice, @user)
          text = SSH.show(directory, line)
          assert text =~ "Type: ssh-ed25519-cert-v01@openssh.com user certificate"
          assert text =~ Cryptoki.SSH.fingerprint!(alice)
          authority = Cryptoki.SSH.public_key!(hsm, keys[@key]) |> Cryptoki.SSH.fingerprint!()
          assert text =~ ~r/Signing CA: \S+ #{Regex.escape(authority)} \(using #{@name}\)/
          assert SSH.show(directory, spoilt(line)) == :refused
        end
      end

      test "signs files", %{hsm: hsm, keys: keys, directory: directory} do
        line = Cryptoki.SSH.public_key!(hsm, keys[@key])
        text = String.duplicate("text", 50_000)

        for {data, opts} <- [
              {text, []},
              {[text, ""], [namespace: "git", hash: :sha256]},
              {{:stream, ["te", ["x"], "t" | [String.duplicate("text", 49_999)]]}, []}
            ] do
          signature = Cryptoki.SSH.sign!(hsm, keys[@key], data, opts)
          namespace = opts[:namespace] || "file"
          assert SSH.valid?(directory, line, signature, text, namespace)
          refute SSH.valid?(directory, line, signature, text <> " ", namespace)
          refute SSH.valid?(directory, line, signature, text, "mail")
          refute SSH.valid?(directory, @ed25519, signature, text, namespace)
        end
      end
    end
  end

  describe "a certificate" do
    test "of RSA is signed with SHA-256 when asked for", %{hsm: hsm, keys: keys} = context do
      line = Cryptoki.SSH.certificate!(hsm, keys.rsa, context.alice, [hash: :sha256] ++ @user)
      assert SSH.show(context.directory, line) =~ "(using rsa-sha2-256)"
    end

    test "is for keys of every kind", %{hsm: hsm, keys: keys, directory: directory} do
      for arguments <- [~w(-t rsa -b 2048)] ++ for(b <- [256, 384, 521], do: ~w(-t ecdsa -b #{b})) do
        {_file, line} = SSH.key(directory, arguments)
        certificate = Cryptoki.SSH.certificate!(hsm, keys.ed25519, line, @user)
        assert SSH.show(directory, certificate) =~ Cryptoki.SSH.fingerprint!(line)
        assert certificate =~ ~r/ alice@laptop\z/
      end

      # Of security keys, which ssh-keygen makes with the hardware only.
      {point, _private} = :crypto.generate_key(:ecdh, :secp256r1)
      {ed25519, _private} = :crypto.generate_key(:eddsa, :ed25519)

      for {type, fields} <- [
            {"sk-ssh-ed25519@openssh.com", [ed25519, "ssh:"]},
            {"sk-ecdsa-sha2-nistp256@openssh.com", ["nistp256", point, "ssh:"]}
          ] do
        blob =
          for field <- [type | fields], into: <<>>, do: <<byte_size(field)::32, field::binary>>

        line = "#{type} #{Base.encode64(blob)}"
        certificate = Cryptoki.SSH.certificate!(hsm, keys.secp256r1, line, @user)
        assert SSH.show(directory, certificate) =~ "#{String.replace(type, "@", "-cert-v01@")}"
        assert certificate =~ ~r/\Ask-.*-cert-v01@openssh.com \S+ alice\z/
      end

      # Of :public_key, and on the token.
      public = Cryptoki.public_key!(hsm, keys.secp384r1)

      for subject <- [public, keys.secp384r1, [id: keys.secp384r1.id]] do
        certificate = Cryptoki.SSH.certificate!(hsm, keys.rsa, subject, @user)
        assert SSH.show(directory, certificate) =~ Cryptoki.SSH.fingerprint!(public)
      end
    end

    test "says what one of ssh-keygen says", %{hsm: hsm, keys: keys, directory: directory} do
      {authority, _line} = SSH.key(directory, ~w(-t ed25519))

      for {ours, theirs} <- [
            {[
               type: :user,
               key_id: "alice",
               principals: ["alice", "root"],
               serial: 0xFFFFFFFFFFFFFFFF,
               valid_after: ~U[2026-01-01 00:00:00Z],
               valid_before: ~U[2026-07-01 12:30:00Z],
               critical_options: [
                 source_address: ["10.0.0.0/8", "2001:db8::1"],
                 force_command: "uptime -p",
                 verify_required: true
               ]
             ],
             ~w(-I alice -n alice,root -z 18446744073709551615 -V 20260101000000Z:20260701123000Z) ++
               ~w(-O source-address=10.0.0.0/8,2001:db8::1 -O verify-required) ++
               ["-O", "force-command=uptime -p"]},
            {[
               type: :user,
               key_id: "a b",
               principals: :any,
               serial: 0,
               valid_after: :always,
               valid_before: :forever,
               extensions: [:permit_pty, "permit-X11-forwarding", {"login@github.com", "alice"}],
               critical_options: %{"x@example.org" => "1"}
             ],
             ["-I", "a b"] ++
               ~w(-O clear -O permit-pty -O permit-X11-forwarding -V always:forever) ++
               ~w(-O extension:login@github.com=alice -O critical:x@example.org=1)},
            {[
               type: :user,
               key_id: "alice",
               principals: ["alice"],
               serial: 1,
               valid_after: ~U[2026-01-01 00:00:00Z],
               days: 7,
               extensions: [:no_touch_required]
             ],
             ~w(-I alice -n alice -z 1 -V 20260101000000Z:20260108000000Z -O clear -O no-touch-required)},
            {[
               type: :host,
               key_id: "www",
               principals: ["www.example.org"],
               serial: 7,
               valid_after: ~U[2026-01-01 00:00:00Z],
               hours: 24
             ], ~w(-h -I www -n www.example.org -z 7 -V 20260101000000Z:20260102000000Z)}
          ] do
        {file, subject} = SSH.key(directory, ~w(-t ed25519))
        {_, 0} = SSH.keygen(~w(-q -s #{authority}) ++ theirs ++ [file <> ".pub"])
        expected = SSH.show(directory, File.read!(file <> "-cert.pub"))
        shown = SSH.show(directory, Cryptoki.SSH.certificate!(hsm, keys.ed25519, subject, ours))
        assert without_authority(shown) == without_authority(expected)
      end
    end

    test "is made on a session of one's own", %{hsm: hsm, keys: keys} = context do
      Cryptoki.with_session(hsm, fn session ->
        line = Cryptoki.SSH.certificate!(session, keys.rsa, context.alice, @user)
        assert SSH.show(context.directory, line) =~ "user certificate"
      end)
    end

    test "has a serial of its own and begins a minute ago", %{hsm: hsm} = context do
      shown =
        for _ <- 1..2 do
          line = Cryptoki.SSH.certificate!(hsm, context.keys.ed25519, context.alice, @user)
          SSH.show(context.directory, line)
        end

      assert [[_, a], [_, b]] = for(text <- shown, do: Regex.run(~r/Serial: (\d+)/, text))
      assert a != b
      [_, from, to] = Regex.run(~r/Valid: from (\S+) to (\S+)/, hd(shown))
      [from, to] = for text <- [from, to], do: NaiveDateTime.from_iso8601!(text)
      assert NaiveDateTime.diff(to, from) == 8 * 3600 + 60
    end
  end

  describe "refused" do
    test "are options, before anything is asked of the token" do
      for {opts, text} <- [
            {[type: :user], "key_id: must be text"},
            {[key_id: "a"], "type: must be :user or :host, got: nil"},
            {[type: :users], "type: must be :user or :host"},
            {[key_id: "a\nb"], "key_id: must be text on one line"},
            {[key_id: ""], "key_id: must be text"},
            {[principals: nil], "principals: must be a list of names, or :any"},
            {[principals: []], "principals: must be a list of names, or :any"},
            {[principals: ["a,b"]], "principals: are names without spaces and commas"},
            {[principals: [:alice]], "principals: must be text"},
            {[serial: -1], "serial: must be from 0"},
            {[hours: nil], "one of valid_before:, days: and hours: is needed"},
            {[days: 1], "one of valid_before:, days: and hours: is needed"},
            {[hours: 0], "hours: must be a number above 0"},
            {[hours: 1.5], "hours: must be a number above 0"},
            {[hours: nil, valid_before: "2027-01-01"], "valid_before: must be a DateTime"},
            {[hours: nil, valid_before: ~U[1969-01-01 00:00:00Z]],
             "valid_before: must be a DateTime"},
            {[hours: nil, valid_before: ~U[2020-01-01 00:00:00Z]],
             "valid_before: must be later than"},
            {[valid_after: :forever], "valid_after: must be a DateTime from 1970 on or :always"},
            {[critical_options: [force_comand: "x"]], "did you mean :force_command"},
            {[critical_options: ["force-comand"]], "critical_options: must be names of OpenSSH"},
            {[critical_options: [source_address: "10.0.0/8"]], "wants addresses or networks"},
            {[critical_options: [source_address: "10.0.0.0/33"]], "wants addresses or networks"},
            {[critical_options: [source_address: []]], "wants addresses or networks"},
            {[critical_options: [:force_command]], "wants force-command with a value"},
            {[critical_options: [{"source-address", true}]], "wants source-address with a value"},
            {[critical_options: [force_command: ""]], "critical_options: must be text"},
            {[critical_options: [{"x", "y"}]], "critical_options: must be names of OpenSSH"},
            {[principals: for(n <- 1..257, do: "user#{n}")], "principals: has 257 names"},
            {[principals: ["a" | "b"]], "principals: must be a list of names, or :any"},
            {[valid_before: :forever], "one of valid_before:, days: and hours: is needed"},
            {[critical_options: [verify_required: "yes"]], "verify-required without a value"},
            {[critical_options: [:verify_required, "verify-required"]], "have a name twice"},
            {[critical_options: :none], "critical_options: must be a list or a map"},
            {[extensions: [:permit_x11]], "did you mean :permit_x11_forwarding"},
            {[extensions: [permit_pty: false]], "permit-pty without a value"},
            {[type: :host, extensions: [:permit_pty]], "names with @ and a domain only"},
            {[type: :host, critical_options: [force_command: "x"]], "names with @ and a domain"},
            {[comment: "a\nb"], "comment: must be text on one line"},
            {[hash: :sha], "hash: must be :sha512 or :sha256"},
            {[principal: "a"], "did you mean :principals"},
            {[timeout: 0], "timeout: must be milliseconds"}
          ] do
        opts = Keyword.merge(if(opts[:type] == :user, do: [hours: 1], else: @user), opts)
        opts = if text =~ "got: nil", do: Keyword.delete(opts, :type), else: opts

        error =
          assert_raise ArgumentError, fn ->
            Cryptoki.SSH.certificate(@nobody, [label: "x"], @ed25519, opts)
          end

        assert Exception.message(error) =~ text
      end

      for {data, opts, text} <- [
            {"", [namespace: ""], "namespace: must be text"},
            {"", [hash: :md5], "hash: must be"},
            {"", [names: "x"], "unknown option :names"},
            {"", :none, "expected a keyword list or a map, got: an atom"},
            {:text, [], "data is iodata"}
          ] do
        error =
          assert_raise ArgumentError, fn ->
            Cryptoki.SSH.sign(@nobody, [label: "x"], data, opts)
          end

        assert Exception.message(error) =~ text
      end

      assert_raise ArgumentError, ~r/unknown option :pin/, fn ->
        Cryptoki.SSH.public_key(@nobody, [label: "x"], pin: "1")
      end

      assert_raise ArgumentError, ~r/public_key: must be a line/, fn ->
        Cryptoki.SSH.fingerprint(label: "x")
      end
    end

    test "are texts that are no public key, without a word to the token", %{directory: directory} do
      {_file, ecdsa} = SSH.key(directory, ~w(-t ecdsa))
      ["ssh-ed25519", base64] = String.split(@ed25519)
      blob = Base.decode64!(base64)
      field = fn bytes -> <<byte_size(bytes)::32, bytes::binary>> end
      rsa = <<0, 255, 0::2032, 1>>
      {point, _private} = :crypto.generate_key(:eddsa, :ed25519)

      line = fn type, fields ->
        "#{type} #{Base.encode64(field.(type) <> Enum.map_join(fields, field))}"
      end

      for {text, reason} <- [
            {"", :invalid_argument},
            {"ssh-ed25519", :invalid_argument},
            {"ssh-ed25519 AAAA", :invalid_argument},
            {"ssh-rsa #{base64}", :invalid_argument},
            {@ed25519 <> "AA==", :invalid_argument},
            {@ed25519 <> "\n" <> @ed25519, :invalid_argument},
            {"ssh-ed25519 #{Base.encode64(blob <> "more")}", :invalid_argument},
            {"ssh-ed25519 #{Base.encode64(binary_part(blob, 0, 50))}", :invalid_argument},
            {String.replace(ecdsa, "nistp256", "nistp384"), :invalid_argument},
            {line.("ecdsa-sha2-nistp256", ["nistp256", <<2, 0::256>>]), :invalid_argument},
            {line.("ssh-rsa", [<<3>>, <<255, 0::2048>>]), :invalid_argument},
            {line.("ssh-rsa", [<<1>>, <<0, 255, 0::2048>>]), :invalid_argument},
            {line.("ssh-rsa", [<<3>>, <<0, 255, 0::504>>]), :key_size_range},
            # Numbers with zeros before them, or without bytes.
            {line.("ssh-rsa", [<<0, 3>>, rsa]), :invalid_argument},
            {line.("ssh-rsa", [<<3>>, <<0>> <> rsa]), :invalid_argument},
            {line.("ssh-rsa", ["", rsa]), :invalid_argument},
            {line.("ssh-rsa", [<<3>>, <<0>>]), :invalid_argument},
            {line.("ssh-rsa", [<<4>>, rsa]), :invalid_argument},
            {line.("ssh-rsa", [<<1, 0::64, 1>>, rsa]), :invalid_argument},
            {line.("ssh-rsa", [<<3>>, <<0, 255, 0::2032, 2>>]), :invalid_argument},
            {line.("ssh-rsa", [<<3>>, <<1, 0::16_376, 1>>]), :key_size_range},
            # A point of no curve; a coordinate that is none; the other form; the point of none.
            {line.("ecdsa-sha2-nistp256", ["nistp256", <<4, 1::512>>]), :invalid_argument},
            {line.("ecdsa-sha2-nistp521", ["nistp521", <<4, -1::1056>>]), :invalid_argument},
            {line.("sk-ecdsa-sha2-nistp256@openssh.com", ["nistp256", <<4, 1::512>>, "ssh:"]),
             :invalid_argument},
            {line.("sk-ssh-ed25519@openssh.com", [point, "ssh:\0"]), :invalid_argument},
            # Bytes that are no point of Ed25519, and points with which everybody can sign.
            {line.("ssh-ed25519", [<<2::little-256>>]), :invalid_argument},
            {line.("ssh-ed25519", [<<1::little-256>>]), :invalid_argument},
            {line.("ssh-ed25519", [<<0::256>>]), :invalid_argument},
            {line.("sk-ssh-ed25519@openssh.com", [<<0::256>>, "ssh:"]), :invalid_argument},
            # Another spelling of base64, a certificate, options before it, and more than is read.
            {Regex.replace(~r/(.)= /, ecdsa, fn _all, c -> <<:binary.first(c) + 1, "= ">> end),
             :invalid_argument},
            {"ssh-ed25519 #{Base.encode64(blob, padding: false)}A", :invalid_argument},
            {"ssh-ed25519-cert-v01@openssh.com #{base64}", :invalid_argument},
            {line.("ssh-ed25519-cert-v01@openssh.com", ["nonce"]), :unsupported},
            {~s(command="id" ) <> @ed25519, :invalid_argument},
            {@ed25519 <> " " <> String.duplicate("x", 20_000), :invalid_argument},
            {@ed25519 <> " a\0b", :invalid_argument},
            {@ed25519 <> " a\eb", :invalid_argument},
            {@ed25519 <> <<" ", 255>>, :invalid_argument},
            {<<0xFEFF::utf8>> <> @ed25519, :invalid_argument},
            {line.("ssh-dss", ["p", "q", "g", "y"]), :unsupported},
            {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", :invalid_argument}
          ] do
        assert {:error, %Error{reason: ^reason, code: nil}} =
                 Cryptoki.SSH.certificate(@nobody, [label: "x"], text, @user),
               text

        assert {:error, %Error{reason: ^reason}} = Cryptoki.SSH.fingerprint(text)
      end

      for fields <- [[<<3>>, rsa], [<<1, 0, 1>>, <<1, 0::16_368, 1>>]],
          do: assert({:ok, _fingerprint} = Cryptoki.SSH.fingerprint(line.("ssh-rsa", fields)))

      assert_raise Error, fn -> Cryptoki.SSH.fingerprint!("") end
    end

    test "are such texts by chance", %{hsm: hsm, keys: keys, directory: directory} do
      lines =
        for arguments <- [~w(-t rsa -b 1024), ~w(-t ecdsa), ~w(-t ed25519)],
            do: directory |> SSH.key(arguments) |> elem(1)

      for _ <- 1..300 do
        [type, base64 | _] = lines |> Enum.random() |> String.split()
        bytes = Base.decode64!(base64)
        {head, <<_, rest::binary>>} = :erlang.split_binary(bytes, :rand.uniform(40) - 1)
        bytes = head <> Enum.random([:rand.bytes(1), "", :rand.bytes(2)]) <> rest
        text = Enum.random(["#{type} #{Base.encode64(bytes)}", type <> " " <> bytes, bytes])

        case Cryptoki.SSH.certificate(hsm, keys.ed25519, text, @user) do
          {:ok, line} -> assert line =~ ~r/-cert-v01@openssh.com /
          {:error, %Error{code: nil}} -> :refused
        end
      end
    end

    test "are keys that SSH has no name for, and those that are not there",
         %{hsm: hsm} = context do
      %{ed448: key} = KeyPairs.make(hsm, [:ed448])

      for fun <- [
            &Cryptoki.SSH.public_key(hsm, &1),
            &Cryptoki.SSH.sign(hsm, &1, "text"),
            &Cryptoki.SSH.certificate(hsm, &1, context.alice, @user),
            &Cryptoki.SSH.certificate(hsm, context.keys.rsa, &1, @user)
          ] do
        assert {:error, %Error{reason: :unsupported}} = fun.(key)
        assert {:error, %Error{reason: :key_not_found}} = fun.(label: "not there")
      end

      # One for PSS has other signatures.
      assert {:error, %Error{reason: :unsupported}} =
               Cryptoki.SSH.fingerprint(
                 {{:RSAPublicKey, 1, 3}, {:"RSASSA-PSS-params", 1, 2, 3, 4}}
               )

      # Terms that only look like one.
      {point, _private} = :crypto.generate_key(:eddsa, :ed25519)

      for key <- [
            {:RSAPublicKey, -1, 3},
            {:RSAPublicKey, "n", 3},
            {{:ECPoint, :point}, {:namedCurve, {1, 3, 101, 112}}},
            {{:ECPoint, point}, {:namedCurve, :ed25519}},
            {}
          ],
          do: assert({:error, %Error{reason: :unsupported}} = Cryptoki.SSH.fingerprint(key))

      assert {:error, %Error{reason: :unsupported}} =
               Cryptoki.SSH.public_key(hsm, context.keys.ed25519 |> secret(hsm))
    end
  end

  describe "OTP's client" do
    setup %{directory: directory} do
      :ok = TLS.start(:ssh)
      [host, user, client] = for name <- ~w(host user client), do: Path.join(directory, name)
      for folder <- [host, user, client], do: File.mkdir_p!(folder)
      file = Path.join(host, "ssh_host_ed25519_key")

      unless File.exists?(file),
        do: {"", 0} = SSH.keygen(~w(-q -t ed25519 -N) ++ ["", "-f", file])

      options = [system_dir: to_charlist(host), user_dir: to_charlist(user)]
      {:ok, daemon} = :ssh.daemon({127, 0, 0, 1}, 0, [auth_methods: ~c"publickey"] ++ options)
      on_exit(fn -> :ssh.stop_daemon(daemon) end)
      {:ok, info} = :ssh.daemon_info(daemon)
      %{port: info[:port], allowed: Path.join(user, "authorized_keys"), client: client}
    end

    for {key, algorithms} <- [
          rsa: [:"rsa-sha2-512"],
          rsa: [:"rsa-sha2-256"],
          secp256r1: [],
          secp384r1: [],
          secp521r1: [],
          ed25519: []
        ] do
      test "logs in with a key of #{key} #{inspect(algorithms)}",
           %{hsm: hsm, keys: keys} = context do
        key = keys[unquote(key)]
        File.write!(context.allowed, Cryptoki.SSH.public_key!(hsm, key) <> "\n")
        algorithms = [pref_public_key_algs: unquote(algorithms)]
        algorithms = if unquote(algorithms) == [], do: [], else: algorithms
        assert {:ok, connection} = connect(context, key, algorithms)
        :ok = :ssh.close(connection)

        File.write!(context.allowed, @ed25519 <> "\n")
        assert {:error, _refused} = connect(context, key, algorithms)
      end
    end

    test "does without a key that is not there", %{allowed: allowed} = context do
      File.write!(allowed, @ed25519 <> "\n")
      assert {:error, _no_more_methods} = connect(context, [label: "not there"], [])
    end
  end

  defp connect(context, key, more) do
    options = [
      user: ~c"alice",
      user_dir: to_charlist(context.client),
      silently_accept_hosts: true,
      save_accepted_host: true,
      user_interaction: false,
      key_cb: {Cryptoki.SSH.ClientKey, hsm: context.hsm, key: key}
    ]

    :ssh.connect({127, 0, 0, 1}, context.port, options ++ more, 30_000)
  end

  defp secret(_key, hsm),
    do: Cryptoki.generate_key!(hsm, :aes_key_gen, value_len: 16)

  # The last byte belongs to the signature.
  defp spoilt(line) do
    [type, base64, comment] = String.split(line, " ", parts: 3)
    bytes = Base.decode64!(base64)
    {most, <<last>>} = :erlang.split_binary(bytes, byte_size(bytes) - 1)
    "#{type} #{Base.encode64(most <> <<Bitwise.bxor(last, 1)>>)} #{comment}"
  end

  defp without_authority(text), do: String.replace(text, ~r/Signing CA: .*/, "")
end
