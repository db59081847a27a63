defmodule Cryptoki.ReleaseTest do
  use ExUnit.Case, async: true

  @moduletag timeout: 1_800_000

  # What bin/release makes but for the libraries, which take minutes: the package, which rebar3's own reader of Hex's
  # format takes apart, and the list of crates.

  alias Cryptoki.Test.{Package, Scratch}

  setup_all do
    directory = Scratch.directory("release")
    on_exit(fn -> File.rm_rf!(directory) end)
    %{directory: directory}
  end

  test "the package is the same from wherever it is made", %{directory: directory} do
    one = Package.make(Path.join(directory, "one"), "checksums")
    clone = Path.join(directory, "another/place")
    two = Package.make(clone, "checksums")
    assert File.read!(one) == File.read!(two)

    # Nor does it matter when, and who may write there.
    File.touch!(Path.join(clone, "mix.exs"), {{2001, 1, 1}, {0, 0, 0}})
    File.chmod!(Path.join(clone, "mix.exs"), 0o664)
    assert File.read!(Package.again(clone)) == File.read!(one)
    # But its content does, and whether it is a program.
    File.chmod!(Path.join(clone, "mix.exs"), 0o755)
    refute File.read!(Package.again(clone)) == File.read!(one)
  end

  test "the package is what Hex publishes", %{directory: directory} do
    tarball = File.read!(Package.make(Path.join(directory, "hex"), "checksums"))
    unpacked = hex_tarball(directory, tarball)
    metadata = unpacked.metadata

    assert %{
             "name" => "cryptoki",
             "app" => "cryptoki",
             "version" => version,
             "licenses" => ["MIT", "Apache-2.0"],
             "build_tools" => ["mix", "rebar3"],
             "elixir" => "~> 1.14"
           } = metadata

    assert version == Mix.Project.config()[:version]
    contents = Map.new(unpacked.contents, fn {name, bytes} -> {to_string(name), bytes} end)
    assert Enum.sort(Map.keys(contents)) == Enum.sort(metadata["files"])
    assert contents["checksums.txt"] == "checksums"

    for file <-
          ~w(mix.exs src/cryptoki.erl .cargo/config.toml Cargo.lock build/cryptoki_native.ex native/cryptoki_nif/src/lib.rs),
        do: assert(contents[file] == File.read!(file), file)

    refute Enum.any?(Map.keys(contents), &(&1 =~ ~r{^(_build|test|bin|deps)/|\.so$}))
    # Another byte is another package.
    <<head::binary-size(3000), byte, rest::binary>> = tarball
    assert {:error, _} = hex_unpack(<<head::binary, Bitwise.bxor(byte, 1), rest::binary>>)
  end

  test "GNU's tar lists it, and the hook of rebar3 stays a program", %{directory: directory} do
    tarball = Package.make(Path.join(directory, "tar"), "checksums")

    script = "tar -xOf #{tarball} contents.tar.gz | tar -tzvf - --full-time --numeric-owner"
    assert {text, 0} = System.cmd("sh", ["-c", script], env: [{"TZ", "UTC"}])
    assert text =~ ~r{^-rwxr-xr-x 0/0 +\d+ 1970-01-01 00:00:00 build/rebar_native.sh$}m
    assert text =~ ~r{^-rw-r--r-- 0/0 +\d+ 1970-01-01 00:00:00 mix.exs$}m
  end

  test "the list of crates has those that are linked, with licence and checksum" do
    script =
      "cargo metadata --quiet --locked --offline --format-version 1 | python3 bin/support/sbom.py cryptoki_nif 2026-01-01T00:00:00Z"

    assert {text, 0} = System.cmd("sh", ["-c", script])
    assert {^text, 0} = System.cmd("sh", ["-c", script])
    {:ok, bom} = Cryptoki.JSON.decode(text)
    assert %{"bomFormat" => "CycloneDX", "specVersion" => "1.5"} = bom
    components = Map.new(bom["components"], &{&1["name"], &1})
    lock = File.read!("Cargo.lock")

    for name <- ~w(rustler cryptoki cryptoki-sys libc serde) do
      [_, checksum] = Regex.run(~r/name = "#{name}"\n.*\n.*\nchecksum = "(.*)"/, lock)
      assert [%{"alg" => "SHA-256", "content" => ^checksum}] = components[name]["hashes"]
      assert [%{"expression" => _}] = components[name]["licenses"]
    end

    assert components["cryptoki_ffi"]

    # The model checker of the tests is in none of it, and what runs in the compiler is not linked.
    refute components["loom"]
    for name <- ~w(syn quote proc-macro2 unicode-ident heck), do: refute(components[name], name)
    refute Enum.any?(Map.keys(components), &(&1 =~ ~r/(codegen|_derive|-impl)$/))
    assert Enum.all?(bom["dependencies"], &Map.has_key?(&1, "dependsOn"))
  end

  # rebar3 has it in its archive, under a name of its own.
  defp hex_tarball(directory, tarball) do
    {:ok, [_, _, _, {:archive, archive}]} =
      "rebar3" |> System.find_executable() |> to_charlist() |> :escript.extract([])

    place = to_charlist(Path.join(directory, "rebar3"))
    hex? = fn {:zip_file, name, _, _, _, _} -> to_string(name) =~ ~r/r3_(hex|safe)\w*\.beam$/ end
    {:ok, files} = :zip.unzip(archive, cwd: place, file_filter: hex?)
    for folder <- files |> Enum.map(&Path.dirname/1) |> Enum.uniq(), do: Code.append_path(folder)
    {:ok, unpacked} = hex_unpack(tarball)
    unpacked
  end

  defp hex_unpack(tarball), do: apply(:r3_hex_tarball, :unpack, [tarball, :memory])
end
