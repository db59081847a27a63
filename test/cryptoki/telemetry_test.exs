defmodule Cryptoki.TelemetryTest do
  # Not async: while there is a module :telemetry, every call of the VM emits.
  use ExUnit.Case, async: false

  alias Cryptoki.Test.SoftHSM

  @name __MODULE__.HSM

  setup do
    hsm = start_supervised!({Cryptoki, SoftHSM.options(name: @name, sessions: 1)})
    :persistent_term.put(__MODULE__, self())

    defmodule :telemetry do
      def execute(event, measurements, metadata) do
        send(:persistent_term.get(Cryptoki.TelemetryTest), {event, measurements, metadata})
        :ok
      end
    end

    on_exit(fn ->
      :code.purge(:telemetry)
      :code.delete(:telemetry)
    end)

    %{hsm: hsm}
  end

  test "a call has a start and a stop, with queue and device time apart, and no data" do
    secret = "never in an event"
    {:ok, _} = Cryptoki.digest(@name, :sha256, secret, metadata: %{request: 7})

    assert_received {[:cryptoki, :call, :start], %{system_time: _, monotonic_time: _}, metadata}
    assert %{instance: @name, operation: :digest, mechanism: :sha256} = metadata
    assert metadata.metadata == %{request: 7}

    assert_received {[:cryptoki, :call, :stop], times, %{result: :ok} = metadata}
    assert times.queue_time + times.device_time <= times.duration
    assert times.device_time > 0
    refute inspect(metadata, limit: :infinity) =~ secret
  end

  test "an error is a stop with its reason" do
    {:error, _} = Cryptoki.sign(@name, [label: "nobody"], :ecdsa, "")

    assert_received {[:cryptoki, :call, :stop], _times,
                     %{operation: :sign, result: :key_not_found}}
  end

  test "the token and its sessions have events", %{hsm: hsm} do
    GenServer.stop(hsm)

    start_supervised!({Cryptoki, SoftHSM.options(sessions: 1, pin: fn -> raise "no" end)},
      id: :two
    )

    assert_received {[:cryptoki, :token, :absent], %{system_time: _}, %{reason: reason}}
    assert is_atom(reason)
    start_supervised!({Cryptoki, SoftHSM.options(sessions: 1)}, id: :three)
    assert_received {[:cryptoki, :login, :stop], %{duration: _}, %{result: :ok}}
    assert_received {[:cryptoki, :session, :opened], %{system_time: _}, _metadata}
    assert_received {[:cryptoki, :token, :ready], %{system_time: _}, %{reason: nil}}
  end
end
