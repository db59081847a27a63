defmodule Cryptoki.PKI.PostQuantumTest do
  use ExUnit.Case, async: true

  # Chains, lists, requests and signed data by keys of ML-DSA and SLH-DSA on Kryoptic, before every OpenSSL from 3.5 on
  # in the Debians that bin/support/otp has made: trixie has 3.5. `bin/test` judges the signatures alone, in
  # test/cryptoki/post_quantum_test.exs.

  alias Cryptoki.{CMS, PEM, X509}
  alias Cryptoki.SignatureAlgorithm.PostQuantum
  alias Cryptoki.Test.{Recorded, Referee, Scratch, Token}
  alias Cryptoki.Test.PKI.Programs

  @lattices ~w[ml_dsa_44 ml_dsa_65 ml_dsa_87]a
  @hashes PostQuantum.sets() -- @lattices

  @moduletag timeout: :infinity
  @moduletag skip: Programs.lacks_post_quantum()

  setup_all do
    token = Token.own_kryoptic("pki-post-quantum")
    hsm = start_supervised!({Cryptoki, Token.options(token, sessions: 2)})

    for set <- PostQuantum.sets() do
      template = [label: "#{set}", token: true, parameter_set: set]
      Cryptoki.generate_key_pair!(hsm, :"#{PostQuantum.mechanism(set)}_key_pair_gen", template)
    end

    for {mechanism, opts} <- [
          rsa_pkcs_key_pair_gen: [label: "rsa", modulus_bits: 3072],
          ec_key_pair_gen: [label: "ec", curve: :secp256r1]
        ],
        do: Cryptoki.generate_key_pair!(hsm, mechanism, [token: true] ++ opts)

    %{hsm: hsm, openssl: Programs.post_quantum()}
  end

  # Root, authority below it, server; the last three are mixed.
  @chains for(set <- @lattices, do: [set, set, set]) ++
            for(set <- @hashes, do: [set, :ml_dsa_44, :ml_dsa_44]) ++
            [
              [:rsa, :rsa, :ml_dsa_65],
              [:ec, :ml_dsa_87, :rsa],
              [:slh_dsa_sha2_128s, :ml_dsa_65, :ec]
            ]

  for chain <- @chains do
    test "a chain with its lists by #{Enum.join(chain, ", ")}", %{hsm: hsm} = context do
      [top, middle, last] = for name <- unquote(chain), do: [label: "#{name}"]
      root = X509.self_signed!(hsm, top, subject: "/C=DE/O=Acme/CN=root", ca: true, days: 30)
      csr = X509.csr!(hsm, middle, subject: "/C=DE/O=Acme/CN=between")
      between = X509.issue!(hsm, top, root, csr, ca: true, path_len: 0, days: 20)
      names = ["www.acme.test"]
      asked = X509.csr!(hsm, last, subject: "/CN=www", subject_alt_name: names)
      purposes = [extended_key_usage: [:server_auth, :client_auth]]
      leaf = X509.issue!(hsm, middle, between, asked, [days: 10] ++ purposes)
      none = X509.crl!(hsm, top, root, [])
      some = X509.crl!(hsm, middle, between, [{17, ~U[2026-01-02 03:04:05Z], :key_compromise}])
      revoked = X509.crl!(hsm, middle, between, [leaf])
      chain = %{certificates: [root, between, leaf], host: "www.acme.test"}

      for openssl <- context.openssl do
        says = &Programs.openssl(Map.put(chain, :lists, [{none, root}, {&1, between}]), openssl)
        assert says.(some) == []
        assert [text] = says.(revoked)
        assert text =~ "certificate revoked"
        assert [_ | _] = says.(Referee.spoilt(some))
        for csr <- [csr, asked], do: assert({_text, 0} = request(openssl, csr))
        assert {_text, 1} = request(openssl, Referee.spoilt(asked))
      end

      Recorded.pki({:judged, [:post_quantum_openssl], 3, 2, []})
    end
  end

  for set <- @lattices ++ Enum.filter(@hashes, &PostQuantum.content_hash/1) do
    test "signed data by #{set}", %{hsm: hsm} = context do
      key = [label: "#{unquote(set)}"]
      root = X509.self_signed!(hsm, [label: "rsa"], subject: "/CN=root", ca: true)
      csr = X509.csr!(hsm, key, subject: "/CN=signer", subject_alt_name: "a@acme.test")
      purposes = [extended_key_usage: [:email_protection]]
      certificate = X509.issue!(hsm, [label: "rsa"], root, csr, purposes)

      for openssl <- context.openssl, opts <- [[], [detached: true]] do
        signed = CMS.sign!(hsm, key, certificate, "some text\r\n", opts)
        assert {text, 0} = verify(openssl, root, signed, opts)
        assert text =~ ~r/CAdES Verification successful/i
        assert {_text, status} = verify(openssl, root, Referee.spoilt(signed), opts)
        assert status != 0
        Recorded.pki({:signed, :post_quantum_openssl, 1})
      end
    end
  end

  for set <- @lattices ++ [:slh_dsa_sha2_128f] do
    test "answers of OCSP by #{set}", %{hsm: hsm} = context do
      key = [label: "#{unquote(set)}"]
      root = X509.self_signed!(hsm, key, subject: "/CN=root", ca: true)
      leaf = X509.certify!(hsm, key, root, [label: "ec"], subject: "/CN=www", serial: 17)

      Scratch.within("ocsp", fn directory ->
        pem = &Scratch.write(directory, &1, PEM.encode(&2, "CERTIFICATE"))
        names = ["-issuer", pem.("root.pem", root), "-cert", pem.("leaf.pem", leaf)]
        file = Path.join(directory, "request")

        for openssl <- context.openssl do
          {_text, 0} = run(openssl, ["ocsp", "-reqout", file] ++ names)
          fun = fn 17 -> {:revoked, ~U[2026-01-02 03:04:05Z], :superseded} end
          answer = X509.ocsp_response!(hsm, key, root, File.read!(file), fun)
          look = ["ocsp", "-no_nonce", "-CAfile", Path.join(directory, "root.pem")] ++ names
          respin = &["-respin", Scratch.write(directory, "answer", &1)]
          assert {text, 0} = run(openssl, look ++ respin.(answer))
          assert text =~ "Response verify OK"
          assert text =~ "leaf.pem: revoked"
          assert {text, _status} = run(openssl, look ++ respin.(spoilt(answer)))
          refute text =~ "Response verify OK"
        end
      end)
    end
  end

  # A byte in the middle of the signature, which certificates stand behind.
  defp spoilt(answer) do
    at = div(byte_size(answer), 3)
    {before, <<byte, rest::binary>>} = :erlang.split_binary(answer, at)
    before <> <<Bitwise.bxor(byte, 1)>> <> rest
  end

  test "a time stamp by ml_dsa_65", %{hsm: hsm} = context do
    key = [label: "ml_dsa_65"]
    root = X509.self_signed!(hsm, [label: "ec"], subject: "/CN=root", ca: true)
    own = [subject: "/CN=stamps", extended_key_usage: [:time_stamping]]
    tsa = X509.certify!(hsm, [label: "ec"], root, key, own)

    Scratch.within("stamp", fn directory ->
      pem = Scratch.write(directory, "root.pem", PEM.encode(root, "CERTIFICATE"))
      data = Scratch.write(directory, "data", "some text")
      file = Path.join(directory, "request")

      for openssl <- context.openssl do
        {_text, 0} = run(openssl, ~w(ts -query -data #{data} -sha512 -cert -out #{file}))
        stamp = Cryptoki.Timestamp.respond!(hsm, key, tsa, File.read!(file), policy: {1, 2, 3})
        answer = Scratch.write(directory, "answer", stamp)
        token = Path.join(directory, "token")
        {_text, 0} = run(openssl, ~w(ts -reply -in #{answer} -token_out -out #{token}))
        # Its own `ts -verify` goes by PKCS #7, which has no such keys.
        verify = ~w(cms -verify -inform DER -binary -in #{token} -CAfile #{pem})
        out = ["-purpose", "timestampsign", "-out", Path.join(directory, "out")]
        assert {text, 0} = run(openssl, verify ++ out)
        assert text =~ "CMS Verification successful"
      end
    end)
  end

  defp request(openssl, csr) do
    Scratch.within("request", fn directory ->
      file = Scratch.write(directory, "csr", csr)
      run(openssl, ~w(req -verify -noout -inform DER -in #{file}))
    end)
  end

  defp verify(openssl, root, signed, opts) do
    Scratch.within("signed", fn directory ->
      root = Scratch.write(directory, "root.pem", PEM.encode(root, "CERTIFICATE"))
      file = Scratch.write(directory, "signed", signed)
      content = Scratch.write(directory, "content", "some text\r\n")
      detached = if opts[:detached], do: ["-content", content], else: []
      out = ["-out", Path.join(directory, "out")]

      run(
        openssl,
        ~w(cms -verify -cades -inform DER -binary -in #{file} -CAfile #{root}) ++ detached ++ out
      )
    end)
  end

  defp run([program | more], arguments),
    do: System.cmd(program, more ++ arguments, stderr_to_stdout: true)
end
