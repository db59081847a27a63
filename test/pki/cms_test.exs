defmodule Cryptoki.PKI.CMSTest do
  use ExUnit.Case, async: true

  # Signed data of the token, with certificates of an authority on it, before NSS and GnuPG; OpenSSL judges
  # it in test/cryptoki/cms_test.exs. GnuPG is asked by `bin/test --pki` only.

  alias Cryptoki.{CMS, PEM, X509}
  alias Cryptoki.Test.{KeyPairs, MainToken, Referee, Scratch}
  alias Cryptoki.Test.PKI.Requests
  alias Cryptoki.Test.Recorded

  @moduletag timeout: :infinity
  @text "some text\r\n\0 that is signed"

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    keys = KeyPairs.make(hsm, [:rsa, :secp256r1, :secp384r1])
    root = [subject: "/O=Acme/CN=root", ca: true, days: 9]
    root = X509.self_signed!(hsm, keys.secp384r1, root)

    certificates =
      for name <- [:rsa, :secp256r1], into: %{} do
        csr = X509.csr!(hsm, keys[name], subject: "/CN=#{name}", subject_alt_name: "a@acme.test")
        purposes = [extended_key_usage: [:email_protection]]
        {name, X509.issue!(hsm, keys.secp384r1, root, csr, [days: 2] ++ purposes)}
      end

    %{hsm: hsm, keys: keys, root: root, certificates: certificates}
  end

  @signatures [rsa: [], rsa: [hash: :sha512], rsa: [padding: :pss], secp256r1: []]

  test "NSS takes what is signed, and nothing else", context do
    for {name, opts} <- @signatures do
      signed = sign(context, name, opts)
      assert {@text, ""} = nss(context.root, signed), "#{name} #{inspect(opts)}"
      assert {_, found} = nss(context.root, Referee.spoilt(signed))
      assert found != "", "NSS takes a spoilt signature of #{name} #{inspect(opts)}"
      Recorded.pki({:signed, :nss, 1})
    end
  end

  @tag skip: !Requests.all?() && "only with bin/test --pki"
  test "GnuPG takes what is signed, and nothing else", context do
    directory = Scratch.directory("gpgsm")
    File.chmod!(directory, 0o700)
    on_exit(fn -> System.cmd("gpgconf", ["--homedir", directory, "--kill", "all"]) end)
    fingerprint = :crypto.hash(:sha, context.root) |> Base.encode16()
    Scratch.write(directory, "trustlist.txt", "#{fingerprint} S relax\n")
    gpgsm = &System.cmd("gpgsm", ["--homedir", directory, "--batch" | &1], stderr_to_stdout: true)
    file = Scratch.write(directory, "root.pem", PEM.encode(context.root, "CERTIFICATE"))
    assert {_, 0} = gpgsm.(["--import", file])

    for {name, opts} <- @signatures do
      verify = fn signed ->
        file = Scratch.write(directory, "signed", signed)
        gpgsm.(["--disable-crl-checks", "--verify", file])
      end

      assert {text, 0} = verify.(sign(context, name, opts))
      assert text =~ "Good signature", "#{name} #{inspect(opts)}: #{text}"
      assert {text, status} = verify.(Referee.spoilt(sign(context, name, opts)))
      assert status != 0 and not (text =~ "Good signature")
      Recorded.pki({:signed, :gpgsm, 1})
    end
  end

  defp sign(%{hsm: hsm, keys: keys, certificates: certificates, root: root}, name, opts),
    do: CMS.sign!(hsm, keys[name], certificates[name], @text, [chain: root] ++ opts)

  # What was signed, and what is wrong.
  defp nss(root, signed) do
    directory = Scratch.directory("cmsutil")
    run = fn program, arguments -> System.cmd(program, arguments, stderr_to_stdout: true) end
    database = ["-d", "sql:#{directory}"]
    {_, 0} = run.("certutil", ["-N", "--empty-password" | database])
    file = Scratch.write(directory, "root", root)
    {_, 0} = run.("certutil", ~w(-A -n root -t C,C,C -i #{file}) ++ database)
    file = Scratch.write(directory, "signed", signed)
    out = Path.join(directory, "out")
    {text, status} = run.("cmsutil", ~w(-D -i #{file} -o #{out}) ++ database)
    content = with {:ok, content} <- File.read(out), do: content
    {content, if(status == 0, do: text, else: "#{status}: #{text}")}
  end
end
