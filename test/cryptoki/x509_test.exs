defmodule Cryptoki.X509Test do
  use ExUnit.Case, async: true

  # Requests, certificates and revocation lists of the token, judged by OpenSSL and OTP. They were seen to
  # refuse a signature over other bytes, key identifiers that do not fit, and times in the other form.

  alias Cryptoki.{DER, Error, X509}
  alias Cryptoki.Test.{KeyPairs, MainToken, OpenSSL, Referee, SoftHSM}

  @nobody :no_such_instance

  @keys ~w(rsa secp256r1 secp384r1 secp521r1 secp256k1 brainpoolP256r1 brainpoolP384r1 brainpoolP512r1
           ed25519 ed448)a

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    directory = Path.join(SoftHSM.directory(), "x509")
    File.mkdir_p!(directory)

    %{hsm: hsm, keys: KeyPairs.make(hsm, @keys), directory: directory}
  end

  for {name, padding} <- [rsa: :pss] ++ for(name <- @keys, do: {name, :pkcs1}) do
    @tag skip: MainToken.lacks_key(name)
    test "a chain of three and its lists, by #{name} #{padding}", context do
      %{hsm: hsm} = context
      key = context.keys[unquote(name)]
      sign = [padding: unquote(padding)]

      root =
        X509.self_signed!(hsm, key, [subject: "/C=DE/O=Acme/CN=root", ca: true, days: 30] ++ sign)

      csr = X509.csr!(hsm, key, [subject: [C: "DE", O: "Acme", CN: "between"]] ++ sign)
      file = write(context, X509.to_pem(csr))
      assert {text, 0} = OpenSSL.openssl(~w(req -verify -noout -in #{file}))
      assert text =~ "verify OK"

      between = X509.issue!(hsm, key, root, csr, [ca: true, path_len: 0, days: 20] ++ sign)

      names = ["www.acme.test", "*.acme.test", "192.0.2.1", "2001:db8::1", "a@acme.test"]
      names = names ++ ["https://acme.test/x"]
      csr = X509.csr!(hsm, key, [subject: "/CN=www", subject_alt_name: names] ++ sign)
      purposes = [extended_key_usage: [:server_auth, :client_auth]]
      leaf = X509.issue!(hsm, key, between, X509.to_pem(csr), [days: 10] ++ purposes ++ sign)

      root_file = write(context, X509.to_pem(root))
      between_file = write(context, X509.to_pem(between))
      leaf_file = write(context, X509.to_pem(leaf))
      chain = ~w(-x509_strict -CAfile #{root_file} -untrusted #{between_file})
      assert {text, 0} = OpenSSL.openssl(~w(verify -purpose sslserver) ++ chain ++ [leaf_file])
      assert text =~ "OK"

      # OTP cannot judge PSS here (bad_cert), nor lists by keys on Edwards curves (it raises).
      otp? = unquote(padding) == :pkcs1 and unquote(name) not in [:ed25519, :ed448]
      if otp?, do: assert({:ok, _} = :public_key.pkix_path_validation(root, [between, leaf], []))

      text = show(leaf_file)
      assert text =~ "DNS:www.acme.test, DNS:*.acme.test, IP Address:192.0.2.1"
      assert text =~ "IP Address:2001:DB8:0:0:0:0:0:1, email:a@acme.test, URI:https://acme.test/x"
      assert text =~ "TLS Web Server Authentication, TLS Web Client Authentication"
      assert text =~ "CA:FALSE"
      assert show(between_file) =~ "CA:TRUE, pathlen:0"

      # Nothing is revoked, then the leaf is.
      none = X509.crl!(hsm, key, root, [], sign)
      empty = X509.crl!(hsm, key, between, [], sign)
      lists = write(context, X509.to_pem([none, empty]))
      check = ~w(-crl_check_all -CRLfile #{lists}) ++ chain
      assert {_, 0} = OpenSSL.openssl(["verify"] ++ check ++ [leaf_file])

      revoked = [{leaf, DateTime.utc_now(), :key_compromise}, 17, {18, ~U[2026-01-02 03:04:05Z]}]
      full = X509.crl!(hsm, key, between, revoked, [number: 42, days: 3] ++ sign)
      lists = write(context, X509.to_pem([none, full]))
      check = ~w(-crl_check_all -CRLfile #{lists}) ++ chain
      assert {text, status} = OpenSSL.openssl(["verify"] ++ check ++ [leaf_file])
      assert status != 0 and text =~ "certificate revoked"

      list = write(context, X509.to_pem(full))
      assert {text, 0} = OpenSSL.openssl(~w(crl -text -CAfile #{between_file} -in #{list}))
      assert text =~ "verify OK"
      assert text =~ "Key Compromise"
      assert text =~ "Jan  2 03:04:05 2026 GMT"
      assert text =~ ~r/CRL Number:\s+42/

      if otp? do
        assert :public_key.pkix_crl_verify(full, between)
        refute :public_key.pkix_crl_verify(Referee.spoilt(full), between)
      end
    end
  end

  test "what OpenSSL asks for is issued", context do
    %{hsm: hsm, keys: keys} = context
    root = X509.self_signed!(hsm, keys.secp256r1, subject: "/CN=root", ca: true)

    for algorithm <-
          [~w(rsa:2048), ~w(rsa:2048 -sigopt rsa_padding_mode:pss -sha384)] ++
            [~w(ec -pkeyopt ec_paramgen_curve:P-384), ~w(ed25519)] do
      file = write(context, "")
      extensions = ~w(-addext subjectAltName=DNS:asked.test -addext basicConstraints=CA:TRUE)
      command = ~w(req -new -nodes -subj /CN=asked -keyout #{file}.key -out #{file} -newkey)
      assert {_, 0} = OpenSSL.openssl(command ++ algorithm ++ extensions)
      csr = File.read!(file)

      assert {:ok, %{subject: "/CN=asked", subject_alt_name: [dns: "asked.test"]}} =
               X509.request(csr)

      leaf = write(context, X509.to_pem(X509.issue!(hsm, keys.secp256r1, root, csr)))
      text = show(leaf)
      # It asks for more than it gets.
      assert text =~ "CA:FALSE" and text =~ "DNS:asked.test"

      assert {_, 0} =
               OpenSSL.openssl(~w(verify -CAfile #{write(context, X509.to_pem(root))} #{leaf}))

      other = [subject: "/CN=said here", subject_alt_name: []]
      text = show(write(context, X509.issue!(hsm, keys.secp256r1, root, csr, other)), "DER")
      assert text =~ "CN = said here" or text =~ "CN=said here"
      refute text =~ "asked.test"
    end
  end

  test "names are certified in UTF-8, whichever type of string a request has", context do
    %{hsm: hsm, keys: keys} = context
    root = X509.self_signed!(hsm, keys.secp256r1, subject: "/CN=root", ca: true)
    config = write(context, "")

    # T61String and BMPString.
    for mask <- ["nombstr", "MASK:0x800"] do
      File.write!(config, "[req]\nstring_mask = #{mask}\ndistinguished_name = dn\n[dn]\n")
      file = write(context, "")
      key = ~w(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout #{file}.key)
      name = ["-utf8", "-subj", "/C=DE/O=Müller+OU=web/CN=www"]
      assert {_, 0} = OpenSSL.openssl(~w(req -new -config #{config} -out #{file}) ++ key ++ name)
      leaf = write(context, X509.issue!(hsm, keys.secp256r1, root, File.read!(file), days: 1))
      types = ~w(x509 -noout -subject -inform DER -nameopt utf8,show_type,sep_multiline -in)
      assert {text, 0} = OpenSSL.openssl(types ++ [leaf])
      assert text =~ "C=PRINTABLESTRING:DE"
      assert text =~ "O=UTF8STRING:Müller" and text =~ ~r/OU=(UTF8|PRINTABLE)STRING:web/
    end
  end

  test "a certificate is valid at once, also by a clock of whole ticks", %{hsm: hsm, keys: keys} do
    der = X509.self_signed!(hsm, keys.secp256r1, subject: "/CN=now")
    assert DateTime.to_unix(X509.certificate!(der).not_before) < System.os_time(:second)
  end

  test "times, serial numbers and raw extensions", %{hsm: hsm, keys: keys} = context do
    times = [not_before: ~U[2049-12-31 23:59:59Z], not_after: ~U[2050-01-01 00:00:00Z]]
    policy = {{2, 5, 29, 32}, DER.sequence([DER.sequence([DER.oid({1, 2, 3, 4})])])}
    opts = [subject: "/CN=late", serial: 0xFF, extensions: [policy]] ++ times
    text = show(write(context, X509.self_signed!(hsm, keys.secp256r1, opts)), "DER")
    assert text =~ "Dec 31 23:59:59 2049 GMT" and text =~ "Jan  1 00:00:00 2050 GMT"
    assert text =~ ~r/Serial Number: 255 / and text =~ "Policy: 1.2.3.4"

    # Positive, twenty bytes at most, and not twice the same.
    serials =
      for _ <- 1..20 do
        der = X509.self_signed!(hsm, keys.secp256r1, subject: "/CN=a")
        {:ok, %{serial: serial}} = X509.Fields.read(der, "der")
        <<2, size, 0::1, _::bitstring>> = serial
        assert size in 15..20
        serial
      end

    assert Enum.uniq(serials) == serials
  end

  test "names in all alphabets, with slashes, and none", %{hsm: hsm, keys: keys} = context do
    subject = "/C=DE/ST=Baden-Württemberg/O=A\\/B \\\\ Söhne/OU=東京/CN=x=y/emailAddress=a@b.test"
    der = X509.csr!(hsm, keys.secp256r1, subject: subject)
    assert X509.request!(der).subject == subject

    assert {text, 0} =
             openssl_in(der, ~w(req -inform DER -noout -subject -nameopt utf8,sep_multiline))

    for part <- ["ST=Baden-Württemberg", "O=A/B \\ Söhne", "OU=東京", "CN=x=y"],
        do: assert(text =~ part)

    nameless = X509.self_signed!(hsm, keys.secp256r1, subject_alt_name: "nameless.test")
    text = show(write(context, nameless), "DER")
    assert text =~ ~r/X509v3 Subject Alternative Name: critical\s+DNS:nameless.test/
  end

  test "certificates are stored, found and listed, by others as well", %{hsm: hsm, keys: keys} do
    label = "stored #{System.unique_integer([:positive])}"
    root = X509.self_signed!(hsm, keys.rsa, subject: "/CN=#{label}", ca: true)
    stored = X509.store!(hsm, X509.to_pem(root), label: label, id: keys.rsa.id)
    assert Cryptoki.certificate!(hsm, stored) == root
    assert Cryptoki.certificate!(hsm, label: label) == root
    assert stored in Cryptoki.find!(hsm, class: :certificate)
    assert Cryptoki.public_key!(hsm, stored) == Cryptoki.public_key!(hsm, keys.rsa)
    # By its own name, on the token.
    assert {:ok, _} = X509.crl(hsm, keys.rsa, [label: label], [])

    {text, 0} = MainToken.pkcs11_tool(~w(--list-objects --type cert))
    assert text =~ label and text =~ "CN=#{label}"
  end

  test "what does not fit is refused", %{hsm: hsm, keys: keys} do
    root =
      X509.self_signed!(hsm, keys.secp256r1, subject: "/CN=root", ca: true, path_len: 1, days: 9)

    leaf = X509.self_signed!(hsm, keys.secp256r1, subject: "/CN=leaf")
    lists = [subject: "/CN=lists", ca: true, key_usage: [:crl_sign]]
    lists = X509.self_signed!(hsm, keys.secp256r1, lists)
    csr = X509.csr!(hsm, keys.ed25519, subject: "/CN=www")
    issue = &X509.issue(hsm, keys.secp256r1, &1, &2, &3)

    assert {:error, %Error{reason: :signature_invalid}} = issue.(root, Referee.spoilt(csr), [])

    for bytes <- ["", "no request", root, binary_part(csr, 0, 50)] do
      assert {:error, %Error{reason: :invalid_argument, detail: text}} = issue.(root, bytes, [])
      assert text =~ "no certification request"
    end

    for {certificate, options, text} <- [
          {leaf, [days: 1], "not that of an authority"},
          {lists, [days: 1], "not that of an authority"},
          {root, [days: 10], "outlive"},
          {root, [not_before: ~U[2100-01-01 00:00:00Z]], "ended"},
          {root, [days: 1, ca: true, path_len: 1], "at most 0"}
        ] do
      assert {:error, %Error{reason: :invalid_argument, detail: detail}} =
               issue.(certificate, csr, options)

      assert detail =~ text
    end

    # Unless it is said, a certificate ends with its issuer's at the latest.
    %{not_after: ends} = X509.certificate!(root)
    {:ok, der} = issue.(root, csr, [])
    assert %{not_after: ^ends} = X509.certificate!(der)

    below = X509.issue!(hsm, keys.secp256r1, root, csr, ca: true, path_len: 0, days: 5)

    assert {:error, %Error{detail: "the issuer's certificate allows no authority below it"}} =
             X509.issue(hsm, keys.ed25519, below, csr, ca: true, days: 1)

    assert {:error, %Error{reason: :invalid_argument, detail: detail}} =
             X509.issue(hsm, keys.rsa, root, csr, days: 1)

    assert detail =~ "another key"
    certs = [subject: "/CN=certs", ca: true, key_usage: [:key_cert_sign]]
    certs = X509.self_signed!(hsm, keys.secp256r1, certs)
    assert {:error, %Error{detail: detail}} = X509.crl(hsm, keys.secp256r1, certs, [])
    assert detail =~ "crl_sign"
    # Whose key could sign lists is no authority by that.
    assert {:error, %Error{detail: detail}} = X509.crl(hsm, keys.secp256r1, leaf, [])
    assert detail =~ "not that of an authority"

    nameless = X509.csr!(hsm, keys.ed25519, subject_alt_name: "a.test")

    assert {:error, %Error{detail: detail}} =
             issue.(root, nameless, days: 1, subject_alt_name: [])

    assert detail =~ "names nobody"

    below = [days: 1, ca: true]
    assert {:error, %Error{detail: detail}} = issue.(root, nameless, below ++ [path_len: 0])
    assert detail =~ "names nobody"

    # Bytes by chance, and each byte of a request by chance: an error, nothing raised.
    for at <- 0..(byte_size(csr) - 1),
        do: assert({:error, %Error{}} = X509.request(Referee.flip(csr, at)))
  end

  test "mistakes are told before anybody is asked", %{hsm: hsm, keys: keys} do
    for {opts, text} <- [
          {[], "subject: is needed"},
          {[subject: "CN=www"], "subject: is \"/C=DE"},
          {[subject: "/CN"], "is not NAME=VALUE"},
          {[subject: "/XX=y"], "there is no attribute \"XX\""},
          {[subject: "/CN="], "CN is text"},
          {[subject: "/CN=" <> String.duplicate("x", 65)], "1 to 64 characters"},
          {[subject: "/CN=a\0b"], "without control characters"},
          {[subject: "/C=Germany"], "C is text"},
          {[subject: "/C=de"], "C is a country's two letters"},
          {[subject: "/CN=a", subject_alt_name: "a b"], "no name of a host"},
          {[subject: "/CN=a", subject_alt_name: "bücher.test"], "xn--"},
          {[subject: "/CN=a", subject_alt_name: [ip: "1.2.3"]], "no IP address"},
          {[subject: "/CN=a", subject_alt_name: [email: "a"]], "no e-mail address"},
          {[subject: "/CN=a", subject_alt_name: [uri: "a"]], "no URI"},
          {[subject: "/CN=a", key_usage: [:sign]], "key_usage: there is no :sign"},
          {[subject: "/CN=a", key_usage: [:key_cert_sign]], "with ca: true"},
          {[subject: "/CN=a", extended_key_usage: [:www]],
           "extended_key_usage: there is no :www"},
          {[subject: "/CN=a", path_len: 0], "for ca: true"},
          {[subject: "/CN=a", ca: 1], "ca: must be"},
          {[subject: "/CN=a", extensions: [{{2, 5, 29, 19}, <<5, 0>>}]], "an option of its own"},
          {[subject: "/CN=a", extensions: [{{1, 2, 3}, "x"}]], "is not DER"},
          {[subject: "/CN=a", extensions: [{{1, 2, 3}, <<5, 0>>}, {{1, 2, 3}, <<5, 0>>}]],
           "has {1, 2, 3} twice"},
          {[subject_alt_name: "a.test", ca: true], "subject: is needed"},
          {[subject: "/CN=a", hash: :md5], "hash: must be"},
          {[subject: "/CN=a", padding: :oaep], "padding: must be"},
          {[subject: "/CN=a", subjet: 1], "unknown option :subjet"}
        ] do
      for call <- [
            &X509.csr(@nobody, [label: "x"], &1),
            &X509.self_signed(@nobody, [label: "x"], &1)
          ] do
        assert_raise ArgumentError, ~r/#{Regex.escape(text)}/, fn -> call.(opts) end
      end
    end

    for {opts, text} <- [
          {[days: 0], "days: must be"},
          {[days: 3_000_000], "days: must end before the year 10000"},
          {[days: 1, not_after: DateTime.utc_now()], "only one can be given"},
          {[not_after: ~U[2000-01-01 00:00:00Z]], "must be later"},
          {[not_before: 1], "not_before: must be a DateTime"},
          {[serial: 0], "serial: must be a positive"},
          {[serial: Integer.pow(2, 159)], "at most 20 bytes"}
        ] do
      assert_raise ArgumentError, ~r/#{Regex.escape(text)}/, fn ->
        X509.self_signed(@nobody, [label: "x"], [subject: "/CN=a"] ++ opts)
      end
    end

    root = X509.self_signed!(hsm, keys.secp256r1, subject: "/CN=root", ca: true)

    for {revoked, opts, text} <- [
          {:all, [], "revoked: must be a list"},
          {[-1], [], "revoked: is serial numbers"},
          {[1, {1, DateTime.utc_now()}], [], "has a certificate twice"},
          {[{1, :now}], [], "revoked: must be a DateTime"},
          {[{1, DateTime.utc_now(), :lost}], [], "there is no reason :lost"},
          {[], [days: 0], "days: must be"},
          {[], [days: 3_000_000], "days: must end before the year 10000"},
          {[], [number: -1], "number: must be"},
          {[], [next_update: ~U[2000-01-01 00:00:00Z]], "next_update: must be later"}
        ] do
      assert_raise ArgumentError, ~r/#{Regex.escape(text)}/, fn ->
        X509.crl(@nobody, [label: "x"], root, revoked, opts)
      end
    end

    # A file may hold anything: that is no mistake of who writes the program.
    assert {:error, %Error{reason: :invalid_argument, detail: "ca_certificate: " <> _}} =
             X509.crl(hsm, keys.secp256r1, "no certificate", [])

    assert_raise ArgumentError, ~r/der: is no/, fn -> X509.to_pem("x") end
    assert_raise ArgumentError, ~r/csr: must be/, fn -> X509.request(:csr) end
    assert_raise ArgumentError, ~r/csr: must be/, fn -> X509.issue(@nobody, [], root, nil) end
    assert_raise ArgumentError, ~r/certificate: must/, fn -> X509.store(@nobody, [root]) end
  end

  defp write(%{directory: directory}, bytes) do
    file = Path.join(directory, "#{System.unique_integer([:positive])}")
    File.write!(file, bytes)
    file
  end

  defp show(file, form \\ "PEM") do
    {text, 0} = OpenSSL.openssl(~w(x509 -noout -text -inform #{form} -in #{file}))
    text
  end

  defp openssl_in(der, arguments) do
    file = Path.join(SoftHSM.directory(), "x509-#{System.unique_integer([:positive])}")
    File.write!(file, der)
    OpenSSL.openssl(arguments ++ ["-in", file])
  end
end
