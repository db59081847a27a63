defmodule Cryptoki.Test.PKI.Requests do
  @moduledoc false
  # Requests of other programs and by hand, made by test/support/pki/requests.py, each with the right answer.

  alias Cryptoki.{Error, X509}
  alias Cryptoki.Test.Scratch

  @directory __DIR__

  # What each is made with.
  @makers [
    by_hand: nil,
    cryptography: nil,
    openssl: "openssl",
    certtool: "certtool",
    certutil: "certutil",
    keytool: "keytool"
  ]

  @type answer ::
          {:accepted, String.t(), list} | {:refused, [Error.reason()]} | {:either, [answer]}
  @type t :: %{name: String.t(), bytes: binary, answer: answer}

  @doc "Whether all that `bin/test --pki` asks for are wanted."
  @spec all? :: boolean
  def all?, do: System.get_env("CRYPTOKI_TEST_PKI") == "all"

  @doc "Who makes requests. A JVM needs seconds for each: only where all are wanted."
  @spec makers :: [atom]
  def makers, do: for({maker, _program} <- @makers, all?() or maker != :keytool, do: maker)

  @doc "Why one is left out, for `@tag skip:`."
  @spec lacks(atom) :: false | String.t()
  def lacks(maker) do
    program = @makers[maker]
    program && !System.find_executable(program) && "#{program} is not installed"
  end

  @doc "The requests of one of them."
  @spec make(atom) :: [t]
  def make(maker) do
    directory = Scratch.directory("requests-#{maker}")
    everything = if all?(), do: ["--all"], else: []
    script = Path.join(@directory, "requests.py")
    python!([script, directory, "#{maker}"] ++ everything)
    {:ok, rows} = :file.consult(Path.join(directory, "answers"))

    for {name, file, answer} <- rows,
        do: %{name: name, bytes: File.read!(file), answer: answer}
  end

  defp python!(arguments) do
    {text, status} = System.cmd(python(), ["-B" | arguments], stderr_to_stdout: true)
    if status != 0, do: raise("#{hd(arguments)}: #{text}")
  end

  @doc "A Python with what test/support/pki/requirements.txt names."
  @spec python :: Path.t()
  def python do
    {path, 0} = System.cmd(Path.join(@directory, "python"), [])
    String.trim(path)
  end

  @doc "What `Cryptoki.X509.request/1` says of bytes, in the form of an answer; an exception is one too."
  @spec read(binary) :: answer | {:raised, String.t()}
  def read(bytes) do
    case X509.request(bytes) do
      {:ok, request} -> {:accepted, request.subject, request.subject_alt_name}
      {:error, %Error{reason: reason} = error} -> {:refused, [reason], Exception.message(error)}
    end
  rescue
    error -> {:raised, Exception.message(error)}
  end

  @doc "Whether that is the right answer."
  @spec right?(answer, tuple) :: boolean
  def right?({:either, answers}, said), do: Enum.any?(answers, &right?(&1, said))
  def right?({:accepted, _, _} = answer, said), do: answer == said

  def right?({:refused, reasons}, {:refused, [reason], text}),
    do: reason in reasons and String.valid?(text)

  def right?(_answer, _said), do: false
end
