defmodule Cryptoki.SSHDTest do
  use ExUnit.Case, async: true

  # Logins of OpenSSH's ssh at OpenSSH's sshd, which knows nobody but the authority on the token: it says
  # what a certificate is good for, and so does ssh of the host's.

  alias Cryptoki.Test.{KeyPairs, MainToken, Scratch, SSH}

  @moduletag skip: SSH.lacks_sshd()

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    keys = KeyPairs.make(hsm, ~w(rsa secp384r1 ed25519)a)
    directory = Scratch.directory("sshd")
    {host, _line} = SSH.key(directory, ~w(-t ed25519))
    {user, public} = SSH.key(directory, ~w(-t ed25519))
    authorities = for {_name, key} <- keys, do: Cryptoki.SSH.public_key!(hsm, key)

    host_certificate =
      Cryptoki.SSH.certificate!(hsm, keys.rsa, File.read!(host <> ".pub"),
        type: :host,
        key_id: "this one",
        principals: ["127.0.0.1"],
        hours: 1
      )

    File.write!(host <> "-cert.pub", host_certificate <> "\n")
    File.write!(Path.join(directory, "authorities"), Enum.join(authorities, "\n"))
    known = "@cert-authority * #{Cryptoki.SSH.public_key!(hsm, keys.rsa)}\n"
    File.write!(Path.join(directory, "known_hosts"), known)

    port =
      SSH.sshd(directory, host, """
      HostCertificate #{host}-cert.pub
      TrustedUserCAKeys #{directory}/authorities
      AuthorizedKeysFile none
      """)

    %{hsm: hsm, keys: keys, directory: directory, port: port, user: user, public: public}
  end

  defp login(context, authority, opts) do
    certificate =
      Cryptoki.SSH.certificate!(context.hsm, context.keys[authority], context.public, opts)

    file = Path.join(context.directory, "#{System.unique_integer([:positive])}-cert.pub")
    File.write!(file, certificate <> "\n")

    options =
      ~w(-F none -i #{context.user} -o CertificateFile=#{file} -o IdentitiesOnly=yes -o BatchMode=yes) ++
        ~w(-o UserKnownHostsFile=#{context.directory}/known_hosts -o GlobalKnownHostsFile=none) ++
        ~w(-o StrictHostKeyChecking=yes -o KexAlgorithms=curve25519-sha256 -p #{context.port} #{me()}@127.0.0.1)

    case System.cmd("ssh", options ++ ["echo", "asked for"], stderr_to_stdout: true) do
      {text, 0} -> String.trim(text)
      {text, 255} -> if(text =~ "Permission denied", do: :refused, else: raise(text))
    end
  end

  defp me, do: "id" |> System.cmd(["-un"]) |> elem(0) |> String.trim()

  defp user(opts),
    do: Keyword.merge([type: :user, key_id: "k", principals: [me()], hours: 1], opts)

  for authority <- ~w(rsa secp384r1 ed25519)a do
    test "an authority with a key of #{authority} is believed", context do
      assert login(context, unquote(authority), user([])) == "asked for"
    end
  end

  test "an RSA authority may sign with SHA-256", context do
    assert login(context, :rsa, user(hash: :sha256)) == "asked for"
  end

  test "a certificate is for the names in it, 256 at most", context do
    assert login(context, :ed25519, user(principals: ["nobody-else"])) == :refused
    assert login(context, :ed25519, user(principals: :any)) == :refused
    many = for n <- 1..255, do: "user#{n}"
    assert login(context, :ed25519, user(principals: many ++ [me()])) == "asked for"
  end

  test "and for its time, and its kind", context do
    past = [valid_after: ~U[2020-01-01 00:00:00Z], hours: 1]
    assert login(context, :ed25519, user(past)) == :refused
    later = DateTime.add(DateTime.utc_now(), 3600, :second)
    assert login(context, :ed25519, user(valid_after: later, hours: 1)) == :refused

    assert login(
             context,
             :ed25519,
             user(valid_after: :always, valid_before: :forever, hours: nil)
           ) == "asked for"

    assert login(context, :ed25519, user(type: :host)) == :refused
  end

  test "and from the networks that it names", context do
    for {addresses, answer} <- [
          {["127.0.0.0/8"], "asked for"},
          {["10.0.0.0/8", "127.0.0.1"], "asked for"},
          {["0.0.0.0/0"], "asked for"},
          {["10.0.0.0/8", "::1"], :refused}
        ] do
      options = [critical_options: [source_address: addresses]]
      assert login(context, :secp384r1, user(options)) == answer
    end
  end

  test "and for a command; options and extensions of others are refused and let by", context do
    force = [critical_options: [force_command: "echo forced"]]
    assert login(context, :rsa, user(force)) == "forced"
    assert login(context, :rsa, user(critical_options: [{"x@example.org", "1"}])) == :refused
    assert login(context, :rsa, user(extensions: [{"x@example.org", "1"}])) == "asked for"
    assert login(context, :rsa, user(extensions: [])) == "asked for"
  end
end
