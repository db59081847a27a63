defmodule Cryptoki.Pin do
  @moduledoc false
  # How a PIN is given, as a value that nothing prints. It holds a function that fetches the PIN:
  # the environment of a function is shown by no inspect, log, crash report or `:sys.get_status`,
  # also where they do not go through `Inspect`. The PIN is fetched at the moment of the login.

  require Logger

  alias Cryptoki.Error

  @enforce_keys [:given, :fetch]
  defstruct [:given, :fetch]

  @typedoc """
  How a PIN may be given.

    * a function without arguments, or `{module, function, arguments}`, that returns the PIN or
      `{:ok, pin}`
    * `{:env, name}`: the environment variable of that name
    * `{:file, path}`: the first line of the file, without its line end
    * `:protected_path`: the token's own keypad (protected authentication path)
    * a string, as binary or charlist, for `iex`
    * `nil`: no login
  """
  @type source ::
          (() -> String.t() | charlist | {:ok, String.t() | charlist})
          | {module, atom, [term]}
          | {:env, String.t()}
          | {:file, Path.t()}
          | :protected_path
          | String.t()
          | charlist
          | nil

  @type fetched :: {:ok, binary | :protected_path | :none} | {:error, Error.t()}

  @type t :: %__MODULE__{given: String.t(), fetch: (() -> fetched)}

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
      :error -> raise ArgumentError, "a PIN must be #{@expected}, got: #{kind_of(source)}"
    end
  end

  @doc "As `wrap/1`, `:error` for anything else."
  @spec cast(term) :: {:ok, t} | :error
  def cast(%__MODULE__{} = pin), do: {:ok, pin}
  def cast(nil), do: new("none", fn -> {:ok, :none} end)
  def cast(:protected_path), do: new("protected path", fn -> {:ok, :protected_path} end)

  def cast(fun) when is_function(fun, 0) do
    name = name(Function.info(fun))
    new(name, fn -> call(fun, name) end)
  end

  def cast({module, function, arguments})
      when is_atom(module) and is_atom(function) and is_list(arguments) do
    name = Exception.format_mfa(module, function, length(arguments))
    new(name, fn -> call(fn -> apply(module, function, arguments) end, name) end)
  end

  def cast({:env, name}), do: by_name(name, "environment variable", ["=", <<0>>], &env/1)
  def cast({:file, path}), do: by_name(path, "file", [<<0>>], &file/1)

  def cast(string) do
    with {:ok, pin} <- text(string), do: new("string", fn -> {:ok, pin} end)
  end

  @doc "The PIN, now. Errors name where it should have come from, never what came."
  @spec fetch(t) :: fetched
  def fetch(%__MODULE__{fetch: fetch}), do: fetch.()

  @doc "The type of a value that must not be shown."
  @spec kind_of(term) :: String.t()
  def kind_of(nil), do: "nil"
  def kind_of(term) when is_atom(term), do: "an atom"
  def kind_of(term) when is_binary(term), do: "a string"
  def kind_of(term) when is_bitstring(term), do: "a bitstring"
  def kind_of(term) when is_number(term), do: "a number"
  def kind_of(term) when is_tuple(term), do: "a tuple of #{tuple_size(term)}"
  def kind_of(term) when is_list(term), do: "a list"
  def kind_of(term) when is_struct(term), do: "a struct"
  def kind_of(term) when is_map(term), do: "a map"
  def kind_of(term) when is_function(term), do: "a function"
  def kind_of(_other), do: "a term of another type"

  defp new(given, fetch), do: {:ok, %__MODULE__{given: given, fetch: fetch}}

  defp by_name(name, what, forbidden, fetch) do
    with {:ok, name} when name != "" <- text(name),
         false <- String.contains?(name, forbidden) do
      new("#{what} #{name}", fn -> fetch.(name) end)
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
      {:ok, pin} -> {:ok, pin}
      :error -> error("#{name} returned #{kind_of(result)}, not a string")
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
