# Writes lib/cryptoki/standard/names/constants.txt, the names and numbers of PKCS #11, from the crate
# cryptoki-sys.
#
#     elixir build/generate_constants.exs [--check] [path/to/Cargo.toml]
#
# The manifest defaults to the project's own. With --check nothing is written: the exit status is
# 1 when the file on disk is not what would be written.

defmodule GenerateConstants do
  @root Path.expand("..", __DIR__)
  @target Path.join(@root, "lib/cryptoki/standard/names/constants.txt")

  # The bindings differ between platforms in struct layout only, never in a constant.
  @bindings "src/bindings/x86_64-unknown-linux-gnu.rs"

  # Families whose constants carry more than one word before their name come first.
  @families ~w[CK_CERTIFICATE_CATEGORY CK_SECURITY_DOMAIN CK_SP800_108 CK_OTP] ++
              ~w[CKA CKC CKD CKF CKG CKH CKK CKM CKN CKO CKP CKR CKS CKT CKU CKV CKZ]

  def main(arguments) do
    {options, paths} = OptionParser.parse!(arguments, strict: [check: :boolean])
    manifest = List.first(paths) || Path.join(@root, "Cargo.toml")
    text = manifest |> crate() |> render()

    cond do
      options[:check] && File.read(@target) == {:ok, text} ->
        :ok

      options[:check] ->
        fail("#{Path.relative_to_cwd(@target)} differs from cryptoki-sys: run me")

      true ->
        File.write!(@target, text)
    end
  end

  # The crate's folder as cargo resolves it, so that the version is the one the project is locked
  # to.
  defp crate(manifest) do
    metadata = metadata(manifest, ["--locked"]) || metadata(manifest, [])

    case Regex.run(~r{"manifest_path":"([^"]*/cryptoki-sys[^"/]*)/Cargo\.toml"}, metadata || "") do
      [_, folder] -> folder
      nil -> fail("cargo metadata finds no cryptoki-sys for #{manifest}")
    end
  end

  defp metadata(manifest, options) do
    arguments = ~w[metadata --format-version 1 --manifest-path] ++ [manifest | options]

    case System.cmd("cargo", arguments, stderr_to_stdout: true) do
      {output, 0} -> output
      {_, _} -> nil
    end
  end

  defp render(crate) do
    lines =
      for [_, name, number] <- Regex.scan(~r/^pub const (CK\w+): \w+ = (\d+);/m, source(crate)),
          family = Enum.find(@families, &String.starts_with?(name, &1 <> "_")),
          do: [family, " ", String.replace_prefix(name, family <> "_", ""), " ", number, "\n"]

    IO.iodata_to_binary([
      "# #{Path.basename(crate)}; written by build/generate_constants.exs, do not edit\n",
      Enum.sort_by(lines, &IO.iodata_to_binary/1)
    ])
  end

  defp source(crate), do: crate |> Path.join(@bindings) |> File.read!()

  defp fail(sentence) do
    IO.puts(:stderr, sentence)
    System.halt(1)
  end
end

GenerateConstants.main(System.argv())
