defmodule Cryptoki.Pin do
  @moduledoc false
  # How a PIN is given, as a value that nothing prints: the user's function, whose environment is shown by
  # no inspect, log, crash report or `:sys.get_status`, or what is sealed (`Cryptoki.Sealed`). It may live
  # longer than the code that made it: no function of ours is in it. The PIN is fetched at the moment of
  # the login.

  require Logger

  alias Cryptoki.{Error, Sealed, Type}

  @enforce_keys [:given, :source]
  defstruct [:given, :source]

  @type source :: Cryptoki.pin()
  @type fetched :: {:ok, binary | :protected_path | :none} | {:error, Error.t()}

  @type t :: %__MODULE__{given: String.t(), source: (() -> term) | (sealed :: binary)}

  @expected "a function without arguments, {module, function, arguments}, {:env, name}, " <>
              "{:file, path}, :protected_path or a string"

  @doc "What a PIN must be given as, for messages."
  @spec expected() :: String.t()
  def expected, do: @expected

  @doc "Wraps what the user gave; `ArgumentError` tells its type only."
  @spec wrap(source | t) :: t
  def wrap(source) do
    case cast(source) do
      {:ok, pin} -> pin
      :error -> raise ArgumentError, "a PIN must be #{@expected}, got: #{Type.of(source)}"
    end
  end

  @doc "As `wrap/1`, `:error` for anything else."
  @spec cast(term) :: {:ok, t} | :error
  def cast(%__MODULE__{} = pin), do: {:ok, pin}
  def cast(nil), do: new("none", :none)
  def cast(:protected_path), do: new("protected path", :protected_path)
  def cast(fun) when is_function(fun, 0), do: new(name(Function.info(fun)), fun)

  def cast({module, function, arguments} = source)
      when is_atom(module) and is_atom(function) and is_list(arguments),
      do: new(Exception.format_mfa(module, function, length(arguments)), source)

  def cast({:env, name}), do: by_name(:env, name, "environment variable", ["=", <<0>>])
  def cast({:file, path}), do: by_name(:file, path, "file", [<<0>>])
  def cast(string), do: with({:ok, pin} <- text(string), do: new("string", pin))

  @doc "Whether there is a PIN to be fetched, or typed at the token."
  @spec given?(t) :: boolean
  def given?(%__MODULE__{} = pin), do: source(pin) != :none

  @doc "The PIN, now. Errors name where it should have come from, never what came."
  @spec fetch(t) :: fetched
  def fetch(%__MODULE__{given: given} = pin) do
    case source(pin) do
      source when source in [:none, :protected_path] -> {:ok, source}
      fun when is_function(fun) -> call(fun, given)
      {module, function, arguments} -> call(fn -> apply(module, function, arguments) end, given)
      {:env, name} -> env(name)
      {:file, path} -> file(path)
      string -> {:ok, string}
    end
  end

  @doc "Runs what has a PIN in its hands: no trace of the calling process shows its arguments."
  @spec hidden((() -> result)) :: result when result: term
  def hidden(job) do
    before = Process.flag(:sensitive, true)

    try do
      job.()
    after
      Process.flag(:sensitive, before)
    end
  end

  @doc "Runs the same where it may raise: what was raised, or where, could show the PIN."
  @spec quietly(String.t(), (() -> result)) :: result | {:error, Error.t()} when result: term
  def quietly(failure, job) do
    job.()
  catch
    _kind, _reason -> {:error, Error.new(:panic, failure)}
  end

  defp new(given, source) do
    source = if is_function(source), do: source, else: Sealed.seal(source)
    {:ok, %__MODULE__{given: given, source: source}}
  end

  defp source(%__MODULE__{source: fun}) when is_function(fun), do: fun
  defp source(%__MODULE__{source: sealed}), do: Sealed.open(sealed)

  defp by_name(kind, name, what, forbidden) do
    with {:ok, name} when name != "" <- text(name),
         false <- String.contains?(name, forbidden) do
      new("#{what} #{name}", {kind, name})
    else
      _wrong -> :error
    end
  end

  defp name(info) do
    case info[:type] do
      :external -> Exception.format_mfa(info[:module], info[:name], 0)
      :local -> "a function of #{inspect(info[:module])}"
    end
  end

  defp call(fun, name) do
    result = fun.()

    case text(with {:ok, pin} <- result, do: pin) do
      # As a variable or a file that is empty.
      {:ok, ""} -> error("#{name} returned an empty string")
      {:ok, pin} -> {:ok, pin}
      :error -> error("#{name} returned #{Type.of(result)}, not a string")
    end
  rescue
    exception -> error("#{name} raised #{inspect(exception.__struct__)}")
  catch
    :throw, _value -> error("#{name} threw a value")
    :exit, _reason -> error("#{name} exited")
  end

  # An empty variable or line is a mistake of the installation: not worth one of the few tries.
  defp env(name) do
    case System.get_env(name) do
      nil -> error("the environment variable #{name} is not set")
      "" -> error("the environment variable #{name} is empty")
      pin -> {:ok, pin}
    end
  end

  defp file(path) do
    with {:ok, content} <- File.read(path),
         [line | _rest] when line != "" <- String.split(content, ["\r\n", "\n"], parts: 2) do
      warn_of_readers(path)
      {:ok, line}
    else
      {:error, reason} -> error("#{path}: #{:file.format_error(reason)}")
      _empty -> error("the first line of #{path} is empty")
    end
  end

  # A group is a choice of whoever runs the system, everybody is a mistake.
  defp warn_of_readers(path) do
    with {:ok, %File.Stat{mode: mode}} when Bitwise.band(mode, 0o004) != 0 <- File.stat(path) do
      Logger.warning(
        "cryptoki: every user of this machine can read the PIN in #{path}: chmod o= it"
      )
    end
  end

  # Whatever goes wrong in here holds the PIN, so nothing of it may get out.
  defp text(string) when is_binary(string), do: {:ok, string}

  defp text([_ | _] = charlist) do
    {:ok, List.to_string(charlist)}
  rescue
    _holds_the_pin -> :error
  end

  defp text(_other), do: :error

  defp error(why), do: {:error, Error.new(:pin_unavailable, why)}

  defimpl Inspect do
    def inspect(pin, _opts), do: "#Cryptoki.Pin<#{pin.given}>"
  end
end
