defmodule Cryptoki.Test.TLS do
  @moduledoc false
  # Certificates by an authority of OpenSSL's, and OpenSSL and curl at the other end of a connection.

  alias Cryptoki.Test.OpenSSL

  # It is none of our applications; newer Elixirs see through ssl/0.
  @compile {:no_warn_undefined, :ssl}

  @doc "Whether this OTP signs by functions; else what to say of a test that is left out."
  @spec missing :: false | String.t()
  def missing do
    String.to_integer(System.otp_release()) < 27 &&
      "keys that sign by a function came with OTP 27"
  end

  @doc "Starts `:ssl`, or another application of OTP that is none of ours."
  @spec start(atom) :: :ok
  def start(application \\ :ssl) do
    # Elixir 1.15 and newer take other applications of OTP off the path.
    if Code.ensure_loaded?(Mix) and function_exported?(Mix, :ensure_application!, 1),
      do: apply(Mix, :ensure_application!, [application])

    {:ok, _started} = Application.ensure_all_started(application)
    :ok
  end

  @doc "An authority in a directory: `ca.pem` and its key."
  @spec authority(Path.t()) :: Path.t()
  def authority(directory) do
    File.mkdir_p!(directory)

    openssl(
      directory,
      ~w(req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=authority -days 2)
    )

    directory
  end

  @doc "A certificate of the authority for a public key, as PEM."
  @spec certificate(Path.t(), term, String.t()) :: String.t()
  def certificate(directory, public_key, name) do
    file = Path.join(directory, "#{System.unique_integer([:positive])}")
    File.write!(file <> ".pub", OpenSSL.pem(public_key))
    File.write!(file <> ".ext", "subjectAltName=DNS:localhost,IP:127.0.0.1\n")

    openssl(
      directory,
      ~w(x509 -new -force_pubkey #{file}.pub -subj /CN=#{name} -days 2 -CA ca.pem -CAkey ca.key) ++
        ~w(-CAcreateserial -extfile #{file}.ext -out #{file}.pem)
    )

    File.read!(file <> ".pem")
  end

  @doc "The DER of the certificates in a PEM."
  @spec der(String.t()) :: [binary]
  def der(pem), do: for({:Certificate, der, _} <- :public_key.pem_decode(pem), do: der)

  @doc "A client's certificate and key of OpenSSL's own, `client.pem` and `client.key`."
  @spec client(Path.t()) :: :ok
  def client(directory) do
    openssl(
      directory,
      ~w(req -newkey rsa:2048 -nodes -keyout client.key -out client.csr -subj /CN=curl)
    )

    openssl(
      directory,
      ~w(x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out client.pem)
    )
  end

  @doc "Listens on a free port; `accept/2` takes one connection. Both are closed by the caller's end."
  @spec listen(keyword) :: {term, :inet.port_number()}
  def listen(options) do
    {:ok, listening} =
      ssl().listen(
        0,
        [ip: {127, 0, 0, 1}, active: false, reuseaddr: true, mode: :binary] ++ options
      )

    {:ok, {_address, port}} = ssl().sockname(listening)
    {listening, port}
  end

  @doc "Serves one connection: what `fun` makes of the socket and of what the client sent."
  @spec serve(term, (term -> iodata)) :: Task.t()
  def serve(listening, fun) do
    Task.async(fn ->
      {:ok, socket} = ssl().transport_accept(listening, 30_000)

      with {:ok, socket} <- ssl().handshake(socket, 30_000) do
        answer = fun.(socket)
        :ok = ssl().send(socket, answer)
        ssl().close(socket)
      end
    end)
  end

  @doc "`openssl s_client` on a port: its output, and its status."
  @spec s_client(Path.t(), :inet.port_number(), [String.t()]) :: {String.t(), non_neg_integer}
  def s_client(directory, port, arguments) do
    command =
      ~w(openssl s_client -connect 127.0.0.1:#{port} -CAfile #{directory}/ca.pem) ++
        ~w(-verify_return_error -ign_eof) ++ arguments

    System.cmd("sh", ["-c", ~S(exec "$@" </dev/null), "sh" | command], stderr_to_stdout: true)
  end

  @doc "`openssl s_server -www` with a certificate of its own, asking for one of the client, for one connection; its port."
  @spec s_server(Path.t(), [String.t()]) :: {port, :inet.port_number()}
  def s_server(directory, arguments) do
    arguments =
      ~w(s_server -accept 127.0.0.1:0 -cert client.pem -key client.key -CAfile ca.pem) ++
        ~w(-Verify 2 -verify_return_error -www -naccept 1) ++ arguments

    port =
      Port.open(
        {:spawn_executable, System.find_executable("openssl")},
        [:binary, :stderr_to_stdout, :exit_status, line: 1000, args: arguments, cd: directory]
      )

    {port, accepting(port)}
  end

  defp accepting(port) do
    receive do
      {^port, {:data, {_, "ACCEPT " <> address}}} ->
        address |> String.split(":") |> List.last() |> String.to_integer()

      {^port, {:data, _other}} ->
        accepting(port)
    after
      30_000 -> raise "openssl s_server does not accept"
    end
  end

  defp openssl(directory, arguments) do
    case System.cmd("openssl", arguments, cd: directory, stderr_to_stdout: true) do
      {_, 0} -> :ok
      {text, status} -> raise "openssl #{hd(arguments)} failed with status #{status}: #{text}"
    end
  end

  # By a function: Mix 1.14 warns of calls to what is none of our applications.
  defp ssl, do: :ssl
end
