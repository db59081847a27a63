defmodule Cryptoki.SSLTest do
  use ExUnit.Case, async: true

  # TLS with keys of the token. OpenSSL and curl are at the other end; with a signature of another
  # padding, salt or form they end the handshake, which was seen for each by spoiling it here.

  @compile {:no_warn_undefined, :ssl}

  import ExUnit.CaptureLog

  alias Cryptoki.{Error, SSL}
  alias Cryptoki.Test.{KeyPairs, MainToken, SoftHSM, TLS}

  @curves [:secp256r1, :secp384r1, :secp521r1]

  setup_all do
    :ok = TLS.start()
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 4)})
    directory = TLS.authority(Path.join(SoftHSM.directory(), "tls"))
    TLS.client(directory)

    rsa = [modulus_bits: 2048]
    keys = %{rsa: key(hsm, directory, :rsa_pkcs_key_pair_gen, rsa)}

    keys =
      for curve <- @curves,
          into: keys,
          do: {curve, key(hsm, directory, :ec_key_pair_gen, curve: curve)}

    edwards = key(hsm, directory, :ec_edwards_key_pair_gen, curve: :ed25519)
    %{hsm: hsm, directory: directory, keys: Map.put(keys, :ed25519, edwards)}
  end

  defp key(hsm, directory, mechanism, template) do
    id = :crypto.strong_rand_bytes(8)
    {public, private} = Cryptoki.generate_key_pair!(hsm, mechanism, [id: id] ++ template)
    public = Cryptoki.public_key!(hsm, public)
    %{private: private, public: public, pem: TLS.certificate(directory, public, "token")}
  end

  defp entry(%{hsm: hsm, keys: keys}, name),
    do: SSL.certs_keys!(hsm, keys[name].private, keys[name].pem)

  if TLS.missing() do
    test "an older OTP is told which one is needed", context do
      %{private: private, pem: pem} = context.keys.rsa

      assert {:error, %Error{reason: :unsupported} = error} =
               SSL.certs_keys(context.hsm, private, pem)

      assert Exception.message(error) =~ "OTP 27"
      assert Exception.message(error) =~ "this is OTP #{System.otp_release()}"
      assert_raise Error, fn -> SSL.certs_keys!(context.hsm, private, pem) end
    end
  end

  describe "a server" do
    @describetag skip: TLS.missing()

    # {key, version, signature algorithms of the client, what s_client says of the signature, which
    # newer ones call by its full name}
    @servers [
      {:rsa, "1_3", "rsa_pss_rsae_sha256", ~w(RSA-PSS|rsa_pss_rsae_sha256 SHA256)},
      {:rsa, "1_3", "rsa_pss_rsae_sha384", ~w(RSA-PSS|rsa_pss_rsae_sha384 SHA384)},
      {:rsa, "1_3", "rsa_pss_rsae_sha512", ~w(RSA-PSS|rsa_pss_rsae_sha512 SHA512)},
      {:rsa, "1_2", "rsa_pss_rsae_sha256", ~w(RSA-PSS|rsa_pss_rsae_sha256 SHA256)},
      {:rsa, "1_2", "rsa_pkcs1_sha256", ~w(RSA|rsa_pkcs1_sha256 SHA256)},
      {:secp256r1, "1_3", "ecdsa_secp256r1_sha256", ~w(ECDSA|ecdsa_secp256r1_sha256 SHA256)},
      {:secp384r1, "1_3", "ecdsa_secp384r1_sha384", ~w(ECDSA|ecdsa_secp384r1_sha384 SHA384)},
      {:secp521r1, "1_3", "ecdsa_secp521r1_sha512", ~w(ECDSA|ecdsa_secp521r1_sha512 SHA512)},
      {:secp256r1, "1_2", "ECDSA+SHA256", ~w(ECDSA|ecdsa_secp256r1_sha256 SHA256)},
      {:secp384r1, "1_2", "ECDSA+SHA384", ~w(ECDSA|ecdsa_secp384r1_sha384 SHA384)},
      {:ed25519, "1_3", "ed25519", ["Ed25519", nil]}
    ]

    for {key, version, algorithm, [type, digest]} <- @servers do
      test "of #{key} signs for TLS #{version} with #{algorithm}", context do
        options = [certs_keys: [entry(context, unquote(key))], versions: versions(unquote(key))]
        {listening, port} = TLS.listen(options)
        server = TLS.serve(listening, fn _socket -> "signed by the token" end)
        algorithms = algorithms(unquote(key), unquote(algorithm))
        signature = ~w(-tls#{unquote(version)} -sigalgs #{algorithms})
        {text, status} = TLS.s_client(context.directory, port, signature)
        Task.await(server, 30_000)

        assert {status, text} |> inspect(printable_limit: :infinity) =~ "signed by the token"
        assert text =~ ~r/Verif\w+(?: return code: 0 \(ok\)|: OK)/
        assert text =~ ~r/signature type: (#{unquote(type)})$/mi
        assert text =~ "#{unquote(digest && "Peer signing digest: #{digest}")}"
        assert status == 0
      end
    end

    # TLS 1.2 of :ssl has no EdDSA, and refuses the option.
    defp versions(:ed25519), do: [:"tlsv1.3"]
    defp versions(_key), do: [:"tlsv1.3", :"tlsv1.2"]

    # The certificate itself is signed by the authority, with RSA PKCS #1 and SHA-256.
    defp algorithms(:rsa, algorithm), do: algorithm
    defp algorithms(_key, algorithm), do: algorithm <> ":RSA+SHA256"

    test "answers curl, and knows it by its certificate", context do
      {listening, port} =
        TLS.listen(
          certs_keys: [entry(context, :secp256r1)],
          cacertfile: "#{context.directory}/ca.pem",
          verify: :verify_peer,
          fail_if_no_peer_cert: true
        )

      serve = fn socket ->
        {:ok, "GET / HTTP/1.1\r\n" <> _} = :ssl.recv(socket, 0, 30_000)
        {:ok, der} = :ssl.peercert(socket)
        body = if [der] == TLS.der(File.read!("#{context.directory}/client.pem")), do: "curl"
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello #{body}"
      end

      server = TLS.serve(listening, serve)

      curl =
        ~w(--silent --show-error --cacert ca.pem --cert client.pem --key client.key) ++
          ["https://localhost:#{port}/"]

      options = [cd: context.directory, stderr_to_stdout: true]
      assert System.cmd("curl", curl, options) == {"hello curl", 0}
      Task.await(server, 30_000)
    end

    # In TLS 1.3 :ssl looks at the signatures of the certificates only, which are the same here.
    test "with two keys takes the one that the client knows", context do
      both = [entry(context, :secp256r1), entry(context, :rsa)]
      {listening, port} = TLS.listen(certs_keys: both)

      for {kind, type} <- [{"RSA", ~r/type: (RSA|rsa)/}, {"ECDSA", ~r/type: (ECDSA|ecdsa)/}] do
        server = TLS.serve(listening, fn _socket -> "hello" end)
        cipher = ~w(-tls1_2 -cipher ECDHE-#{kind}-AES256-GCM-SHA384)
        {text, 0} = TLS.s_client(context.directory, port, cipher)
        assert text =~ type
        Task.await(server, 30_000)
      end
    end

    test "whose token is gone ends the handshake, not more, and the log says why", context do
      options = MainToken.options(label: Enum.at(SoftHSM.labels(), 1), sessions: 1)
      {:ok, hsm} = Cryptoki.start_link(options)
      key = key(hsm, context.directory, :ec_key_pair_gen, curve: :secp256r1)
      entry = SSL.certs_keys!(hsm, key.private, key.pem)
      :ok = Cryptoki.stop(hsm)

      {listening, port} = TLS.listen(certs_keys: [entry])
      # :ssl itself tells the reason at a level that nobody has.
      log =
        capture_log([level: :error], fn ->
          server = TLS.serve(listening, fn _socket -> "never" end)
          {text, status} = TLS.s_client(context.directory, port, [])
          assert text =~ "handshake failure"
          assert status != 0
          assert {:error, {:tls_alert, {:handshake_failure, _}}} = Task.await(server, 30_000)
        end)

      assert log =~ "cryptoki: a signature for :ssl failed: "
      assert log =~ "no instance"
    end
  end

  describe "a certificate for PSS" do
    @describetag skip: TLS.missing()

    # OpenSSL's names of the parameters that are in it.
    @sha256 ~w(keygen_md:sha256 keygen_mgf1_md:sha256 keygen_saltlen:32)

    defp pss(context, parameters) do
      {key, pem} =
        KeyPairs.pss(context, Enum.flat_map(parameters, &["-pkeyopt", "rsa_pss_" <> &1]))

      file = Path.join(context.directory, "#{System.unique_integer([:positive])}.pem")
      File.write!(file, pem)
      {SSL.certs_keys(context.hsm, key, pem), file}
    end

    for {version, options} <- [{"1_3", [:"tlsv1.3"]}, {"1_2", [:"tlsv1.2"]}] do
      test "with SHA-256 signs with no other hash in TLS #{version}, and says what to set",
           context do
        {{:ok, entry}, file} = pss(context, @sha256)

        client =
          ~w(-tls#{unquote(version)} -CAfile #{file} -sigalgs rsa_pss_pss_sha384:rsa_pss_pss_sha256)

        # The client would rather have SHA-384.
        {listening, port} = TLS.listen(certs_keys: [entry], versions: unquote(options))

        log =
          capture_log([level: :error], fn ->
            server = TLS.serve(listening, fn _socket -> "never" end)
            {_text, status} = TLS.s_client(context.directory, port, client)
            assert status != 0
            assert {:error, {:tls_alert, {:handshake_failure, _}}} = Task.await(server, 30_000)
          end)

        assert log =~ "allows PSS with sha256 only"
        assert log =~ "signature_algs: [:rsa_pss_pss_sha256]"

        {listening, port} =
          TLS.listen(
            certs_keys: [entry],
            versions: unquote(options),
            signature_algs: [:rsa_pss_pss_sha256]
          )

        server = TLS.serve(listening, fn _socket -> "signed by the token" end)
        {text, 0} = TLS.s_client(context.directory, port, client)
        Task.await(server, 30_000)
        assert text =~ "signed by the token"
        assert text =~ ~r/Peer signing digest: SHA256/
      end
    end

    test "with any hash signs with that of the client", context do
      {{:ok, entry}, file} = pss(context, [])
      {listening, port} = TLS.listen(certs_keys: [entry])
      server = TLS.serve(listening, fn _socket -> "signed by the token" end)
      client = ~w(-CAfile #{file} -sigalgs rsa_pss_pss_sha384:rsa_pss_pss_sha256)
      {text, 0} = TLS.s_client(context.directory, port, client)
      Task.await(server, 30_000)
      assert text =~ ~r/Peer signing digest: SHA384/
    end

    test "that TLS has no signature for is told at once", context do
      for parameters <- [
            ~w(keygen_md:sha1 keygen_mgf1_md:sha1 keygen_saltlen:20),
            ~w(keygen_md:sha256 keygen_mgf1_md:sha1 keygen_saltlen:32),
            ~w(keygen_md:sha256 keygen_mgf1_md:sha384 keygen_saltlen:32),
            ~w(keygen_md:sha256 keygen_mgf1_md:sha256 keygen_saltlen:33),
            ~w(keygen_md:sha224 keygen_mgf1_md:sha224 keygen_saltlen:28)
          ] do
        assert {{:error, %Error{reason: :unsupported} = error}, _file} = pss(context, parameters)
        assert Exception.message(error) =~ "PSS"
      end
    end

    test "signs by PSS only", context do
      {{:ok, %{key: key}}, _file} = pss(context, @sha256)
      pss = [rsa_padding: :rsa_pkcs1_pss_padding, rsa_mgf1_md: :sha256, rsa_pss_saltlen: 32]
      assert is_binary(:public_key.sign("text", :sha256, key, pss))

      capture_log(fn ->
        for {hash, options} <- [
              {:sha256, []},
              {:sha512, pss},
              {:sha256, [rsa_mgf1_md: :sha384] ++ pss},
              {:sha256, [rsa_pss_saltlen: 20] ++ pss}
            ],
            do: assert_raise(Error, fn -> :public_key.sign("text", hash, key, options) end)
      end)
    end
  end

  describe "Ed448" do
    @describetag skip: TLS.missing() || MainToken.lacks_key(:ed448)

    # :ssl takes the first of EdDSA in the other side's list, whichever the key is of.
    test "signs where nothing of Ed25519 is among the signature_algs", context do
      key = key(context.hsm, context.directory, :ec_edwards_key_pair_gen, curve: :ed448)
      entry = SSL.certs_keys!(context.hsm, key.private, key.pem)

      for {algorithms, said} <- [
            {[], nil},
            {[signature_algs: [:eddsa_ed448, :rsa_pkcs1_sha256]], "signed by the token"}
          ] do
        {listening, port} =
          TLS.listen([certs_keys: [entry], versions: [:"tlsv1.3"]] ++ algorithms)

        server = TLS.serve(listening, fn _socket -> "signed by the token" end)

        capture_log(fn ->
          {text, status} = TLS.s_client(context.directory, port, [])
          assert {status == 0, text =~ "signed by the token"} == {said != nil, said != nil}
          if said, do: assert(text =~ ~r/signature type: ed448/i)
          Task.await(server, 30_000)
        end)
      end
    end
  end

  describe "a client" do
    @describetag skip: TLS.missing()

    for {key, version, algorithm} <- [
          {:rsa, "1_3", "rsa_pss_rsae_sha256"},
          {:rsa, "1_2", "rsa_pss_rsae_sha384"},
          {:rsa, "1_2", "rsa_pkcs1_sha256"},
          {:secp256r1, "1_3", "ecdsa_secp256r1_sha256"},
          {:secp384r1, "1_2", "ECDSA+SHA384"},
          {:ed25519, "1_3", "ed25519"}
        ] do
      test "of #{key} is believed by TLS #{version} with #{algorithm}", context do
        # What the server takes from the client; in TLS 1.2 that is also for the authority's signature.
        algorithms = ~w(-client_sigalgs #{unquote(algorithm)}:RSA+SHA256 -tls#{unquote(version)})
        {openssl, port} = TLS.s_server(context.directory, algorithms)

        {:ok, socket} =
          :ssl.connect(~c"localhost", port,
            certs_keys: [entry(context, unquote(key))],
            cacertfile: "#{context.directory}/ca.pem",
            verify: :verify_peer,
            # Its certificate is that of a client.
            server_name_indication: :disable,
            versions: [unquote(if version == "1_3", do: :"tlsv1.3", else: :"tlsv1.2")],
            active: false,
            mode: :binary
          )

        :ok = :ssl.send(socket, "GET / HTTP/1.0\r\n\r\n")
        page = read_page(socket, "")
        assert page =~ "Client certificate"
        assert page =~ ~r/CN ?= ?token/
        :ssl.close(socket)
        assert_receive {^openssl, {:exit_status, 0}}
      end
    end

    test "and a server of the token's keys know each other", context do
      for version <- [:"tlsv1.2", :"tlsv1.3"] do
        options = [
          certs_keys: [entry(context, :rsa)],
          cacertfile: "#{context.directory}/ca.pem",
          verify: :verify_peer,
          versions: [version]
        ]

        {listening, port} = TLS.listen([fail_if_no_peer_cert: true] ++ options)
        server = TLS.serve(listening, fn _socket -> "hello" end)

        {:ok, socket} =
          :ssl.connect(~c"localhost", port, [active: false, mode: :binary] ++ options)

        assert :ssl.recv(socket, 5, 30_000) == {:ok, "hello"}
        Task.await(server, 30_000)
      end
    end
  end

  describe "the key of an entry" do
    @describetag skip: TLS.missing()

    test "signs data and digests as OTP's own keys do", context do
      for name <- [:rsa | @curves], hash <- [:sha, :sha224, :sha256, :sha384, :sha512] do
        %{key: key} = entry(context, name)
        public = context.keys[name].public
        digest = {:digest, :crypto.hash(hash, "data")}

        for input <- ["data", digest], options <- options(name, hash) do
          signature = :public_key.sign(input, hash, key, options)
          assert :public_key.verify("data", hash, signature, public, options)
          refute :public_key.verify("date", hash, signature, public, options)
        end
      end
    end

    defp options(:rsa, hash) do
      pss = [rsa_padding: :rsa_pkcs1_pss_padding, rsa_mgf1_md: hash]
      [[] | for(salt <- [-1, 0, 20], do: [rsa_pss_saltlen: salt] ++ pss)]
    end

    defp options(_curve, _hash), do: [[]]

    test "has a salt as long as there is room for with -2", context do
      %{key: key} = entry(context, :rsa)
      pss = [rsa_padding: :rsa_pkcs1_pss_padding, rsa_mgf1_md: :sha256]
      signature = :public_key.sign("data", :sha256, key, [rsa_pss_saltlen: -2] ++ pss)
      exact = [rsa_pss_saltlen: 256 - 32 - 2] ++ pss
      assert :public_key.verify("data", :sha256, signature, context.keys.rsa.public, exact)
    end

    test "signs what TLS 1.0 and 1.1 ask for", context do
      %{key: key} = entry(context, :rsa)
      digest = :crypto.strong_rand_bytes(36)
      signature = :public_key.sign({:digest, digest}, :md5sha, key, [])
      assert :public_key.decrypt_public(signature, context.keys.rsa.public) == digest
    end

    test "of Ed25519 signs data, and says so of a digest", context do
      %{key: key} = entry(context, :ed25519)
      signature = :public_key.sign("data", :none, key, [])
      assert :public_key.verify("data", :none, signature, context.keys.ed25519.public)
      digest = {:digest, :crypto.hash(:sha512, "data")}
      assert_raise Error, ~r/not digests/, fn -> :public_key.sign(digest, :sha512, key, []) end
    end

    test "refuses a hash that is none", context do
      %{key: key} = entry(context, :rsa)
      assert_raise Error, ~r/:md4/, fn -> :public_key.sign("data", :md4, key, []) end
    end
  end

  describe "the chain" do
    @describetag skip: TLS.missing()

    test "is DER, PEM, or what names it on the token", %{hsm: hsm, keys: keys} = context do
      %{private: private, pem: pem} = keys.secp256r1
      [der] = TLS.der(pem)
      authority = File.read!("#{context.directory}/ca.pem")
      [above] = TLS.der(authority)

      Cryptoki.create!(hsm,
        class: :certificate,
        certificate_type: :x_509,
        id: private.id,
        label: "tls",
        subject: <<0x30, 0>>,
        value: der
      )

      for given <- [
            der,
            [der],
            pem,
            [label: "tls"],
            "pkcs11:object=tls",
            [[label: "tls"]],
            private
          ],
          do: assert(SSL.certs_keys!(hsm, private, given).cert == [der])

      for given <- [[der, above], pem <> authority, [[label: "tls"], authority], [pem, above]],
          do: assert(SSL.certs_keys!(hsm, private, given).cert == [der, above])
    end

    test "that is wrong is told at once", %{hsm: hsm, keys: keys} do
      %{private: private, pem: pem} = keys.secp256r1

      assert {:error, %Error{reason: :invalid_argument}} =
               SSL.certs_keys(hsm, private, keys.rsa.pem)

      assert {:error, %Error{reason: :key_not_found}} =
               SSL.certs_keys(hsm, private, label: "none")

      assert {:error, %Error{reason: :key_not_found}} = SSL.certs_keys(hsm, [label: "none"], pem)

      for wrong <- [[], :pem, [1]],
          do:
            assert_raise(ArgumentError, ~r/certificate_chain/, fn ->
              SSL.certs_keys(hsm, private, wrong)
            end)

      # What a file may hold.
      [der] = TLS.der(pem)

      for wrong <- [
            "",
            "no certificate",
            "-----BEGIN CERTIFICATE-----",
            der <> <<0>>,
            <<0x30, 0>>
          ] do
        assert {:error, %Error{reason: :invalid_argument, detail: "certificate_chain: " <> _}} =
                 SSL.certs_keys(hsm, private, wrong)
      end

      assert_raise ArgumentError, ~r/timeuot/, fn ->
        SSL.certs_keys(hsm, private, pem, timeuot: 1)
      end
    end
  end

  # Up to the end of its page: it need not close the connection.
  defp read_page(socket, read) do
    {:ok, bytes} = :ssl.recv(socket, 0, 30_000)
    read = read <> bytes
    if read =~ ~r/<\/html>/i, do: read, else: read_page(socket, read)
  end
end
