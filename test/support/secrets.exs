# Signs in 4 processes and reads a key value, then says so and goes on until it is killed.
# Run by test/cryptoki/secrets_test.exs: library, label, the file with the PIN, and where the library is to run.
[library, label, pin, isolation] = System.argv()

{:ok, _} = Application.ensure_all_started(:cryptoki)

{:ok, hsm} =
  Cryptoki.start_link(
    library: library,
    token: [label: label],
    pin: {:file, pin},
    sessions: 4,
    isolation: String.to_existing_atom(isolation)
  )

{:ok, {_public, private}} =
  Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, curve: :secp256r1, token: false)

parent = self()

sign = fn sign ->
  {:ok, _signature} = Cryptoki.sign(hsm, private, :ecdsa_sha256, "data")
  send(parent, :signed)
  sign.(sign)
end

for _ <- 1..4, do: spawn(fn -> sign.(sign) end)

Task.async(fn ->
  {:ok, %{value: <<_::binary-32>>}} = Cryptoki.attributes(hsm, [label: "exported"], [:value])
  :ok
end)
|> Task.await(60_000)

for _ <- 1..50 do
  receive do
    :signed -> :ok
  end
end

# For the control of the test: what is held is found.
if System.get_env("CRYPTOKI_TEST_HOLD"),
  do: Process.put(:held, pin |> File.read!() |> String.trim())

IO.puts("signing #{System.pid()}")
Process.sleep(:infinity)
