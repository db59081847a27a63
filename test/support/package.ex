defmodule Cryptoki.Test.Package do
  @moduledoc false
  # The package of the work tree as it is now, by the script of bin/release.

  @doc "Copies the files of the work tree into a new folder, with these checksums.txt, and makes the package beside it."
  @spec make(Path.t(), String.t()) :: Path.t()
  def make(clone, checksums) do
    {text, 0} = System.cmd("git", ~w(ls-files -z -co --exclude-standard))

    for file <- String.split(text, "\0", trim: true), File.regular?(file) do
      target = Path.join(clone, file)
      File.mkdir_p!(Path.dirname(target))
      File.cp!(file, target)
    end

    File.write!(Path.join(clone, "checksums.txt"), checksums)
    again(clone)
  end

  @doc "Makes the package of such a folder once more."
  @spec again(Path.t()) :: Path.t()
  def again(clone) do
    out = clone <> ".package"
    File.mkdir_p!(out)
    command = ["run", "--no-compile", "--no-start", "bin/support/package.exs", out]
    environment = [{"MIX_ENV", "prod"}, {"MIX_BUILD_PATH", nil}]
    {path, 0} = System.cmd("mix", command, cd: clone, env: environment)
    String.trim(path)
  end

  @doc "Unpacks a package into a folder, as Hex and rebar3 do."
  @spec unpack(Path.t(), Path.t()) :: Path.t()
  def unpack(tarball, folder) do
    File.mkdir_p!(folder)
    script = ~S(tar -xOf "$1" contents.tar.gz | tar -xz -C "$2")
    {"", 0} = System.cmd("sh", ["-c", script, "sh", tarball, folder])
    folder
  end
end
