# Writes the package of a project, a tarball as Hex publishes it, in a folder:
#
#     mix run --no-compile --no-start bin/support/package.exs FOLDER
#
# It has VERSION, CHECKSUM, metadata.config and contents.tar.gz (hexpm/specifications, package_tarball.md). The same
# files give the same bytes, whoever makes it and when: sorted, no times, no owners, and one of two modes.

defmodule Cryptoki.Package do
  @moduledoc false

  @doc "Writes the package of the project in the current directory; its path."
  def write(folder) do
    config = Mix.Project.config()
    files = files(config[:package][:files])
    contents = files |> Enum.map(&{&1, mode(&1), File.read!(&1)}) |> tar() |> :zlib.gzip()
    metadata = metadata(config, files)

    checksum = :sha256 |> :crypto.hash(["3", metadata, contents]) |> Base.encode16()

    parts = [
      {"VERSION", 0o644, "3"},
      {"CHECKSUM", 0o644, checksum},
      {"metadata.config", 0o644, metadata},
      {"contents.tar.gz", 0o644, contents}
    ]

    path = Path.join(folder, "#{config[:app]}-#{config[:version]}.tar")
    File.write!(path, tar(parts))
    path
  end

  defp files(names) do
    for name <- names,
        found = [name | Path.wildcard(name <> "/**", match_dot: true)],
        file <- found,
        File.regular?(file),
        reduce: [] do
      files -> [file | files]
    end
    |> Enum.sort()
    |> Enum.uniq()
  end

  # Whether it is a program is all that is kept of it.
  defp mode(file), do: if(Bitwise.band(File.stat!(file).mode, 0o100) == 0, do: 0o644, else: 0o755)

  defp metadata(config, files) do
    package = config[:package]

    terms = [
      {"name", to_string(config[:app])},
      {"version", config[:version]},
      {"app", to_string(config[:app])},
      {"description", config[:description]},
      {"elixir", config[:elixir]},
      {"licenses", package[:licenses]},
      {"links", Enum.sort(package[:links] || %{})},
      {"build_tools", ["mix", "rebar3"]},
      {"requirements", []},
      {"files", files}
    ]

    IO.iodata_to_binary(for term <- terms, do: :io_lib.format(~c"~tp.~n", [term]))
  end

  # ustar, of POSIX.1.
  defp tar(entries) do
    parts =
      for {name, mode, bytes} <- entries,
          do: [header(name, mode, byte_size(bytes)), padded(bytes)]

    IO.iodata_to_binary([parts, <<0::size(8192)>>])
  end

  defp header(name, mode, size) do
    {prefix, name} = split(name)

    head = fn sum ->
      [
        [
          field(name, 100),
          octal(mode, 7),
          octal(0, 7),
          octal(0, 7),
          octal(size, 11),
          octal(0, 11)
        ],
        [sum, "0", field("", 100), "ustar", 0, "00", field("", 64), octal(0, 7), octal(0, 7)],
        [field(prefix, 155), field("", 12)]
      ]
    end

    sum = head.("        ") |> IO.iodata_to_binary() |> :binary.bin_to_list() |> Enum.sum()
    head.([octal(sum, 6), " "])
  end

  # A name has 100 bytes, and what stands before a slash 155 more.
  defp split(name) when byte_size(name) <= 100, do: {"", name}

  defp split(name) do
    {at, 1} =
      name |> :binary.matches("/") |> Enum.find(fn {at, 1} -> byte_size(name) - at - 1 <= 100 end)

    true = at <= 155
    {binary_part(name, 0, at), binary_part(name, at + 1, byte_size(name) - at - 1)}
  end

  defp field(text, size), do: [text, :binary.copy(<<0>>, size - byte_size(text))]

  defp octal(number, digits),
    do: [number |> Integer.to_string(8) |> String.pad_leading(digits, "0"), 0]

  defp padded(bytes), do: [bytes, :binary.copy(<<0>>, Integer.mod(-byte_size(bytes), 512))]
end

with [folder] <- System.argv(), do: folder |> Cryptoki.Package.write() |> IO.puts()
