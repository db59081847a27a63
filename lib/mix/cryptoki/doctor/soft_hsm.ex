defmodule Mix.Cryptoki.Doctor.SoftHSM do
  @moduledoc false
  # What SoftHSM is configured by, and where its tokens are: whether this user may read and write it.

  alias Mix.Cryptoki.Doctor
  alias Mix.Cryptoki.Doctor.{Permission, Token}

  @variable "SOFTHSM2_CONF"
  @usual "/etc/softhsm/softhsm2.conf"
  @own "~/.config/softhsm2/softhsm2.conf"

  @doc "What is to be said of the configuration of a library that is SoftHSM; nothing of any other."
  @spec configuration(Path.t()) :: Doctor.found(Path.t())
  def configuration(library) do
    with {:ok, bytes} <- File.read(library), true <- bytes =~ @variable do
      with {:ok, findings} <- bytes |> place() |> read(), do: {:ok, library, findings}
    else
      _another -> {:ok, library, []}
    end
  end

  # As SoftHSM looks for it. What it falls back on is written into the library.
  defp place(bytes) do
    own = Path.expand(@own)

    case System.get_env(@variable, "") do
      "" -> if File.exists?(own), do: own, else: built_in(bytes)
      named -> named
    end
  end

  defp built_in(bytes) do
    case Regex.run(~r"\0(/[\x20-\x7e]+/softhsm2\.conf)\0", bytes) do
      [_, path] -> path
      nil -> @usual
    end
  end

  defp read(path) do
    case File.read(path) do
      {:ok, text} ->
        with {:ok, findings} <- tokens(path, text),
             do: {:ok, [{:ok, "SoftHSM is configured by #{path}", []} | findings]}

      {:error, :eacces} ->
        {:wrong, sentence, hints} =
          Permission.denied("SoftHSM's configuration #{path}", path, "be read")

        {:stop, [{:wrong, sentence, hints ++ of_ones_own()}]}

      {:error, reason} ->
        named = if named?(), do: ", which #{@variable} names", else: ""
        sentence = "SoftHSM's configuration #{path}#{named}: #{:file.format_error(reason)}"
        {:stop, [{:wrong, sentence, of_ones_own()}]}
    end
  end

  defp named?, do: System.get_env(@variable, "") != ""

  defp of_ones_own do
    [
      "mkdir -p ~/.config/softhsm2 ~/.local/share/softhsm2    # a configuration of your own",
      ~s(echo "directories.tokendir = $HOME/.local/share/softhsm2" > #{@own})
    ] ++ if(named?(), do: ["unset #{@variable}"], else: [])
  end

  defp tokens(path, text) do
    case Regex.run(~r/^\s*directories\.tokendir\s*=\s*(.*?)\s*$/m, text) do
      [_, directory] -> directory(directory)
      nil -> {:ok, [{:careful, "#{path} does not say directories.tokendir", of_ones_own()}]}
    end
  end

  # What it cannot read it does not start with; what it cannot write it may not have to.
  defp directory(path) do
    what = "SoftHSM's directory of tokens #{path}"

    case {File.stat(path), File.ls(path)} do
      {{:ok, %{access: :read_write}}, {:ok, files}} ->
        {:ok, closed(path, files)}

      {{:ok, _stat}, {:ok, files}} ->
        {:ok, [Permission.denied(what, path, "be written") | closed(path, files)]}

      {_stat, {:error, :eacces}} ->
        {:stop, [Permission.denied(what, path, "be read")]}

      {_stat, {:error, :enoent}} ->
        {:stop, [{:wrong, "#{what} is not there", ["mkdir -p #{Token.shell(path)}"]}]}

      {_stat, {:error, reason}} ->
        {:stop, [{:wrong, "#{what}: #{:file.format_error(reason)}", []}]}
    end
  end

  # Each token is a directory of its own, of whoever has made it; the first says enough.
  defp closed(path, files) do
    case Enum.find(files, &match?({:error, :eacces}, File.ls(Path.join(path, &1)))) do
      nil ->
        []

      file ->
        path = Path.join(path, file)
        [Permission.denied("the token in #{path}", path, "be read")]
    end
  end
end
