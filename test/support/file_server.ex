defmodule Cryptoki.Test.FileServer do
  @moduledoc false
  # An HTTP server on the loopback, in the clear or by TLS, that answers each request by a function, and a proxy that
  # takes every name to one port. Gone with the process that started it.

  @type answer :: {non_neg_integer, [{String.t(), String.t()}], binary} | :silence

  @doc "Serves a folder: files by their names, 404 for what is not there; the URL. `tls` are options of `:ssl.listen/2`."
  @spec folder(Path.t(), keyword | nil) :: String.t()
  def folder(folder, tls \\ nil) do
    serve(
      fn path ->
        case File.read(Path.join(folder, Path.basename(path))) do
          {:ok, bytes} -> {200, [], bytes}
          {:error, _} -> {404, [], "not there"}
        end
      end,
      tls
    )
  end

  @doc "Answers each path by a function; the URL. The caller gets `{:requested, path, headers}`."
  @spec serve((String.t() -> answer), keyword | nil) :: String.t()
  def serve(function, tls \\ nil) do
    {listening, port, transport} = listen(tls)
    caller = self()

    accepting(listening, transport, fn socket ->
      with {:ok, ["GET", path | _], headers} <- request(socket, transport) do
        send(caller, {:requested, path, headers})
        answer(socket, transport, function.(path))
      end
    end)

    if tls, do: "https://localhost:#{port}", else: "http://127.0.0.1:#{port}"
  end

  @doc "A proxy, its port: CONNECT to any name and port ends at the port of the URL. The caller gets `{:connected, to, headers}`."
  @spec proxy(String.t()) :: :inet.port_number()
  def proxy(url) do
    {listening, port, transport} = listen(nil)
    caller = self()

    accepting(listening, transport, fn socket ->
      {:ok, ["CONNECT", to | _], headers} = request(socket, transport)
      send(caller, {:connected, to, headers})
      {:ok, other} = :gen_tcp.connect(~c"127.0.0.1", URI.parse(url).port, options())
      :ok = :gen_tcp.send(socket, "HTTP/1.1 200 connected\r\n\r\n")
      spawn_link(fn -> pass(other, socket) end)
      pass(socket, other)
    end)

    port
  end

  defp options, do: [:binary, active: false]

  defp listen(nil) do
    {:ok, listening} = :gen_tcp.listen(0, [ip: {127, 0, 0, 1}, reuseaddr: true] ++ options())
    {:ok, port} = :inet.port(listening)
    {listening, port, :gen_tcp}
  end

  defp listen(tls) do
    :ok = Cryptoki.Test.TLS.start()
    {listening, port} = Cryptoki.Test.TLS.listen(tls)
    {listening, port, :ssl}
  end

  defp accepting(listening, transport, serve) do
    spawn_link(fn -> accept(listening, transport, serve) end)
    :ok
  end

  # A client that goes away in the middle ends its own connection, not the server.
  defp accept(listening, transport, serve) do
    with {:ok, socket} <- accepted(transport, listening) do
      spawn(fn ->
        with {:ok, socket} <- handshake(transport, socket), do: serve.(socket)
      end)

      accept(listening, transport, serve)
    end
  end

  defp accepted(:gen_tcp, listening), do: :gen_tcp.accept(listening)
  defp accepted(ssl, listening), do: ssl.transport_accept(listening)

  defp handshake(:gen_tcp, socket), do: {:ok, socket}
  defp handshake(ssl, socket), do: ssl.handshake(socket, 30_000)

  defp request(socket, transport, text \\ "") do
    if text =~ "\r\n\r\n" do
      [first | headers] = text |> String.trim() |> String.split("\r\n")
      {:ok, String.split(first, " "), headers}
    else
      with {:ok, more} <- transport.recv(socket, 0), do: request(socket, transport, text <> more)
    end
  end

  defp answer(socket, transport, :silence), do: transport.recv(socket, 0)

  defp answer(socket, transport, {status, headers, body}) do
    length = [{"content-length", to_string(byte_size(body))}]

    lines =
      for {name, value} <- Enum.uniq_by(headers ++ length, &elem(&1, 0)),
          do: "#{name}: #{value}\r\n"

    transport.send(socket, [
      "HTTP/1.1 #{status} said\r\nconnection: close\r\n",
      lines,
      "\r\n",
      body
    ])

    transport.close(socket)
  end

  defp pass(from, to) do
    with {:ok, bytes} <- :gen_tcp.recv(from, 0),
         :ok <- :gen_tcp.send(to, bytes) do
      pass(from, to)
    else
      _ -> :gen_tcp.close(to)
    end
  end
end
