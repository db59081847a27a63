defmodule Cryptoki.PKI.ListsTest do
  use ExUnit.Case, async: true

  # Lists of revoked certificates by other programs than OpenSSL.

  alias Cryptoki.X509
  alias Cryptoki.Test.{OpenSSL, Scratch}
  alias Cryptoki.Test.PKI.Requests

  @moduletag timeout: :infinity

  @reasons ~w(unspecified key_compromise ca_compromise affiliation_changed superseded
              cessation_of_operation certificate_hold privilege_withdrawn aa_compromise)a
  @last Integer.pow(2, 159) - 1

  test "by python's cryptography" do
    Scratch.within("lists", fn directory ->
      script = Path.expand("../support/pki/lists.py", __DIR__)
      {"", 0} = System.cmd(Requests.python(), ["-B", script, directory], stderr_to_stdout: true)
      list = &X509.revocation_list!(File.read!(Path.join(directory, "#{&1}")))

      for algorithm <- ~w(sha256_rsa_pkcs sha384_rsa_pkcs_pss ecdsa_sha512 eddsa)a do
        read = list.(algorithm)
        assert %{signature_algorithm: ^algorithm, number: @last, base_number: nil} = read
        assert read.this_update == ~U[2026-01-02 03:04:05Z]
        assert read.next_update == ~U[2055-01-01 00:00:00Z]
        assert read.issuer == "/CN=lists"
        assert Enum.sort(for {_, _, reason} <- read.revoked, do: reason) == Enum.sort(@reasons)
        assert Enum.map(read.revoked, &elem(&1, 0)) == Enum.to_list(1..9)
        assert [{1, [{{2, 5, 29, 24}, _, critical: false}]} | _] = read.entry_extensions
      end

      assert %{base_number: 5, revoked: [{1, _, :remove_from_crl}]} = list.(:delta)
    end)
  end

  @tag skip: !System.find_executable("certtool") && "certtool is not installed"
  test "by certtool" do
    Scratch.within("lists", fn directory ->
      [key, root, crl] = for name <- ~w(key root crl), do: Path.join(directory, name)
      subject = ~w(-subj /C=DE/CN=lists -days 3 -keyout #{key} -out #{root})

      {_, 0} =
        OpenSSL.openssl(~w(req -x509 -newkey rsa:2048 -nodes -set_serial 0x8123) ++ subject)

      template = Scratch.write(directory, "template", "crl_next_update = 7\ncrl_number = 17\n")

      authority = ~w(--load-ca-privkey #{key} --load-ca-certificate #{root})
      files = ~w(--load-certificate #{root} --template #{template} --outfile #{crl})
      command = ["--generate-crl" | authority ++ files]
      {_, 0} = System.cmd("certtool", command, stderr_to_stdout: true)

      assert {:ok, list} = X509.revocation_list(File.read!(crl))
      assert %{issuer: "/C=DE/CN=lists", number: 17, version: 2} = list
      assert [{0x8123, _at, :unspecified}] = list.revoked
    end)
  end
end
