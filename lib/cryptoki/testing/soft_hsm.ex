defmodule Cryptoki.Testing.SoftHSM do
  @moduledoc false
  # Tokens of SoftHSM: PKCS #11 makes them, and cannot remove them. So their directory has to be known,
  # as SoftHSM knows it: by its configuration, whose path is in the environment of C.

  alias Cryptoki.{Error, Token, URI}

  @maker "SoftHSM project"
  @timeout 60_000
  @tries 100

  @typedoc "A token with its directory, and the options of an instance on it."
  @type made :: %{directory: Path.t(), options: keyword}

  @doc "Makes a token; nothing is touched where there is no SoftHSM."
  @spec make(map) :: {:ok, made} | {:error, Error.t()}
  def make(wanted) do
    # Two at once would take the same free slot.
    :global.trans({__MODULE__, self()}, fn -> make_alone(wanted) end, [node()])
  end

  defp make_alone(%{label: label, pin: pin, so_pin: so_pin} = wanted) do
    with {:ok, library} <- library(wanted),
         {:ok, tokens} <- tokens(),
         place = [library: library, timeout: @timeout],
         :ok <- free(label, place),
         :ok <- Token.init(:free, [label: label, so_pin: so_pin] ++ place),
         {:ok, serial} <- serial(label, place),
         {:ok, directory} <- directory(tokens, serial) do
      token = [label: label, serial: serial]
      made = %{directory: directory, options: place ++ [token: token, pin: fn -> pin end]}
      with_pin(made, Token.init_pin(token, [so_pin: so_pin, pin: pin] ++ place))
    end
  end

  defp with_pin(made, :ok), do: {:ok, made}

  defp with_pin(made, error) do
    remove(made)
    error
  end

  @doc "Removes the token's directory."
  @spec remove(made) :: :ok
  def remove(made), do: remove(made.directory, @tries)

  defp remove(_directory, 0), do: :ok

  # A SoftHSM that is asked for its slots meanwhile may write a lock file anew.
  defp remove(directory, tries) do
    with {:error, _reason, _file} <- File.rm_rf(directory), do: remove(directory, tries - 1)
    :ok
  end

  defp library(%{library: library}), do: {:ok, library}
  defp library(_none), do: URI.library(%URI{module_name: "softhsm2"})

  # The library of a vendor has free slots, too, and its tokens stay what they are.
  defp free(label, place) do
    with {:ok, slots} <- Cryptoki.slots(place) do
      tokens = for %{token: %{} = token} <- slots, do: token

      cond do
        tokens == [] or Enum.any?(tokens, &(&1.manufacturer != @maker)) ->
          error(
            :unsupported,
            "#{place[:library]} is not SoftHSM, and only that has tokens to throw away"
          )

        Enum.any?(tokens, &(&1.label == label)) ->
          error(
            :token_ambiguous,
            "there is a token #{inspect(label)} already; softhsm2-util --delete-token --token #{inspect(label)} removes it"
          )

        true ->
          :ok
      end
    end
  end

  defp serial(label, place) do
    with {:ok, slots} <- Cryptoki.slots(place) do
      case for(%{token: %{label: ^label, serial: serial}} <- slots, do: serial) do
        [serial] -> {:ok, serial}
        _none_or_several -> error(:token_absent, "the token was made, and is not there")
      end
    end
  end

  # A token is a directory, named by a UUID of which its serial number is the end.
  defp directory(tokens, serial) do
    # One that is no such number could be the end of any.
    with [_, fourth, fifth] <- Regex.run(~r/\A([0-9a-f]{4})([0-9a-f]{12})\z/, serial),
         {:ok, names} <- File.ls(tokens),
         [name] <- Enum.filter(names, &String.ends_with?(&1, "-#{fourth}-#{fifth}")) do
      {:ok, Path.join(tokens, name)}
    else
      _not_there -> error(:token_absent, "token #{serial} was made, and is not in #{tokens}")
    end
  end

  ## The configuration

  # Where SoftHSM's tokens are; as SoftHSM itself looks for its configuration.
  defp tokens do
    file = variable("SOFTHSM2_CONF")
    if file, do: written(file)
    file = file || own() || "/etc/softhsm/softhsm2.conf"

    with {:ok, text} <- File.read(file),
         [_, path] <- Regex.run(~r/^\s*directories\.tokendir\s*=\s*(\S.*?)\s*$/m, text) do
      {:ok, Path.expand(path)}
    else
      nil -> error(:library_not_loaded, "#{file} names no directories.tokendir")
      {:error, reason} -> error(:library_not_loaded, unreadable(file, reason))
    end
  end

  defp unreadable(file, reason) do
    "SoftHSM's configuration cannot be read (#{file}: #{:file.format_error(reason)}): start the VM with " <>
      "SOFTHSM2_CONF set to a path, at which one is written; System.put_env/2 is too late and does not reach C"
  end

  # The file that somebody has asked for, and has left to us.
  defp written(file) do
    unless File.exists?(file) do
      tokens = Path.expand(file <> ".tokens")
      text = "directories.tokendir = #{tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
      _ = File.mkdir_p(tokens)
      _ = File.write(file, text)
    end
  end

  defp own do
    with home when home != nil <- variable("HOME"),
         file = Path.join(home, ".config/softhsm2/softhsm2.conf"),
         true <- File.exists?(file) do
      file
    else
      _none -> nil
    end
  end

  # The environment of C is what the VM was started with; where there is no /proc, System's is close.
  defp variable(name) do
    case File.read("/proc/self/environ") do
      {:ok, text} -> text |> String.split(<<0>>) |> Enum.find_value(&value(&1, name <> "="))
      {:error, _none} -> System.get_env(name)
    end
  end

  defp value(line, name) do
    if String.starts_with?(line, name), do: String.replace_prefix(line, name, "")
  end

  defp error(reason, detail), do: {:error, Error.new(reason, detail)}
end
