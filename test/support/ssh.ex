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
end
