defmodule Cryptoki.Test.HTTPOnce do
  @moduledoc false
  # A server of HTTP for one request, such as an authority that is asked about its certificates.

  @doc "What a client does with a URL, at which its request is answered by a function of its body."
  @spec serve(String.t(), (binary -> binary), (String.t() -> result)) :: result when result: term
  def serve(type, respond, client) do
    {:ok, listening} =
      :gen_tcp.listen(0, [:binary, packet: :http_bin, active: false, ip: {127, 0, 0, 1}])

    {:ok, port} = :inet.port(listening)
    server = Task.async(fn -> answer(listening, type, respond) end)
    result = client.("http://127.0.0.1:#{port}/")
    Task.await(server, 60_000)
    :ok = :gen_tcp.close(listening)
    result
  end

  defp answer(listening, type, respond) do
    {:ok, socket} = :gen_tcp.accept(listening)
    request = body(socket, 0)
    head = "HTTP/1.0 200 OK\r\nContent-Type: #{type}\r\n"
    bytes = respond.(request)
    :ok = :gen_tcp.send(socket, [head, "Content-Length: #{byte_size(bytes)}\r\n\r\n", bytes])
    :ok = :gen_tcp.close(socket)
  end

  defp body(socket, length) do
    case :gen_tcp.recv(socket, 0) do
      {:ok, {:http_header, _, :"Content-Length", _, text}} ->
        body(socket, String.to_integer(text))

      {:ok, :http_eoh} ->
        :ok = :inet.setopts(socket, packet: :raw)
        {:ok, body} = :gen_tcp.recv(socket, length)
        body

      {:ok, _line} ->
        body(socket, length)
    end
  end
end
