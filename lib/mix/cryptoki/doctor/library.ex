defmodule Mix.Cryptoki.Doctor.Library do
  @moduledoc false
  # Whether a file is a library that this VM can load, and what became of loading it.

  alias Cryptoki.{Error, URI}
  alias Mix.Cryptoki.Doctor
  alias Mix.Cryptoki.Doctor.{Permission, Token}

  # What people have most often, by the names of their files.
  @known ~w[softhsm2 opensc-pkcs11 ykcs11 tpm2_pkcs11 opencryptoki cloudhsm_pkcs11 p11-kit-client]

  @machines %{
    3 => "i386",
    21 => "ppc64",
    22 => "s390x",
    40 => "arm",
    62 => "x86_64",
    183 => "aarch64",
    243 => "riscv"
  }

  @doc "The file of the library: the one that is named, else that of `CRYPTOKI_LIBRARY`."
  @spec file(Path.t() | nil) :: Doctor.found(Path.t())
  def file(named) do
    case named || System.get_env("CRYPTOKI_LIBRARY", "") do
      "" -> {:stop, [unknown("no PKCS #11 library is named")]}
      path -> look(path)
    end
  end

  @doc "Nobody knows which library is meant."
  @spec unknown(String.t()) :: Doctor.finding()
  def unknown(sentence) do
    case found() do
      [] ->
        {:wrong, sentence,
         [
           "apt-get install softhsm2    # a token in software, or the vendor's package",
           "export CRYPTOKI_LIBRARY=/path/of/the/library.so"
         ]}

      paths ->
        {:wrong, sentence, Enum.map(paths, &"export CRYPTOKI_LIBRARY=#{Token.shell(&1)}")}
    end
  end

  defp found do
    for name <- @known, {:ok, path} <- [URI.library(URI.new(module_name: name))], do: path
  end

  # As many bytes as the headers of a library are in.
  @head 4096

  defp look(path) do
    with {:ok, %{type: :regular, size: size}} <- File.stat(path),
         {:ok, head} <- head(path) do
      case wrong(head, own()) || cut(head, size) do
        nil -> {:ok, path, []}
        sentence -> {:stop, [unknown("#{path} #{sentence}")]}
      end
    else
      {:ok, %{type: :directory}} -> {:stop, [unknown("#{path} is a directory, and no library")]}
      {:ok, _device} -> {:stop, [unknown("#{path} is no file")]}
      :eof -> {:stop, [unknown("#{path} is empty")]}
      {:error, :eacces} -> {:stop, [Permission.denied("the library #{path}", path, "be read")]}
      {:error, :enoent} -> {:stop, [unknown("there is no file #{path}")]}
      {:error, reason} -> {:stop, [unknown("#{path}: #{:file.format_error(reason)}")]}
    end
  end

  defp head(path) do
    with {:ok, head} <- File.open(path, [:read, :raw, :binary], &:file.read(&1, @head)), do: head
  end

  # Where half of a file is mapped, the loader touches the missing half, and the VM ends with a SIGBUS.
  defp cut(
         <<0x7F, "ELF", 2, 1, _::binary-size(26), at::little-64, _::binary-size(14),
           each::little-16, count::little-16, _::binary>> = head,
         size
       )
       when each >= 56 do
    ends =
      for number <- 0..(count - 1)//1,
          from = at + number * each,
          from + each <= byte_size(head),
          <<_type_and_flags::64, offset::little-64, _addresses::128, filled::little-64,
            _::binary>> = binary_part(head, from, each),
          do: offset + filled

    if Enum.max([0 | ends]) > size,
      do: "is cut off: it has #{size} bytes of #{Enum.max(ends)} or more"
  end

  defp cut(_other, _size), do: nil

  # What this VM runs on has loaded its own program.
  defp own do
    with {:ok, head} <- head("/proc/self/exe"),
         %{} = elf <- elf(head),
         do: elf,
         else: (_no_linux -> nil)
  end

  defp wrong(_head, nil), do: nil

  defp wrong(head, own) do
    case elf(head) do
      nil ->
        "is no shared library: #{kind(head)}"

      %{bits: bits} when bits != own.bits ->
        "is a library of #{bits} bits, and this VM has #{own.bits}"

      %{machine: machine} when machine != own.machine ->
        "is for #{machine(machine)}, and this VM runs on #{machine(own.machine)}"

      %{type: type} when type != 3 ->
        "is an ELF file, and no shared library"

      _same ->
        nil
    end
  end

  # The header of System V's ABI, chapter 4.
  defp elf(
         <<0x7F, "ELF", class, 1, _ident::binary-size(10), type::little-16, machine::little-16,
           _::binary>>
       ),
       do: %{bits: class * 32, type: type, machine: machine}

  defp elf(<<0x7F, "ELF", class, 2, _ident::binary-size(10), type::16, machine::16, _::binary>>),
    do: %{bits: class * 32, type: type, machine: machine}

  defp elf(_other), do: nil

  defp kind("!<arch>" <> _rest), do: "it is an archive for a linker (.a)"
  defp kind("/* GNU ld script" <> _rest), do: "it is a script for a linker"

  defp kind("version https://git-lfs" <> _rest),
    do: "it is a pointer of Git LFS, the file itself was not fetched"

  defp kind(<<magic::32, _rest::binary>>) when magic in [0xCFFAEDFE, 0xCAFEBABE],
    do: "it is one of macOS"

  defp kind("MZ" <> _rest), do: "it is one of Windows"

  defp kind(head) do
    if String.printable?(binary_part(head, 0, min(byte_size(head), 16))),
      do: "it is text",
      else: "it is no ELF file"
  end

  defp machine(number), do: @machines[number] || "machine #{number} of ELF"

  ## What became of it

  @doc "It was loaded, is initialised, and has slots."
  @spec answers(keyword, [map]) :: Doctor.finding()
  def answers(library, slots) do
    tokens = Enum.count(slots, &is_map(&1.token))
    path = library[:library]

    {:ok, "#{path} is a PKCS #11 library with #{count(slots)}, #{tokens} of them with a token",
     []}
  end

  defp count([_one]), do: "1 slot"
  defp count(slots), do: "#{length(slots)} slots"

  @doc "It has not one slot."
  @spec without_slots(Path.t()) :: Doctor.finding()
  def without_slots(path) do
    {:wrong, "#{path} works, and sees no reader and no token",
     [
       "systemctl status pcscd    # for smart cards: it has to run, and see the reader",
       "# for an HSM in the network: see the library's own configuration, and its client"
     ]}
  end

  @doc "It could not be loaded or initialised."
  @spec refused(Path.t(), Error.t()) :: Doctor.finding()
  def refused(path, %Error{} = error) do
    sentence = error.detail || Exception.message(error)

    cond do
      sentence =~ "no PKCS #11 module" or sentence =~ "function list" ->
        unknown(sentence)

      sentence =~ "cannot open shared object" ->
        {:wrong, sentence, ["ldd #{Token.shell(path)}    # shows what is not found"]}

      true ->
        {:wrong, sentence, []}
    end
  end
end
