# Ends a VM in the way its first argument names while 4 processes sign without pause.
# Run by test/cryptoki/exit_test.exs; the second argument is the start options as an RFC 7512 URI.
[way, uri] = System.argv()

{:ok, _} = Application.ensure_all_started(:cryptoki)
{:ok, hsm} = Cryptoki.start_link(uri: uri, sessions: 4)

{:ok, {_public, private}} =
  Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, curve: :secp256r1, token: false)

parent = self()

sign = fn sign ->
  # The last calls fail when the application stops; that is not what is tested.
  with {:ok, _signature} <- Cryptoki.sign(hsm, private, :ecdsa_sha256, "data"),
       do: send(parent, :signed)

  sign.(sign)
end

for _ <- 1..4, do: spawn(fn -> sign.(sign) end)

for _ <- 1..50 do
  receive do
    :signed -> :ok
  end
end

case way do
  "halt" -> System.halt(3)
  "end_of_script" -> :ok
  "uncaught" -> raise "uncaught"
  "stop" -> System.stop(3)
  "sigterm" -> {_, 0} = System.cmd("kill", ["-TERM", System.pid()])
  "halt_without_flush" -> :erlang.halt(3, flush: false)
  "application_stop" -> :ok = Application.stop(:cryptoki)
end

if way in ["stop", "sigterm"], do: Process.sleep(:infinity)
