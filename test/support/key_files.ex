defmodule Cryptoki.Test.KeyFiles do
  @moduledoc false
  # Private keys as other programs write them, each with the public key that OpenSSL says it has.

  alias Cryptoki.Test.{MainToken, OpenSSL, Scratch}

  @type made :: %{kind: atom, file: binary, public: String.t()}

  # What is said of a key: its kind, the program beside OpenSSL, and the lines that write it to $OUT.
  @forms %{
    "openssl genpkey, RSA" => {:rsa, "openssl", "openssl genpkey -algorithm RSA -out $OUT"},
    "openssl genrsa" => {:rsa, "openssl", "openssl genrsa -out $OUT 2048"},
    "openssl rsa -traditional" =>
      {:rsa, "openssl", "openssl genrsa 3072 | openssl rsa -traditional -out $OUT"},
    "openssl rsa, PKCS #1 in DER" =>
      {:rsa, "openssl", "openssl genrsa 2048 | openssl rsa -traditional -outform DER -out $OUT"},
    "openssl pkcs8 -topk8, DER" =>
      {:rsa, "openssl",
       "openssl genrsa 2048 | openssl pkcs8 -topk8 -nocrypt -outform DER -out $OUT"},
    "openssl genrsa -3" => {:rsa, "openssl", "openssl genrsa -3 -out $OUT 2048"},
    "openssl ecparam" => {:ec, "openssl", "openssl ecparam -name prime256v1 -genkey -out $OUT"},
    "openssl ecparam -noout, secp384r1" =>
      {:ec, "openssl", "openssl ecparam -name secp384r1 -genkey -noout -out $OUT"},
    "openssl genpkey, P-521" =>
      {:ec, "openssl", "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out $OUT"},
    "openssl ec, SEC 1 in DER" =>
      {:ec, "openssl",
       "openssl ecparam -name prime256v1 -genkey | openssl ec -outform DER -out $OUT"},
    "openssl ec -no_public" =>
      {:ec, "openssl",
       "openssl ecparam -name prime256v1 -genkey | openssl ec -no_public -out $OUT"},
    "openssl ec -conv_form compressed" =>
      {:ec, "openssl",
       "openssl ecparam -name prime256v1 -genkey | openssl ec -conv_form compressed -out $OUT"},
    "openssl pkcs8 -topk8, EC" =>
      {:ec, "openssl",
       "openssl ecparam -name prime256v1 -genkey | openssl pkcs8 -topk8 -nocrypt -out $OUT"},
    "openssl genpkey, Ed25519" =>
      {:ed25519, "openssl", "openssl genpkey -algorithm ed25519 -out $OUT"},
    "openssl genpkey, Ed448" => {:ed448, "openssl", "openssl genpkey -algorithm ed448 -out $OUT"},
    "openssl genpkey, X25519 in DER" =>
      {:x25519, "openssl", "openssl genpkey -algorithm x25519 -outform DER -out $OUT"},
    "openssl genpkey, X448" => {:x448, "openssl", "openssl genpkey -algorithm x448 -out $OUT"},
    "ssh-keygen -m PKCS8, RSA" =>
      {:rsa, "ssh-keygen", "ssh-keygen -q -t rsa -b 2048 -m PKCS8 -N '' -f $OUT"},
    "ssh-keygen -m PEM, RSA" =>
      {:rsa, "ssh-keygen", "ssh-keygen -q -t rsa -b 2048 -m PEM -N '' -f $OUT"},
    "ssh-keygen -m PKCS8, ECDSA" =>
      {:ec, "ssh-keygen", "ssh-keygen -q -t ecdsa -b 384 -m PKCS8 -N '' -f $OUT"},
    "certtool, RSA" =>
      {:rsa, "certtool", "certtool --generate-privkey --key-type rsa --bits 2048 --outfile $OUT"},
    "certtool, ECDSA, with its text" =>
      {:ec, "certtool",
       "certtool --generate-privkey --key-type ecdsa --curve secp256r1 --text --outfile $OUT"},
    "certtool, Ed25519" =>
      {:ed25519, "certtool", "certtool --generate-privkey --key-type ed25519 --outfile $OUT"},
    "keytool, RSA, with its certificate" => {:rsa, "keytool", :keytool, "RSA -keysize 2048"},
    "keytool, EC" => {:ec, "keytool", :keytool, "EC -groupname secp256r1"},
    "keytool, Ed25519" => {:ed25519, "keytool", :keytool, "Ed25519"}
  }

  # Which not every token has.
  @curves ~w(secp224r1 secp256k1 brainpoolP256r1 brainpoolP384r1 brainpoolP512r1)a
  @more for curve <- @curves,
            commands =
              "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:#{curve} -out $OUT",
            into: @forms,
            do: {"openssl genpkey, #{curve}", {:ec, "openssl", commands}}

  @doc "What they are called, with the kind of the key and why one cannot be made here."
  @spec all :: [{String.t(), atom, false | String.t()}]
  def all do
    for {name, form} <- Enum.sort(@more) do
      program = elem(form, 1)
      curve = Enum.find(@curves, &String.ends_with?(name, ", #{&1}"))
      missing = !System.find_executable(program) && "there is no #{program}"
      {name, elem(form, 0), missing || MainToken.lacks_key(curve)}
    end
  end

  @doc "A new one of these."
  @spec make(String.t()) :: made
  def make(name) do
    Scratch.within("key-file", fn directory ->
      out = Path.join(directory, "key")
      form = Map.fetch!(@more, name)
      {_text, 0} = sh(commands(form), out)
      form_of_points = if elem(form, 0) == :ec, do: ~w(-ec_conv_form uncompressed), else: []
      {public, 0} = OpenSSL.openssl(~w(pkey -in #{out} -pubout) ++ form_of_points)
      %{kind: elem(form, 0), file: File.read!(out), public: pem(public)}
    end)
  end

  @doc "A key in a file after commands with `$IN` and `$OUT`."
  @spec changed(binary, String.t()) :: binary
  def changed(file, commands) do
    Scratch.within("key-file", fn directory ->
      from = Scratch.write(directory, "from", file)
      File.chmod!(from, 0o600)
      out = Path.join(directory, "key")
      {_text, 0} = sh(String.replace(commands, "$IN", from), out)
      File.read!(out)
    end)
  end

  defp commands({_kind, _program, commands}), do: commands

  defp commands({_kind, _program, :keytool, key}) do
    "keytool -genkeypair -alias key -dname CN=key -keyalg #{key} -keystore $OUT.p12 -storetype PKCS12 -storepass 123456 && " <>
      "openssl pkcs12 -in $OUT.p12 -nodes -passin pass:123456 -out $OUT"
  end

  defp sh(commands, out),
    do: System.cmd("sh", ["-ec", commands], env: [{"OUT", out}], stderr_to_stdout: true)

  # Behind what OpenSSL warns of.
  defp pem(text), do: ~r/-----BEGIN.*\z/s |> Regex.run(text) |> hd()
end
