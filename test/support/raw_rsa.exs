# Raw RSA of more bytes than the modulus has, in a VM of its own. Run by test/cryptoki/raw_rsa_test.exs: the
# start options as an RFC 7512 URI. What each call answers is a line; the status is 3 at the end.
[uri] = System.argv()
Logger.configure(level: :none)
{:ok, _} = Application.ensure_all_started(:cryptoki)
{:ok, hsm} = Cryptoki.start_link(uri: uri, timeout: 60_000)
uses = [encrypt: true, decrypt: true, sign: true, verify: true]
template = [modulus_bits: 1024, label: "raw"] ++ uses
{public, private} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, template)
raw = :rsa_x_509

# As long as the modulus, and smaller.
fits = <<0, 1::1016>>
{:ok, signature} = Cryptoki.sign(hsm, private, raw, fits)
:ok = Cryptoki.verify(hsm, public, raw, fits, signature)
{:ok, ciphertext} = Cryptoki.encrypt(hsm, public, raw, fits)
{:ok, ^fits} = Cryptoki.decrypt(hsm, private, raw, ciphertext)

reason = fn
  {:error, %{reason: reason}} -> reason
  {:error, {reason, _details}} -> reason
  other -> other
end

for size <- [129, 5_000] do
  long = :binary.copy(<<1>>, size)

  for call <- [
        fn -> Cryptoki.sign(hsm, private, raw, long) end,
        fn -> Cryptoki.sign(hsm, [label: "raw"], 3, long) end,
        fn -> Cryptoki.sign_recover(hsm, private, raw, long) end,
        fn -> Cryptoki.encrypt(hsm, public, raw, long) end,
        fn -> Cryptoki.verify(hsm, public, raw, long, signature) end,
        fn -> Cryptoki.with_session(hsm, &Cryptoki.verify(&1, public, raw, long, signature)) end,
        fn -> :cryptoki.verify(hsm, public, raw, long, signature) end
      ],
      do: IO.puts(reason.(call.()))

  # Not every token takes it in parts; none may be given too many.
  for call <- [
        fn -> Cryptoki.sign(hsm, private, raw, {:stream, [long]}) end,
        fn -> Cryptoki.verify(hsm, public, raw, {:stream, [fits, fits]}, signature) end,
        fn -> Cryptoki.encrypt(hsm, public, raw, {:stream, [long]}) end
      ],
      do: {:error, %{reason: _}} = call.()

  {:error, _} = Cryptoki.decrypt(hsm, private, raw, long)
  {:error, _} = Cryptoki.verify_recover(hsm, public, raw, long)
end

{:ok, ^signature} = Cryptoki.sign(hsm, private, raw, fits)
System.halt(3)
