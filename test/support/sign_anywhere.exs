# A first signature on whatever machine this is, with nothing but the compiled application, SoftHSM and OpenSSL:
#
#     SOFTHSM2_CONF=/new/folder/softhsm2.conf elixir -pa FOLDER/ebin sign_anywhere.exs
#
# It writes the configuration and makes a token beside it. SoftHSM sees only what the environment was at the start.

configuration = System.fetch_env!("SOFTHSM2_CONF")
folder = Path.dirname(configuration)
tokens = Path.join(folder, "tokens")
File.mkdir_p!(tokens)
File.write!(configuration, "directories.tokendir = #{tokens}\nobjectstore.backend = file\n")
library = System.get_env("SOFTHSM2_LIBRARY") || "/usr/lib/softhsm/libsofthsm2.so"

{:ok, _} = Application.ensure_all_started(:cryptoki)
pins = [so_pin: "87654321", pin: "123456"]
:ok = Cryptoki.Token.init(:free, library: library, label: "anywhere", so_pin: pins[:so_pin])
:ok = Cryptoki.Token.init_pin([label: "anywhere"], [library: library] ++ pins)

{:ok, hsm} =
  Cryptoki.start_link(
    library: library,
    token: [label: "anywhere"],
    pin: fn -> pins[:pin] end,
    timeout: 120_000
  )

for {mechanism, options, sign} <- [
      {:ec_key_pair_gen, [curve: :secp256r1], :ecdsa_sha256},
      {:rsa_pkcs_key_pair_gen, [modulus_bits: 2048], :sha256_rsa_pkcs}
    ] do
  options = options ++ [label: to_string(sign), token: true]
  {:ok, {_public, private}} = Cryptoki.generate_key_pair(hsm, mechanism, options)
  form = if sign == :ecdsa_sha256, do: [format: :der], else: []
  {:ok, signature} = Cryptoki.sign(hsm, private, sign, "text", form)
  {:ok, public_key} = Cryptoki.public_key(hsm, label: to_string(sign))
  true = :public_key.verify("text", :sha256, signature, public_key)
  false = :public_key.verify("txet", :sha256, signature, public_key)

  pem = [:public_key.pem_entry_encode(:SubjectPublicKeyInfo, public_key)]

  files =
    for {name, bytes} <- [key: :public_key.pem_encode(pem), sig: signature, text: "text"],
        into: %{} do
      path = Path.join(folder, to_string(name))
      File.write!(path, bytes)
      {name, path}
    end

  {"Verified OK\n", 0} =
    System.cmd("openssl", [
      "dgst",
      "-sha256",
      "-verify",
      files.key,
      "-signature",
      files.sig,
      files.text
    ])

  IO.puts("#{sign}: signed and verified on #{:erlang.system_info(:system_architecture)}")
end

# The program of `isolation: :process` is one of this machine.
{:ok, worker} = Cryptoki.Native.Loader.worker()
{"cryptoki_worker " <> _version, 0} = System.cmd(worker, ["--version"])

# An error of the token, and a panic-free end.
{:error, %Cryptoki.Error{reason: :key_not_found}} =
  Cryptoki.sign(hsm, [label: "none"], :ecdsa_sha256, "text")

:ok = Cryptoki.stop(hsm)
File.rm_rf!(tokens)
