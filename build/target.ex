defmodule Cryptoki.Build.Target do
  @moduledoc false
  # The machine that is built for, as rustc names it: x86_64-unknown-linux-gnu, aarch64-apple-darwin.

  @doc """
  The target's triple; nil when another machine is asked for that nothing names; a sentence when there is no
  native part for it.
  """
  @spec find :: {:ok, String.t() | nil} | {:error, String.t()}
  def find do
    with {:ok, triple} <- named(), do: supported(triple)
  end

  @doc "The variable that asks for another machine than this one, with its value, or nil."
  @spec cross :: String.t() | nil
  def cross do
    Enum.find_value(~w(MIX_TARGET CROSSCOMPILE TARGET_ARCH), fn name ->
      if value = variable(name), do: value != "host" and "#{name}=#{value}"
    end)
  end

  @doc "What a variable of the environment says, nil for nothing."
  @spec variable(String.t()) :: String.t() | nil
  def variable(name) do
    value = System.get_env(name, "")
    if value != "", do: value
  end

  @doc "The processor of a triple."
  @spec processor(String.t()) :: String.t()
  def processor(triple), do: triple |> String.split("-") |> hd()

  @doc "A triple of what the VM says of itself; `musl?` for a C library that this does not name."
  @spec triple(String.t(), boolean) :: String.t()
  def triple(architecture, musl?) do
    [processor | rest] = String.split(architecture, "-")
    processor = rust_processor(processor)
    system = Enum.join(rest, "-")

    cond do
      system =~ "darwin" -> "#{processor}-apple-darwin"
      system =~ "linux" and (musl? or system =~ "musl") -> "#{processor}-unknown-linux-musl"
      system =~ "linux" -> "#{processor}-unknown-linux-gnu"
      true -> architecture
    end
  end

  defp named do
    cond do
      triple = variable("CARGO_BUILD_TARGET") -> {:ok, triple |> Path.basename(".json")}
      cross() -> {:ok, cross_triple()}
      true -> host()
    end
  end

  # As Nerves sets them for its toolchains.
  defp cross_triple do
    with processor when is_binary(processor) <- variable("TARGET_ARCH"),
         system when is_binary(system) <- variable("TARGET_OS"),
         abi when is_binary(abi) <- variable("TARGET_ABI") do
      "#{rust_processor(processor)}-unknown-#{system}-#{abi}"
    end
  end

  defp host do
    cond do
      match?({:win32, _}, :os.type()) ->
        {:error, "there is no native part for Windows; it runs there in WSL 2."}

      :erlang.system_info(:wordsize) == 4 ->
        {:error, only_64_bit("this Erlang is a 32-bit program")}

      true ->
        {:ok, triple(to_string(:erlang.system_info(:system_architecture)), musl?())}
    end
  end

  defp supported(nil), do: {:ok, nil}

  defp supported(triple) do
    if processor(triple) =~ "64" or processor(triple) == "s390x",
      do: {:ok, triple},
      else: {:error, only_64_bit("#{triple} is not")}
  end

  defp only_64_bit(found), do: "the native part of cryptoki is 64-bit only, and #{found}."

  # The names of Debian, Nerves and macOS for it.
  defp rust_processor("amd64"), do: "x86_64"
  defp rust_processor("arm64"), do: "aarch64"
  defp rust_processor("riscv64"), do: "riscv64gc"
  defp rust_processor(processor), do: processor

  # Which C library this VM runs on, whatever its configure script was told: its loader is named in the first page.
  defp musl? do
    with {:ok, file} <- :file.open("/proc/self/exe", [:read, :raw, :binary]),
         read = :file.read(file, 4096),
         :ok <- :file.close(file),
         {:ok, page} <- read do
      page =~ "/ld-musl-"
    else
      _ -> false
    end
  end
end
