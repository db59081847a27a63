defmodule Cryptoki.SecretsTest do
  # What is left of PINs and key values in a VM that signs: in its crash dump, and in its memory.
  use ExUnit.Case, async: true

  alias Cryptoki.Test.{MainToken, Scratch, SoftHSM}

  @script Path.expand("../support/secrets.exs", __DIR__)
  @key <<0xC7, 0x1D, 0x5A, 0x93, 0xE8, 0x04, 0xB6, 0x2F>> |> :binary.copy(4)

  setup context do
    options = MainToken.own()
    hsm = start_supervised!({Cryptoki, options})
    template = [class: :secret_key, key_type: :aes, label: "exported", token: true, value: @key]
    Cryptoki.create!(hsm, template ++ [sensitive: false, extractable: true])
    stop_supervised!(Cryptoki)

    directory = Scratch.directory("secrets")
    pin = Path.join(directory, "pin")
    File.write!(pin, SoftHSM.pin() <> "\n")
    dump = Path.join(directory, "erl_crash.dump")
    hold = if context[:hold], do: ~c"1", else: false
    look = System.get_env("CRYPTOKI_LOOK", "1")

    environment = [
      {~c"CRYPTOKI_TEST_HOLD", hold},
      {~c"ERL_CRASH_DUMP", to_charlist(dump)},
      {~c"CRYPTOKI_LOOK", to_charlist(look)}
    ]

    port = start(options, [pin, "#{context[:isolation] || :none}"], environment)
    {:os_pid, pid} = Port.info(port, :os_pid)
    on_exit(fn -> System.cmd("kill", ["-KILL", "#{pid}"], stderr_to_stdout: true) end)
    %{port: port, dump: dump}
  end

  test "the crash dump of a VM that is killed while it signs has neither PIN nor key", context do
    dump = crash_dump(context)
    assert dump =~ "Cryptoki.TokenServer"
    refute shows?(dump, SoftHSM.pin())
    refute shows?(dump, @key)
  end

  @tag :hold
  test "a PIN that a process holds is found in a crash dump", context do
    assert context |> crash_dump() |> shows?(SoftHSM.pin())
  end

  # What the VM has read lies on in memory that it has freed, and nothing can overwrite that: each
  # such copy has the length of a binary in front of it. Those of the native code have been
  # overwritten. (With a second copy in `decode::secret` that is not, this finds one.)
  @tag skip: MainToken.lacks(:kryoptic, "its PBKDF2 copies the PIN and leaves it in memory")
  test "the native code has left no PIN in memory", context do
    pid = await(context.port)
    copies = copies(pid, SoftHSM.pin())
    kill(pid, "KILL", context.port)
    assert not_of_the_vm(copies) == []
  end

  # The memory of the process of a library can be read by root alone.
  @tag isolation: :process
  @tag skip: MainToken.lacks(:kryoptic, "its PBKDF2 copies the PIN and leaves it in memory")
  test "neither side has left a PIN in memory where the library has a process", context do
    pid = await(context.port)
    [keeper] = children(pid)
    [worker] = children(keeper)
    copies = copies(pid, SoftHSM.pin())
    theirs = if readable?(worker), do: copies(worker, SoftHSM.pin()), else: []
    environment = if readable?(worker), do: File.read!("/proc/#{worker}/environ")
    kill(pid, "KILL", context.port)
    # Of the VM's it has what it needs.
    if environment, do: assert(environment =~ "CRYPTOKI_LOOK=" and environment =~ "PATH=")
    refute environment && environment =~ "ERL_CRASH_DUMP"
    assert not_of_the_vm(copies) == [] and theirs == []
  end

  defp not_of_the_vm(copies),
    do: for({size, around} <- copies, size not in lengths(SoftHSM.pin()), do: around)

  defp children(parent) do
    for status <- Path.wildcard("/proc/[0-9]*/status"),
        {:ok, text} <- [File.read(status)],
        text =~ ~r/^Name:\s+cryptoki_worker/m and text =~ ~r/^PPid:\s+#{parent}$/m,
        do: status |> Path.dirname() |> Path.basename()
  end

  defp readable?(pid), do: match?({:ok, _maps}, File.read("/proc/#{pid}/maps"))

  defp start(options, pin_and_isolation, environment) do
    path = Application.app_dir(:cryptoki, "ebin")
    token = [options[:library], options[:token][:label]]
    arguments = ["-pa", path, @script] ++ token ++ pin_and_isolation

    configured =
      for {name, value} <- MainToken.environment(options), do: {~c"#{name}", ~c"#{value}"}

    Port.open({:spawn_executable, System.find_executable("elixir")}, [
      :binary,
      :exit_status,
      :stderr_to_stdout,
      line: 1000,
      args: arguments,
      env: configured ++ environment
    ])
  end

  defp await(port) do
    receive do
      {^port, {:data, {:eol, "signing " <> pid}}} -> pid
      {^port, {:data, _other}} -> await(port)
      {^port, {:exit_status, status}} -> flunk("the VM ended with status #{status}")
    end
  end

  defp crash_dump(context) do
    kill(await(context.port), "USR1", context.port)
    File.read!(context.dump)
  end

  defp kill(pid, signal, port) do
    {_, 0} = System.cmd("kill", ["-#{signal}", pid])
    ended(port)
  end

  defp ended(port) do
    receive do
      {^port, {:exit_status, _status}} -> :ok
      {^port, {:data, _lines}} -> ended(port)
    end
  end

  # As they are, in the two cases of hexadecimal, and in base64 from each of the three positions
  # that a byte can have in it.
  defp shows?(dump, secret) do
    forms = [secret, Base.encode16(secret), Base.encode16(secret, case: :lower)]

    base64 =
      for shift <- 0..2 do
        encoded = Base.encode64(:binary.copy(<<0>>, shift) <> secret, padding: false)
        from = div(shift * 8 + 5, 6)
        String.slice(encoded, from, div(bit_size(secret), 6) - 1)
      end

    Enum.any?(forms ++ base64, &String.contains?(dump, &1))
  end

  # {word in front, bytes around} of every copy in what the process may write to.
  defp copies(pid, secret) do
    {:ok, memory} = :file.open("/proc/#{pid}/mem", [:read, :raw, :binary])

    for line <- File.stream!("/proc/#{pid}/maps"),
        [range, "rw" <> _ | _] <- [String.split(line)],
        [first, last] = range |> String.split("-") |> Enum.map(&String.to_integer(&1, 16)),
        {:ok, bytes} <- [:file.pread(memory, first, last - first)],
        {at, _size} <- :binary.matches(bytes, secret),
        at >= 8 do
      <<size::little-64>> = binary_part(bytes, at - 8, 8)
      {size, binary_part(bytes, at - 8, 8 + byte_size(secret))}
    end
  end

  # With and without the end of the line in the file; in bits from OTP 27 on.
  defp lengths(secret),
    do: for(size <- [byte_size(secret), byte_size(secret) + 1], unit <- [1, 8], do: size * unit)
end
