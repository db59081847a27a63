defmodule Cryptoki.Build.Artefact do
  @moduledoc false
  # Looks at a library or a program before it is installed: whether it is whole, for the right machine, has the entry
  # that the VM calls, and is of this version. Nothing of it is run.

  import Bitwise

  # Processor of a triple => ELF's e_machine, Mach-O's cputype.
  @machines %{
    "x86_64" => {62, 0x01000007},
    "aarch64" => {183, 0x0100000C},
    "riscv64gc" => {243, nil},
    "powerpc64le" => {21, nil},
    "s390x" => {22, nil},
    "loongarch64" => {258, nil}
  }

  @type t :: %{name: String.t(), entry: String.t() | nil}

  @doc "`:ok`, or what is wrong with it as the end of a sentence. The target may be unknown."
  @spec look(binary, t, String.t() | nil, String.t()) :: :ok | {:error, String.t()}
  def look(bytes, artefact, target, version) do
    with {:ok, found} <- read(bytes),
         :ok <- machine(found, target),
         :ok <- c_library(found, target),
         :ok <- entry(found, artefact) do
      version(bytes, artefact, version)
    end
  end

  defp read(bytes) do
    case bytes do
      <<0x7F, "ELF", 2, order, _::binary>> when order in [1, 2] -> {:ok, elf(bytes, order)}
      <<0xCF, 0xFA, 0xED, 0xFE, _::binary>> -> {:ok, mach_o(bytes)}
      _ -> {:error, "is neither an ELF nor a Mach-O file of 64 bits"}
    end
  catch
    :cut_short -> {:error, "is cut short"}
  end

  defp machine(_found, nil), do: :ok

  defp machine(found, target) do
    wanted = Map.get(@machines, processor(target))
    format = if target =~ "darwin", do: :mach_o, else: :elf

    cond do
      found.format != format -> {:error, "is for another system than #{target}"}
      wanted && found.machine != number(wanted, format) -> {:error, "#{is_for(found)}#{target}"}
      true -> :ok
    end
  end

  defp is_for(found) do
    name =
      Enum.find_value(@machines, fn {name, numbers} ->
        number(numbers, found.format) == found.machine and name
      end)

    "is for #{name || "another machine (#{found.machine})"}, not for "
  end

  defp number({elf, _}, :elf), do: elf
  defp number({_, mach_o}, :mach_o), do: mach_o

  defp processor(target), do: target |> String.split("-") |> hd()

  # glibc's is libc.so.6; musl's is libc.so, or libc.musl-x86_64.so.1 where Alpine linked it.
  defp c_library(%{format: :elf, needed: needed}, target) when is_binary(target) do
    glibc? = "libc.so.6" in needed
    musl? = Enum.any?(needed, &(&1 == "libc.so" or String.starts_with?(&1, "libc.musl-")))

    cond do
      glibc? and target =~ "musl" ->
        {:error, "is for glibc, and #{target} has musl"}

      musl? and String.ends_with?(target, "-gnu") ->
        {:error, "is for musl, and #{target} has glibc"}

      not glibc? and not musl? and target =~ "linux" ->
        {:error, "is linked to no C library, so it could load no other one"}

      true ->
        :ok
    end
  end

  defp c_library(_found, _target), do: :ok

  defp entry(_found, %{entry: nil}), do: :ok

  defp entry(found, %{entry: entry}) do
    if entry in found.exports, do: :ok, else: {:error, "has no #{entry}, so it is no NIF library"}
  end

  # Its source has these words for this.
  defp version(bytes, %{name: name}, version) do
    case Regex.run(~r/#{name}:version=([\w.+-]{1,64})\0/, bytes, capture: :all_but_first) do
      [^version] -> :ok
      [other] -> {:error, "is of version #{other}, not #{version}"}
      nil -> {:error, "is not #{name} #{version}: it does not name its version"}
    end
  end

  # ELF ---------------------------------------------------------------------------------------

  defp elf(bytes, order) do
    int = reader(bytes, if(order == 1, do: :little, else: :big))
    {table, size, count} = {int.(40, 8), int.(58, 2), int.(60, 2)}
    part(bytes, table, size * count)
    sections = for n <- numbers(count), do: section(int, table + n * size)
    for %{kind: kind} = section when kind != 8 <- sections, do: section_bytes(bytes, section)

    %{
      format: :elf,
      machine: int.(18, 2),
      exports: Enum.flat_map(sections, &exports(&1, sections, bytes, int)),
      needed: Enum.flat_map(sections, &needed(&1, sections, bytes, int))
    }
  end

  defp section(int, at),
    do: %{
      kind: int.(at + 4, 4),
      at: int.(at + 24, 8),
      size: int.(at + 32, 8),
      link: int.(at + 40, 4)
    }

  # SHT_DYNSYM: the names of symbols that are defined here.
  defp exports(%{kind: 11} = section, sections, bytes, int) do
    names = linked(section, sections, bytes)

    for n <- numbers(div(section.size, 24)),
        at = section.at + n * 24,
        int.(at + 6, 2) != 0,
        do: string(names, int.(at, 4))
  end

  defp exports(_section, _sections, _bytes, _int), do: []

  # SHT_DYNAMIC: DT_NEEDED, the libraries that it wants.
  defp needed(%{kind: 6} = section, sections, bytes, int) do
    names = linked(section, sections, bytes)

    for n <- numbers(div(section.size, 16)),
        at = section.at + n * 16,
        int.(at, 8) == 1,
        do: string(names, int.(at + 8, 8))
  end

  defp needed(_section, _sections, _bytes, _int), do: []

  defp linked(section, sections, bytes) do
    case Enum.fetch(sections, section.link) do
      {:ok, %{kind: 3} = strings} -> section_bytes(bytes, strings)
      _ -> throw(:cut_short)
    end
  end

  defp section_bytes(bytes, %{at: at, size: size}), do: part(bytes, at, size)

  # Mach-O ------------------------------------------------------------------------------------

  defp mach_o(bytes) do
    int = reader(bytes, :little)
    commands = commands(int, 32, int.(16, 4))
    # LC_SEGMENT_64 and LC_SYMTAB.
    for {0x19, at} <- commands, do: part(bytes, int.(at + 40, 8), int.(at + 48, 8))
    exports = for {2, at} <- commands, name <- symbols(bytes, int, at), do: name
    %{format: :mach_o, machine: int.(4, 4), exports: exports, needed: []}
  end

  defp commands(_int, _at, 0), do: []

  defp commands(int, at, count) do
    # A command that has no room for its own head ends the list.
    if int.(at + 4, 4) < 8, do: throw(:cut_short)
    [{int.(at, 4), at} | commands(int, at + int.(at + 4, 4), count - 1)]
  end

  # Those that are external and defined in a section.
  defp symbols(bytes, int, at) do
    names = part(bytes, int.(at + 16, 4), int.(at + 20, 4))
    table = int.(at + 8, 4)

    for n <- numbers(int.(at + 12, 4)),
        entry = table + n * 16,
        (int.(entry + 4, 1) &&& 0x0F) == 0x0F,
        do: names |> string(int.(entry, 4)) |> String.trim_leading("_")
  end

  # Bytes -------------------------------------------------------------------------------------

  defp reader(bytes, order),
    do: fn at, size -> bytes |> part(at, size) |> :binary.decode_unsigned(order) end

  defp part(bytes, at, size) do
    if at + size > byte_size(bytes), do: throw(:cut_short)
    binary_part(bytes, at, size)
  end

  defp string(names, at) do
    rest = part(names, at, max(byte_size(names) - at, 0))
    rest |> :binary.split(<<0>>) |> hd()
  end

  defp numbers(0), do: []
  defp numbers(count), do: 0..(count - 1)
end
