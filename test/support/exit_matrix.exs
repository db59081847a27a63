# Ends a VM in the way its first argument names while it does what the second names.
# Run by test/safety/exit_matrix_test.exs; the third is the start options, as a term in base64, the fourth a file for the
# numbers of the processes that have to end with this VM: those of the library, and their keepers.
[way, work, options, workers] = System.argv()
options = options |> Base.decode64!() |> :erlang.binary_to_term()

{:ok, _} = Application.ensure_all_started(:cryptoki)
{:ok, hsm} = Cryptoki.start_link([timeout: 60_000] ++ options)

parent = self()

# Calls it until it fails, which it does when the application stops: that is not what is tested.
repeat = fn repeat, call ->
  with {:ok, _result} <- call.() do
    send(parent, :done)
    repeat.(repeat, call)
  end
end

await = fn await, holds? -> if holds?.(), do: :ok, else: await.(await, holds?) end
busy = fn count -> await.(await, fn -> Cryptoki.status!(hsm).sessions.busy == count end) end

sign = fn ->
  {:ok, {_public, private}} =
    Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, curve: :secp256r1, token: false)

  for _ <- 1..4 do
    spawn(fn -> repeat.(repeat, fn -> Cryptoki.sign(hsm, private, :ecdsa_sha256, "data") end) end)
  end

  for _ <- 1..20, do: receive(do: (:done -> :ok))
end

case work do
  "idle" ->
    :ok

  "sign" ->
    sign.()

  # The library is one that does not return from C_GenerateRandom.
  "hang" ->
    for _ <- 1..64, do: spawn(fn -> Cryptoki.random(hsm, 8, timeout: :infinity) end)
    busy.(64)

  "generate" ->
    template = [modulus_bits: 4096, token: false]
    generate = fn -> Cryptoki.generate_key_pair(hsm, :rsa_pkcs_key_pair_gen, template) end
    for _ <- 1..2, do: spawn(fn -> repeat.(repeat, generate) end)
    busy.(2)

  "watch" ->
    {:ok, _ref} = Cryptoki.subscribe(hsm)
    spawn(fn -> repeat.(repeat, fn -> Cryptoki.slots(hsm) end) end)
    for _ <- 1..5, do: receive(do: (:done -> :ok))

  # Native code of OTP is busy on every scheduler, and so is ours. Not its dirty NIFs: a VM without us that
  # ends while one of them makes an RSA key ends with a segmentation fault in every second run.
  "crypto" ->
    data = :binary.copy("data", 100_000)

    for _ <- 1..System.schedulers_online(),
        do: spawn(fn -> repeat.(repeat, fn -> {:ok, :crypto.hash(:sha512, data)} end) end)

    sign.()
end

here = Cryptoki.Test.Workers.all()
File.write!(workers, Enum.join(here ++ Enum.map(here, &Cryptoki.Test.Workers.parent/1), " "))

case way do
  "kill" -> {_, 0} = System.cmd("kill", ["-KILL", System.pid()])
  "halt" -> System.halt(3)
  "end_of_script" -> :ok
  "uncaught" -> raise "uncaught"
  "stop" -> System.stop(3)
  "sigterm" -> {_, 0} = System.cmd("kill", ["-TERM", System.pid()])
  "halt_without_flush" -> :erlang.halt(3, flush: false)
  "application_stop" -> :ok = Application.stop(:cryptoki)
end

if way in ["stop", "sigterm"], do: Process.sleep(:infinity)
