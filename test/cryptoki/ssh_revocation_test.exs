defmodule Cryptoki.SSHRevocationTest do
  use ExUnit.Case, async: true

  # Lists of revoked keys and certificates, judged by `ssh-keygen -Q`.

  alias Cryptoki.{Error, SSH}
  alias Cryptoki.Test.{MainToken, Scratch}

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 1)})

    [ca, other] =
      for id <- ["krl-ca", "krl-other"] do
        {_, key} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, id: id, curve: :secp256r1)
        key
      end

    directory = Scratch.directory("krl")

    for name <- ["alice", "bob"] do
      {_, 0} =
        System.cmd("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", "#{directory}/#{name}"])
    end

    %{hsm: hsm, ca: ca, other: other, directory: directory}
  end

  defp certificate(%{hsm: hsm, directory: directory}, ca, name, serial, key_id) do
    line = File.read!("#{directory}/#{name}.pub")
    opts = [type: :user, key_id: key_id, principals: ["x"], hours: 1, serial: serial]
    file = Path.join(directory, "#{System.unique_integer([:positive])}-cert.pub")
    File.write!(file, SSH.certificate!(hsm, ca, line, opts) <> "\n")
    file
  end

  defp revoked?(list, file, directory) do
    krl = Scratch.write(directory, "krl-#{System.unique_integer([:positive])}", list)

    case System.cmd("ssh-keygen", ["-Q", "-f", krl, file], stderr_to_stdout: true) do
      {text, 0} -> if text =~ ": ok", do: false, else: flunk(text)
      {text, 1} -> if text =~ "REVOKED", do: true, else: flunk(text)
      {text, status} -> flunk("#{status}: #{text}")
    end
  end

  test "certificates by number and by name, of one authority or any", context do
    %{hsm: hsm, ca: ca, other: other, directory: directory} = context

    revoked = [
      serial: 17,
      serial: 20..29,
      serial: 28..40,
      serial: 0xFFFFFFFFFFFFFFFF,
      key_id: "bob",
      key_id: "carol"
    ]

    list = SSH.revocation_list!(hsm, ca, revoked, number: 7, comment: "a list")
    any = SSH.revocation_list!(hsm, :any, revoked)

    for {serial, key_id, yes} <- [
          {17, "x", true},
          {16, "x", false},
          {18, "x", false},
          {20, "x", true},
          {29, "x", true},
          {40, "x", true},
          {41, "x", false},
          {0xFFFFFFFFFFFFFFFF, "x", true},
          {0xFFFFFFFFFFFFFFFE, "x", false},
          {1, "bob", true},
          {0, "carol", true},
          {0, "bo", false}
        ] do
      file = certificate(context, ca, "alice", serial, key_id)
      assert revoked?(list, file, directory) == yes, "#{serial} #{key_id}"
      assert revoked?(any, file, directory) == yes
      file = certificate(context, other, "alice", serial, key_id)
      refute revoked?(list, file, directory)
      assert revoked?(any, file, directory) == yes
    end

    # What OpenSSH makes of it.
    krl = Scratch.write(directory, "krl", list)
    {text, 0} = System.cmd("ssh-keygen", ["-Q", "-l", "-f", krl], stderr_to_stdout: true)
    assert text =~ "KRL version 7"
    assert text =~ "a list"
    for said <- ["serial: 17", "serial: 20-40", "id: bob", "id: carol"], do: assert(text =~ said)
  end

  test "keys, with all their certificates", context do
    %{hsm: hsm, ca: ca, directory: directory} = context
    line = File.read!("#{directory}/alice.pub")
    fingerprint = SSH.fingerprint!(line)

    for revoked <- [
          [key: line],
          [fingerprint: fingerprint],
          [key: line, fingerprint: fingerprint, serial: 5]
        ] do
      list = SSH.revocation_list!(hsm, :any, revoked)
      assert revoked?(list, "#{directory}/alice.pub", directory)
      assert revoked?(list, certificate(context, ca, "alice", 1, "x"), directory)
      refute revoked?(list, "#{directory}/bob.pub", directory)
      refute revoked?(list, certificate(context, ca, "bob", 1, "x"), directory)
    end

    nothing = SSH.revocation_list!(hsm, :any, [])
    refute revoked?(nothing, "#{directory}/alice.pub", directory)
    public_key = Cryptoki.public_key!(hsm, ca)
    list = SSH.revocation_list!(hsm, ca, key: public_key)
    file = Scratch.write(directory, "ca.pub", SSH.public_key!(hsm, ca) <> "\n")
    assert revoked?(list, file, directory)
  end

  test "one list for the same, whatever the order", %{hsm: hsm} do
    at = ~U[2026-01-02 03:04:05Z]
    list = &SSH.revocation_list!(hsm, :any, &1, generated: at)

    assert list.(serial: 1, serial: 3, serial: 2, key_id: "b", key_id: "a") ==
             list.(key_id: "a", key_id: "b", key_id: "a", serial: 1..3)
  end

  test "what is wrong", %{hsm: hsm} do
    for wrong <- [
          [serial: 0],
          [serial: 0..5],
          [serial: 9..5//-1],
          [serial: 0x10000000000000000],
          [serial: "1"],
          [key_id: ""],
          [key_id: "a\nb"],
          [fingerprint: "SHA256:AAAA"],
          [fingerprint: "MD5:00"],
          [key: :alice],
          [keys: "x"],
          :none,
          [{:serial, 1} | :more]
        ],
        do:
          assert_raise(ArgumentError, ~r/revoked: must be/, fn ->
            SSH.revocation_list(:nobody, :any, wrong)
          end)

    assert_raise ArgumentError, ~r/did you mean :number/, fn ->
      SSH.revocation_list(:nobody, :any, [], numbr: 1)
    end

    assert {:error, %Error{reason: :invalid_argument} = error} =
             SSH.revocation_list(hsm, :any, key: "no key")

    assert error.detail =~ "revoked: this is no line"

    assert {:error, %Error{reason: :key_not_found}} =
             SSH.revocation_list(hsm, [label: "nobody's"], [])
  end
end
