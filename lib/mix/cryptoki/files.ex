defmodule Mix.Cryptoki.Files do
  @moduledoc false
  # What comes in and goes out: files, or standard input and output; and that the work goes on.

  alias Cryptoki.Prompt
  alias Mix.Cryptoki.{Part, StandardInput}

  # As long as this it is given to the token at once, which some mechanisms insist on.
  @at_once 1_048_576
  @chunk 65_536

  @type count :: :counters.counters_ref()

  @doc "What is to be worked on: the file of `--in`, else standard input. `count` gets its bytes."
  @spec input(keyword, count) :: binary | {:stream, Enumerable.t()}
  def input(options, count), do: options |> device() |> data(options, count)

  @doc "The same behind the bytes that stand before it: fewer than asked for, when there are no more."
  @spec input(keyword, count, non_neg_integer) :: {binary, binary | {:stream, Enumerable.t()}}
  def input(options, count, 0), do: {"", input(options, count)}

  def input(options, count, size) do
    device = device(options)

    case read!(device, size, options) do
      "" -> {"", ""}
      first -> {first, data(device, options, count)}
    end
  end

  defp data(device, options, count) do
    case read!(device, @at_once, options) do
      bytes when byte_size(bytes) < @at_once -> bytes
      bytes -> {:stream, Stream.concat([bytes], IO.binstream(device, @chunk)) |> counted(count)}
    end
  end

  defp counted(chunks, count),
    do: Stream.each(chunks, &:counters.add(count, 1, byte_size(&1)))

  @doc "The same as a whole, for what is short."
  @spec whole(keyword) :: binary
  def whole(options), do: options |> device() |> read!(:eof, options)

  defp read!(device, count, options) do
    case IO.binread(device, count) do
      bytes when is_binary(bytes) -> bytes
      :eof -> ""
      {:error, reason} -> unreadable!(options[:in] || "standard input", reason)
    end
  end

  defp device(options) do
    if path = options[:in],
      do: file!(path, File.open(path, [:read, :binary])),
      else: StandardInput.device()
  end

  @doc "A whole file."
  @spec read!(Path.t()) :: binary
  def read!(path), do: file!(path, File.read(path))

  defp file!(_path, {:ok, opened_or_read}), do: opened_or_read
  defp file!(path, {:error, reason}), do: unreadable!(path, reason)

  @spec unreadable!(String.t(), term) :: no_return
  defp unreadable!(path, reason), do: Mix.Cryptoki.refuse!("#{path}: #{sentence(reason)}")

  @doc "Writes the result into the file of `--out`, else to standard output, as it is."
  @spec output(iodata, keyword) :: :ok
  def output(bytes, options), do: write(options[:out], bytes)

  @doc "Writes text for a person or a program to standard output; that it could not is said, as of bytes."
  @spec text(iodata) :: :ok
  def text(text), do: write(nil, text)

  defp write(nil, bytes) do
    size = IO.iodata_length(bytes)
    if size > 0 and put(bytes, size) != :ok, do: unwritable!("standard output", :closed)
    :ok
  end

  defp write(path, bytes) do
    with {:error, reason} <- File.write(path, bytes), do: unwritable!(path, reason)
  end

  # The VM writes to its standard output when it likes, and tells nobody that a disk is full; `head`, which
  # writes to the same one, ends with an error.
  @head ~S(exec head -c "$1" <&3 2>/dev/null)

  defp put(bytes, size) do
    trapping = Process.flag(:trap_exit, true)
    sh = System.find_executable("sh")
    arguments = ["-c", @head, "head", Integer.to_string(size)]
    port = Port.open({:spawn_executable, sh}, [:exit_status, :nouse_stdio, args: arguments])

    try do
      Port.command(port, bytes)

      receive do
        {^port, {:exit_status, status}} -> ended(port, status)
        # It reads no more.
        {:EXIT, ^port, _reason} -> :error
      end
    after
      Process.flag(:trap_exit, trapping)
    end
  end

  defp ended(port, status) do
    receive do
      {:EXIT, ^port, _reason} -> if status == 0, do: :ok, else: :error
    end
  end

  @doc "Writes what comes piece by piece; a file is there when all of it is, and not before."
  @spec output_stream(Enumerable.t(), keyword) :: :ok
  def output_stream(chunks, options) do
    case options[:out] do
      nil ->
        chunks
        |> Stream.chunk_while({[], 0}, &gather/2, &gathered/1)
        |> Enum.each(&write(nil, &1))

      path ->
        if device?(path), do: through(path, chunks), else: into_file(path, chunks)
    end
  end

  defp gather(chunk, {chunks, size}) do
    size = size + byte_size(chunk)

    if size < @at_once,
      do: {:cont, {[chunks, chunk], size}},
      else: {:cont, [chunks, chunk], {[], 0}}
  end

  defp gathered({chunks, _size}), do: {:cont, chunks, {[], 0}}

  # What would have its place taken by a file: /dev/stdout, a FIFO.
  defp device?(path),
    do: match?({:ok, %{type: type}} when type in [:device, :other], File.stat(path))

  defp through(path, chunks) do
    case :file.open(path, [:write, :raw]) do
      {:ok, device} ->
        Enum.each(chunks, &put!(fn chunk -> :file.write(device, chunk) end, &1, path))

      {:error, reason} ->
        unwritable!(path, reason)
    end
  end

  defp put!(put, chunk, path),
    do: with({:error, reason} <- put.(chunk), do: unwritable!(path, reason))

  defp into_file(path, chunks) do
    written = Part.write(path, fn put -> Enum.each(chunks, &put!(put, &1, path)) end)

    with {:error, {path, reason}} <- written, do: unwritable!(path, reason)
  end

  @spec unwritable!(String.t(), term) :: no_return
  defp unwritable!(path, reason),
    do: Mix.Cryptoki.refuse!("#{path} cannot be written: #{sentence(reason)}")

  defp sentence(:closed), do: "it is closed, or its disk is full"
  defp sentence(reason), do: to_string(:file.format_error(reason))

  ## Progress

  @doc "Says on a terminal, after a second, that the work goes on; `fun` may count bytes."
  @spec progress(String.t(), (count -> result)) :: result when result: term
  def progress(what, fun) do
    count = :counters.new(1, [])
    teller = if Prompt.terminal?(), do: spawn_link(fn -> tell(what, count, 1) end)

    try do
      fun.(count)
    after
      if teller, do: silence(teller)
    end
  end

  defp tell(what, count, seconds) do
    receive do
      {:silence, from} ->
        if seconds > 1, do: IO.write(:stderr, "\r\e[K")
        send(from, {:silent, self()})
    after
      1_000 ->
        IO.write(:stderr, "\r#{what}: #{seconds} s#{megabytes(:counters.get(count, 1))}\e[K")
        tell(what, count, seconds + 1)
    end
  end

  defp megabytes(0), do: ""
  defp megabytes(bytes), do: ", #{div(bytes, 1_000_000)} MB"

  defp silence(teller) do
    send(teller, {:silence, self()})

    receive do
      {:silent, ^teller} -> :ok
    end
  end
end
