# Mechanisms with keys of other types, in a VM of its own. Run by test/cryptoki/fitting_test.exs: the start
# options as an RFC 7512 URI. What is not as it should be is a line; the status is 3 at the end.
[uri] = System.argv()
Logger.configure(level: :none)
{:ok, _} = Application.ensure_all_started(:cryptoki)
{:ok, hsm} = Cryptoki.start_link(uri: uri, timeout: 60_000)

pair = fn name, mechanism, template ->
  uses = [label: "wrong #{name}", sign: true, verify: true, token: false]
  {public, private} = Cryptoki.generate_key_pair!(hsm, mechanism, uses ++ template)
  %{name => private, :"#{name}_public" => public}
end

secret = [label: "wrong aes", sign: true, verify: true, encrypt: true, wrap: true, unwrap: true]
aes = Cryptoki.generate_key!(hsm, :aes_key_gen, [value_len: 32, token: false] ++ secret)
rsa = [modulus_bits: 2048, encrypt: true, decrypt: true, wrap: true, unwrap: true]

keys =
  [
    pair.(:rsa, :rsa_pkcs_key_pair_gen, rsa),
    pair.(:ec, :ec_key_pair_gen, curve: :secp256r1),
    pair.(:ed, :ec_edwards_key_pair_gen, curve: :ed25519)
  ]
  |> Enum.reduce(%{aes: aes}, &Map.merge/2)

dsa = [:dsa, :dsa_sha1, :dsa_sha256]
ecdsa = [:ecdsa, :ecdsa_sha256]
pkcs1 = [:rsa_pkcs, :sha256_rsa_pkcs, :sha256_rsa_pkcs_pss, :rsa_x_509]
wrong = %{rsa: dsa ++ ecdsa ++ [:eddsa, :aes_cmac], ec: dsa ++ pkcs1 ++ [:sha256_hmac]}
wrong = Map.merge(wrong, %{ed: dsa ++ ecdsa ++ pkcs1, aes: dsa ++ ecdsa ++ pkcs1 ++ [:eddsa]})
data = :crypto.hash(:sha256, "data")

reason = fn
  {:error, %{reason: reason, executed: false, function: nil}} -> reason
  {:error, {reason, %{executed: false}}} -> reason
  other -> other
end

expect = fn expected, told, call ->
  case reason.(call.()) do
    ^expected -> :ok
    other -> IO.puts("#{inspect(told)}: #{inspect(other)}")
  end
end

for {name, mechanisms} <- wrong, mechanism <- mechanisms do
  key = keys[name]
  public = keys[:"#{name}_public"] || key
  {:ok, code} = {:ok, Cryptoki.Names.code(:mechanism, mechanism) |> elem(1)}

  for {door, call} <- [
        sign: fn -> Cryptoki.sign(hsm, key, mechanism, data) end,
        number: fn -> Cryptoki.sign(hsm, key, code, data) end,
        selector: fn -> Cryptoki.sign(hsm, [label: "wrong #{name}"], mechanism, data) end,
        stream: fn -> Cryptoki.sign(hsm, key, mechanism, {:stream, [data]}) end,
        erlang: fn -> :cryptoki.sign(hsm, key, mechanism, data) end,
        verify: fn -> Cryptoki.verify(hsm, public, mechanism, data, <<1::512>>) end,
        found: fn ->
          Cryptoki.verify(hsm, [label: "wrong #{name}"], mechanism, data, <<1::512>>)
        end,
        start: fn ->
          Cryptoki.with_session(hsm, &Cryptoki.start(&1, :verify, public, mechanism))
        end,
        message: fn ->
          Cryptoki.with_session(hsm, &Cryptoki.start(&1, :message_sign, key, mechanism))
        end
      ],
      do: expect.(:key_type_inconsistent, {door, name, mechanism}, call)
end

%{rsa: rsa, rsa_public: rsa_public, ec: ec, ec_public: ec_public} = keys
oaep = {:rsa_pkcs_oaep, hash: :sha_1}

for {expected, told, call} <- [
      {:key_type_inconsistent, "encrypt", fn -> Cryptoki.encrypt(hsm, ec_public, oaep, data) end},
      {:key_type_inconsistent, "decrypt", fn -> Cryptoki.decrypt(hsm, aes, oaep, data) end},
      {:key_type_inconsistent, "gcm",
       fn -> Cryptoki.encrypt(hsm, rsa_public, {:aes_gcm, iv: <<0::96>>}, data) end},
      {:key_type_inconsistent, "derive",
       fn -> Cryptoki.derive_key(hsm, rsa, {:ecdh1_derive, public: "point"}, []) end},
      {:wrapping_key_type_inconsistent, "wrap",
       fn -> Cryptoki.wrap_key(hsm, ec_public, oaep, aes) end},
      {:unwrapping_key_type_inconsistent, "unwrap",
       fn -> Cryptoki.unwrap_key(hsm, rsa, :aes_key_wrap, data, class: :secret_key) end},
      {:key_function_not_permitted, "sign with a public key",
       fn -> Cryptoki.sign(hsm, ec_public, :ecdsa, data) end},
      {:key_function_not_permitted, "decrypt with a public key",
       fn -> Cryptoki.decrypt(hsm, rsa_public, :rsa_pkcs, data) end}
    ],
    do: expect.(expected, told, call)

{:ok, signature} = Cryptoki.sign(hsm, ec, :ecdsa, data)
:ok = Cryptoki.verify(hsm, ec_public, :ecdsa, data, signature)
:ok = Cryptoki.verify(hsm, [label: "wrong ec"], :ecdsa, data, signature)
System.halt(3)
