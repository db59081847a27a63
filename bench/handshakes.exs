# How many TLS handshakes a second a server makes with a key on the token, and with the same key in memory;
# the clients are in this VM as well: `bin/bench`, with OTP 27 or newer.

defmodule Handshakes do
  @clients 8
  @each 125

  def measure(name, options) do
    {:ok, listening} =
      :ssl.listen(0, [ip: {127, 0, 0, 1}, backlog: 1024, active: false] ++ options)

    {:ok, {_address, port}} = :ssl.sockname(listening)
    for _ <- 1..@clients, do: spawn_link(fn -> accept(listening) end)
    work = fn times -> fn -> for _ <- 1..times, do: connect(port, options[:versions]) end end

    clients(work.(10))
    {time, _} = :timer.tc(fn -> clients(work.(@each)) end)
    :io.format("~-34ts~10.1f /s~n", [name, @clients * @each * 1_000_000 / time])
  end

  defp clients(work),
    do: 1..@clients |> Enum.map(fn _ -> Task.async(work) end) |> Task.await_many(:infinity)

  defp accept(listening) do
    {:ok, socket} = :ssl.transport_accept(listening)
    {:ok, socket} = :ssl.handshake(socket)
    :ssl.close(socket)
    accept(listening)
  end

  # A client of TLS 1.3 is done before the server is; the end of the connection is that of both.
  defp connect(port, versions) do
    options = [verify: :verify_none, active: false, versions: versions]
    {:ok, socket} = :ssl.connect(~c"localhost", port, options)
    {:error, :closed} = :ssl.recv(socket, 0)
  end

  @doc "A key made by OTP as attributes, to bring it onto the token."
  def attributes({:RSAPrivateKey, _version, n, e, d, p, q, e1, e2, c, _others}) do
    names =
      ~w[modulus public_exponent private_exponent prime_1 prime_2 exponent_1 exponent_2 coefficient]a

    values = Enum.map([n, e, d, p, q, e1, e2, c], &:binary.encode_unsigned/1)
    [key_type: :rsa] ++ Enum.zip(names, values)
  end

  def attributes(key) when elem(key, 0) == :ECPrivateKey,
    do: [key_type: :ec, curve: :secp256r1, value: elem(key, 2)]
end

Mix.ensure_application!(:ssl)
{:ok, _} = Application.ensure_all_started(:ssl)
Logger.configure(level: :warning)
{:ok, hsm} = Cryptoki.start_link(uri: System.fetch_env!("CRYPTOKI_BENCH_URI"), sessions: 8)

for {name, kind} <- [{"P-256", {:namedCurve, :secp256r1}}, {"RSA-2048", {:rsa, 2048, 65_537}}] do
  %{cert: der, key: own} = :public_key.pkix_test_root_cert(~c"bench", key: kind, digest: :sha256)

  key =
    Cryptoki.create!(
      hsm,
      [class: :private_key, id: name, sign: true] ++ Handshakes.attributes(own)
    )

  token = Cryptoki.SSL.certs_keys!(hsm, key, der)
  type = elem(own, 0)
  memory = %{cert: der, key: {type, :public_key.der_encode(type, own)}}

  for version <- [:"tlsv1.3", :"tlsv1.2"], {where, entry} <- [token: token, memory: memory] do
    Handshakes.measure("#{name}, #{version}, #{where}", certs_keys: [entry], versions: [version])
  end
end
