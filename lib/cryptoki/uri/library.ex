defmodule Cryptoki.URI.Library do
  @moduledoc false
  # Finds the library that a URI's `module-path` and `module-name` name: the one part of
  # `Cryptoki.URI` that looks at the file system.

  alias Cryptoki.Error

  @bases ~w(/usr/lib64 /usr/lib /usr/local/lib /opt/homebrew/lib)
  @folders ~w(pkcs11 softhsm opencryptoki .)
  @prefixes ["", "lib"]
  @suffixes [".so", ".dylib", ""]

  @spec find(path :: binary | nil, name :: binary | nil) ::
          {:ok, Path.t()} | {:error, Error.t()}
  def find(nil, nil), do: error("the PKCS #11 URI has neither module-path nor module-name")
  def find(nil, name), do: search(name, directories())

  def find(path, name) do
    cond do
      Path.type(path) != :absolute -> error("module-path is not absolute: #{inspect(path)}")
      not File.dir?(path) -> {:ok, path}
      name == nil -> error("module-path #{inspect(path)} is a directory: give module-name too")
      true -> search(name, [path])
    end
  end

  # Names are compared with what a directory holds: a `/` in one leads nowhere.
  defp search(name, directories) do
    wanted = for pre <- @prefixes, post <- @suffixes, do: pre <> String.downcase(name) <> post

    files =
      for directory <- directories,
          held = held(directory),
          wanted <- wanted,
          {^wanted, file} <- held,
          path = Path.join(directory, file),
          File.regular?(path),
          do: path

    case files do
      [file | _others] -> {:ok, file}
      [] -> error(:library_not_loaded, "no #{inspect(name)} in #{Enum.join(directories, ", ")}")
    end
  end

  defp held(directory) do
    case File.ls(directory) do
      {:ok, files} -> files |> Enum.sort() |> Enum.map(&{String.downcase(&1), &1})
      {:error, _reason} -> []
    end
  end

  defp directories do
    [cpu | _rest] = String.split(to_string(:erlang.system_info(:system_architecture)), "-")
    bases = Path.wildcard("/usr/lib/#{cpu}-linux-*") ++ @bases

    for folder <- @folders,
        base <- bases,
        directory = Path.expand(folder, base),
        File.dir?(directory),
        do: directory
  end

  defp error(reason \\ :invalid_argument, detail), do: {:error, Error.new(reason, detail)}
end
