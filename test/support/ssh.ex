defmodule Cryptoki.Test.SSH do
  @moduledoc false
  # The referee: what OpenSSH's ssh-keygen says of certificates and signatures, without any of our code.

  alias Cryptoki.Test.Scratch

  @doc "A key pair of ssh-keygen's: the file of the private key, and the line of the public one."
  @spec key(Path.t(), [String.t()]) :: {Path.t(), String.t()}
  def key(directory, arguments) do
    file = Path.join(directory, "key-#{System.unique_integer([:positive])}")
    {"", 0} = keygen(~w(-q -N) ++ [""] ++ ~w(-C alice@laptop -f #{file}) ++ arguments)
    {file, String.trim(File.read!(file <> ".pub"))}
  end

  @doc "What `ssh-keygen -L` says of a certificate, or `:refused`: it checks the signature."
  @spec show(Path.t(), String.t()) :: String.t() | :refused
  def show(directory, line) do
    file = Path.join(directory, "cert-#{System.unique_integer([:positive])}.pub")
    File.write!(file, String.trim(line) <> "\n")

    case keygen(~w(-L -f #{file})) do
      # The first line is the name of the file.
      {text, 0} -> text |> String.split("\n", parts: 2) |> List.last()
      {text, 1} -> if(text =~ "invalid key", do: :refused, else: raise(text))
    end
  end

  @doc "Whether `ssh-keygen -Y verify` takes a signature of data for that of a public key."
  @spec valid?(Path.t(), String.t(), String.t(), iodata, String.t()) :: boolean
  def valid?(directory, public, signature, data, namespace) do
    allowed = Scratch.write(directory, "allowed", "alice #{public}\n")
    signature = Scratch.write(directory, "data.sig", signature)
    data = Scratch.write(directory, "data", data)

    command = ~w(-Y verify -f #{allowed} -I alice -n #{namespace} -s #{signature})

    case keygen(command, data) do
      {"Good " <> _, 0} -> true
      {_text, 255} -> false
    end
  end

  @doc "Runs `ssh-keygen`, with a file as its input: `{output, status}`."
  @spec keygen([String.t()], Path.t()) :: {String.t(), non_neg_integer}
  def keygen(arguments, input \\ "/dev/null") do
    System.cmd("sh", ["-c", ~S(exec ssh-keygen "$@" <"$0"), input | arguments],
      stderr_to_stdout: true,
      env: [{"TZ", "UTC"}]
    )
  end

  @sshd System.find_executable("sshd") || Enum.find(["/usr/sbin/sshd"], &File.exists?/1)

  @doc "Why there is none, or false."
  @spec lacks_sshd :: false | String.t()
  def lacks_sshd, do: @sshd == nil && "no sshd here (Debian's package openssh-server)"

  @doc """
  An `sshd` with this host key and these lines more, at the port that is answered. It ends with this process, at the end of its
  input or by a signal of its port's program.
  """
  @spec sshd(Path.t(), Path.t(), String.t()) :: :inet.port_number()
  def sshd(directory, host, lines) do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, number} = :inet.port(socket)
    :ok = :gen_tcp.close(socket)

    config =
      Scratch.write(directory, "sshd_config", """
      Port #{number}
      ListenAddress 127.0.0.1
      HostKey #{host}
      PasswordAuthentication no
      KbdInteractiveAuthentication no
      UsePAM no
      StrictModes no
      PermitRootLogin yes
      PidFile none
      #{lines}
      """)

    # Where it has its processes of fewer rights, which Debian's start makes.
    if System.cmd("id", ["-u"]) == {"0\n", 0}, do: File.mkdir_p!("/run/sshd")

    # From 9.8 on it lets nobody in for a while from where logins were refused, and those before do not know the name.
    File.write!(config, "PerSourcePenalties no\n", [:append])

    if match?({_, 255}, System.cmd(@sshd, ["-t", "-f", config], stderr_to_stdout: true)),
      do: File.write!(config, String.replace(File.read!(config), "PerSourcePenalties no\n", ""))

    script = ~S("$0" -D -e -f "$1" 2>&1 & read -r end; kill $!)

    port =
      Port.open({:spawn_executable, System.find_executable("sh")}, [
        :binary,
        :exit_status,
        line: 1000,
        args: ["-c", script, @sshd, config]
      ])

    listening(port)
    number
  end

  defp listening(port) do
    receive do
      {^port, {:data, {_, "Server listening" <> _}}} -> :ok
      {^port, {:data, _line}} -> listening(port)
      {^port, {:exit_status, status}} -> raise "sshd ended with #{status}"
    after
      30_000 -> raise "sshd does not listen"
    end
  end
end
