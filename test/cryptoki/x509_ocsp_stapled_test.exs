defmodule Cryptoki.X509OCSPStapledTest do
  use ExUnit.Case, async: true

  # Answers that OpenSSL's server staples to a handshake; OTP's client, who asks for one, goes by it.

  alias Cryptoki.X509
  alias Cryptoki.Test.{KeyPairs, MainToken, OpenSSL, Scratch, TLS}

  @moduletag skip:
               String.to_integer(System.otp_release()) < 27 &&
                 "clients of :ssl ask for stapled answers from OTP 27 on"

  setup_all do
    :ok = TLS.start()
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 1)})
    keys = KeyPairs.make(hsm, [:secp256r1, :secp384r1])
    root = X509.self_signed!(hsm, keys.secp256r1, subject: "/CN=root", ca: true)
    directory = Scratch.directory("stapled")
    Scratch.write(directory, "root.pem", X509.to_pem(root))
    key = ~w(req -newkey rsa:2048 -nodes -keyout client.key -out client.csr -subj /CN=localhost)
    {_, 0} = System.cmd("openssl", key, cd: directory, stderr_to_stdout: true)
    context = %{hsm: hsm, keys: keys, root: root, directory: directory}
    for serial <- [1, 2], do: server(context, serial)
    context
  end

  # A certificate of the key of OpenSSL's, and the request about it.
  defp server(%{directory: directory} = context, serial) do
    csr = File.read!(Path.join(directory, "client.csr"))
    opts = [subject_alt_name: ["localhost"], serial: serial]
    leaf = X509.issue!(context.hsm, context.keys.secp256r1, context.root, csr, opts)
    file = Scratch.write(directory, "#{serial}.pem", X509.to_pem(leaf))
    ask = ~w(ocsp -no_nonce -reqout #{directory}/#{serial}.req -issuer #{directory}/root.pem)
    {_, 0} = OpenSSL.openssl(ask ++ ["-cert", file])
  end

  # By a key, and its certificate.
  defp answer(%{hsm: hsm, directory: directory}, key, certificate, serial) do
    request = File.read!(Path.join(directory, "#{serial}.req"))
    status = &if &1 == 1, do: :good, else: {:revoked, ~U[2026-01-02 03:04:05Z], :key_compromise}
    der = X509.ocsp_response!(hsm, key, certificate, request, status)
    ["-status_file", Scratch.write(directory, "#{serial}.der", der)]
  end

  defp connect(%{directory: directory, root: root}, serial, stapled) do
    own = ~w(-verify 2 -cert #{serial}.pem -CAfile root.pem)
    {_server, port} = TLS.s_server(directory, own ++ stapled)
    asks = [stapling: :staple, verify: :verify_peer, cacerts: [root], active: false]
    apply(:ssl, :connect, [~c"localhost", port, asks, 60_000])
  end

  test "by the authority, and by one that answers for it", context do
    %{hsm: hsm, keys: keys, root: root} = context
    opts = [subject: "/CN=answers", extended_key_usage: [:ocsp_signing], ocsp_nocheck: true]
    answers = X509.certify!(hsm, keys.secp256r1, root, keys.secp384r1, opts)

    for {key, certificate} <- [{keys.secp256r1, root}, {keys.secp384r1, [answers, root]}] do
      good = answer(context, key, certificate, 1)
      assert {:ok, socket} = connect(context, 1, good)
      :ok = apply(:ssl, :close, [socket])
      revoked = answer(context, key, certificate, 2)
      assert {:error, {:tls_alert, {alert, _text}}} = connect(context, 2, revoked)
      assert alert == :certificate_revoked
      # That of another certificate, and none.
      for stapled <- [revoked, []],
          do: assert({:error, {:tls_alert, _alert}} = connect(context, 1, stapled))
    end
  end
end
