defmodule Cryptoki.PostQuantumTLSTest do
  use ExUnit.Case, async: true

  # TLS 1.3 with keys of ML-DSA and SLH-DSA on Kryoptic, where OTP's `:ssl` and the OpenSSL at the other end have them.

  @compile {:no_warn_undefined, :ssl}

  alias Cryptoki.{Error, SSL, X509}
  alias Cryptoki.SignatureAlgorithm.PostQuantum
  alias Cryptoki.Test.{Scratch, TLS, Token}

  @sets ~w[ml_dsa_44 ml_dsa_65 ml_dsa_87 slh_dsa_sha2_128f]a

  @unbuilt !Token.library(:kryoptic) && "Kryoptic is not built: bin/test --tokens kryoptic"

  # What `:ssl` says, and what its OpenSSL does.
  known? = fn ->
    TLS.missing() == false and TLS.start() == :ok and
      :mldsa44 in apply(:ssl, :signature_algs, [:all, :"tlsv1.3"]) and
      :mldsa44 in :crypto.supports(:public_keys)
  end

  known = known?.()

  setup_all do
    token = Token.own_kryoptic("post-quantum-tls")
    hsm = start_supervised!({Cryptoki, Token.options(token, sessions: 2)})

    for set <- @sets do
      template = [label: "#{set}", token: true, parameter_set: set]
      Cryptoki.generate_key_pair!(hsm, :"#{PostQuantum.mechanism(set)}_key_pair_gen", template)
    end

    root = [label: "ml_dsa_87"]
    ca = X509.self_signed!(hsm, root, subject: "/CN=root", ca: true)
    directory = Scratch.directory("post-quantum-tls")
    Scratch.write(directory, "ca.pem", X509.to_pem(ca))
    %{hsm: hsm, directory: directory, root: root, ca: ca}
  end

  defp certificate(%{hsm: hsm, root: root, ca: ca}, key) do
    names = [subject_alt_name: ["localhost", "127.0.0.1"]]
    csr = X509.csr!(hsm, key, [subject: "/CN=localhost"] ++ names)
    purposes = [extended_key_usage: [:server_auth, :client_auth]]
    X509.issue!(hsm, root, ca, csr, purposes)
  end

  for set <- @sets do
    @tag skip: @unbuilt || (!known && "this OTP has no ML-DSA in :ssl and :crypto")
    test "a server and a client of #{set}", %{hsm: hsm, ca: ca} = context do
      key = [label: "#{unquote(set)}"]
      entry = SSL.certs_keys!(hsm, key, certificate(context, key))
      scheme = PostQuantum.called(unquote(set))
      schemes = [signature_algs: Enum.uniq([scheme, :mldsa87]), versions: [:"tlsv1.3"]]
      trusts = [cacerts: [ca], verify: :verify_peer, fail_if_no_peer_cert: true]
      {listening, port} = TLS.listen([certs_keys: [entry]] ++ schemes ++ trusts)
      server = TLS.serve(listening, fn socket -> elem(:ssl.recv(socket, 5), 1) end)
      client = [certs_keys: [entry], active: false, mode: :binary] ++ schemes
      trusts = Keyword.delete(trusts, :fail_if_no_peer_cert)
      {:ok, socket} = :ssl.connect(~c"localhost", port, client ++ trusts, 30_000)
      :ok = :ssl.send(socket, "hello")
      assert {:ok, "hello"} = :ssl.recv(socket, 5, 30_000)
      Task.await(server, 30_000)
    end
  end

  # Its TLS has no SLH-DSA.
  for set <- @sets -- [:slh_dsa_sha2_128f] do
    @tag skip: @unbuilt || (!known && "this OTP has no ML-DSA in :ssl and :crypto")
    test "OpenSSL and a server of #{set}", %{hsm: hsm} = context do
      key = [label: "#{unquote(set)}"]
      entry = SSL.certs_keys!(hsm, key, certificate(context, key))
      {listening, port} = TLS.listen(certs_keys: [entry], versions: [:"tlsv1.3"])
      server = TLS.serve(listening, fn _socket -> "signed by the token" end)
      {text, status} = TLS.s_client(context.directory, port, ["-tls1_3"])
      Task.await(server, 30_000)
      assert {status, text} |> inspect(printable_limit: :infinity) =~ "signed by the token"
      assert text =~ ~r/Verif\w+(?: return code: 0 \(ok\)|: OK)/
      assert text =~ ~r/signature type: #{String.replace("#{unquote(set)}", "_", "\\W?_?")}/i
    end
  end

  @tag skip: @unbuilt || (known && "this OTP has ML-DSA in :ssl")
  test "an :ssl without such keys is told so", %{hsm: hsm, ca: ca, root: root} do
    assert {:error, %Error{reason: :unsupported}} = SSL.certs_keys(hsm, root, ca)
  end
end
