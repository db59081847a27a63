defmodule Cryptoki.Information do
  @moduledoc false
  # What the library, its slots, the token and its mechanisms say about themselves, with names in
  # place of numbers.

  alias Cryptoki.{
    Call,
    Environment,
    Error,
    HSM,
    Instance,
    Instances,
    Mechanism,
    Names,
    Native,
    Options
  }

  alias Cryptoki.Native.Wait

  @options [:timeout, :metadata]

  def status(hsm) do
    with {:ok, target} <- HSM.target(hsm), do: Instance.status(target)
  end

  def stop(hsm) do
    case Instances.whereis(hsm) do
      nil -> :ok
      pid -> Instance.stop(pid)
    end
  end

  def library_info(hsm, opts) do
    with {:ok, target} <- target(hsm, opts),
         {:ok, info} <- control(target, {:library_info}) do
      {:ok, %{info | interfaces: Enum.map(info.interfaces, &flags(&1, :interface))}}
    end
  end

  defp flags(info, group), do: Map.update!(info, :flags, &Names.flags(group, &1))

  # A keyword list is a library without an instance.
  def slots(library, opts) when is_list(library) do
    %{timeout: timeout} = Options.call!(opts, @options)
    library = if timeout, do: Keyword.put(library, :timeout, timeout), else: library
    library |> library!() |> with_library(&read_slots/2)
  end

  def slots(hsm, opts) do
    with {:ok, target} <- target(hsm, opts), do: read_slots(target.library, target.deadline)
  end

  defp read_slots(library, deadline) do
    with {:ok, slots} <- Wait.control(library, {:slots}, deadline),
         do: {:ok, Enum.map(slots, &slot/1)}
  end

  @doc "The options for a library alone, without a token, checked as those of an instance are."
  @spec library!(keyword) :: map
  def library!(opts), do: opts |> Keyword.put_new(:token, slot: 0) |> Options.start!()

  @doc "Lends a library to a function that needs no instance."
  @spec with_library(map, (Native.library(), Wait.deadline() -> result)) ::
          result | {:error, Error.t()}
        when result: term
  def with_library(options, fun) do
    deadline = Wait.deadline(options.timeout)

    with {:ok, library} <- Wait.open(Environment.opened(options), deadline) do
      try do
        fun.(library, deadline)
      after
        give_back(library, deadline)
      end
    end
  end

  # A library that hangs on its way out makes nobody wait longer than they wanted to.
  defp give_back(library, deadline) do
    {_pid, monitor} = spawn_monitor(Instances, :close, [library])

    receive do
      {:DOWN, ^monitor, :process, _pid, _reason} -> :ok
    after
      Wait.remaining(deadline) -> Process.demonitor(monitor, [:flush])
    end
  end

  def token_info(hsm, opts) do
    with {:ok, target} <- target(hsm, opts),
         {:ok, slot} <- current_slot(target),
         {:ok, token} <- control(target, {:token_info, slot}),
         do: {:ok, flags(token, :token)}
  end

  def mechanisms(hsm, opts) do
    with {:ok, target} <- target(hsm, opts),
         {:ok, slot} <- current_slot(target),
         {:ok, codes} <- control(target, {:mechanisms, slot}),
         do: {:ok, Enum.map(codes, &Names.name(:mechanism, &1))}
  end

  def mechanism_info(hsm, mechanism, opts) do
    {code, _parameter} = Mechanism.encode!(code!(mechanism))

    with {:ok, target} <- target(hsm, opts),
         {:ok, slot} <- current_slot(target),
         {:ok, info} <- control(target, {:mechanism_info, slot, code}),
         do: {:ok, flags(info, :mechanism)}
  end

  def session(hsm, opts) do
    with {:ok, target} <- target(hsm, opts),
         {:ok, info} <- Call.run(target, {:session_info}) do
      {:ok, %{flags(info, :session) | state: Names.name(:session_state, info.state)}}
    end
  end

  def validation_flags(hsm, opts) do
    kind = Names.code!(:validation_indicator, :last_validation_ok)
    with {:ok, target} <- target(hsm, opts), do: Call.run(target, {:validation_flags, kind})
  end

  # A name alone, which need not come with its arguments here.
  defp code!(mechanism) when is_atom(mechanism) do
    case Names.code(:mechanism, mechanism) do
      {:ok, code} -> code
      :error -> mechanism
    end
  end

  defp code!(mechanism), do: mechanism

  defp target(hsm, opts), do: HSM.target(hsm, Options.call!(opts, @options))

  defp control(target, op), do: Wait.control(target.library, op, target.deadline)

  defp current_slot(target),
    do: with({:ok, %{slot: slot}} <- Instances.facts(target), do: {:ok, slot})

  defp slot(slot) do
    slot
    |> flags(:slot)
    |> Map.update!(:token, fn
      nil -> nil
      {:error, failure} -> {:error, Wait.error(failure)}
      token -> flags(token, :token)
    end)
  end
end
