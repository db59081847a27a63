defmodule Cryptoki.EnvTest do
  # What C's environment is while a library is initialised, by SoftHSM, which looks there for its tokens. Seen to fail:
  # without the variables there is no free slot with the other tokens, but those of the run.
  use ExUnit.Case, async: true

  alias Cryptoki.{Error, Token}
  alias Cryptoki.Test.SoftHSM

  setup do
    folder = Path.join(SoftHSM.directory(), "env-#{System.unique_integer([:positive])}")
    File.mkdir_p!(Path.join(folder, "tokens"))
    conf = Path.join(folder, "softhsm2.conf")
    File.write!(conf, "directories.tokendir = #{folder}/tokens\nlog.level = ERROR\n")
    %{env: %{"SOFTHSM2_CONF" => conf}, library: SoftHSM.library_copy()}
  end

  test "a library is initialised with the tokens of another place, and only it", context do
    own = [library: context.library, env: context.env]
    assert :ok = Token.init(:free, own ++ [label: "elsewhere", so_pin: "12345678"])
    assert :ok = Token.init_pin([label: "elsewhere"], own ++ [so_pin: "12345678", pin: "1234"])

    {:ok, hsm} = Cryptoki.start_link(own ++ [token: [label: "elsewhere"], pin: fn -> "1234" end])
    assert {:ok, <<_::64>>} = Cryptoki.random(hsm, 8)
    {:ok, slots} = Cryptoki.slots(hsm)
    assert for(%{token: %{label: label}} <- slots, label != "", do: label) == ["elsewhere"]

    # One library has one environment, and instances that say the same share it.
    {:ok, same} = Cryptoki.start_link(own ++ [token: [label: "elsewhere"]])
    assert {:ok, _} = Cryptoki.random(same, 8)
    {:error, error} = start_alone(library: context.library, token: [label: "elsewhere"])
    assert %Error{reason: :invalid_argument} = error
    assert Exception.message(error) =~ "init_args:, locking: or env:"

    # Whatever is initialised afterwards has the environment of the VM.
    {:ok, slots} = Cryptoki.slots(library: SoftHSM.library_copy())
    labels = for %{token: %{label: label}} <- slots, do: label
    assert SoftHSM.label() in labels and "elsewhere" not in labels
    Enum.each([hsm, same], &Cryptoki.stop/1)
  end

  test "the same from Erlang", context do
    own = %{library: context.library, env: context.env, token: %{label: "nobody"}}
    {:ok, hsm} = :cryptoki.start_link(own)
    assert {:ok, slots} = :cryptoki.slots(hsm)
    assert for(%{token: %{label: label}} <- slots, label != "", do: label) == []
    :ok = :cryptoki.stop(hsm)
  end

  test "values are shown by nobody who keeps them", context do
    env = Map.put(context.env, "ACME_SECRET", "never shown")
    options = [library: context.library, env: env, token: [label: "nobody"]]
    spec = Cryptoki.child_spec(options)
    {:ok, hsm} = Cryptoki.start_link(options)

    kept = for pid <- [hsm | descendants(hsm)], do: {:sys.get_state(pid), :sys.get_status(pid)}

    for term <- [spec | kept],
        text <- [
          inspect(term, limit: :infinity),
          inspect(term, structs: false),
          "#{:io_lib.format("~p", [term])}"
        ],
        do: refute(text =~ "never shown")

    assert inspect(spec) =~ "#Cryptoki.Environment<ACME_SECRET, SOFTHSM2_CONF>"
    # What a supervisor keeps starts another one.
    :ok = Cryptoki.stop(hsm)
    {module, function, arguments} = spec.start
    {:ok, hsm} = apply(module, function, arguments)
    assert {:ok, slots} = Cryptoki.slots(hsm)
    assert Enum.all?(slots, &(&1.token.label == ""))
    :ok = Cryptoki.stop(hsm)

    wrong = Map.put(env, "A=B", "")

    error =
      assert_raise ArgumentError, fn -> Cryptoki.child_spec(Keyword.put(options, :env, wrong)) end

    refute Exception.message(error) =~ "never shown"
  end

  defp descendants(supervisor) do
    for {_id, pid, kind, _modules} <- Supervisor.which_children(supervisor), is_pid(pid) do
      if kind == :supervisor, do: [pid | descendants(pid)], else: [pid]
    end
    |> List.flatten()
  end

  test "what cannot be in an environment is told before anything is touched", context do
    for env <- [
          %{"A=B" => "x"},
          %{"" => "x"},
          %{"A" => <<0>>},
          %{1 => {}},
          [{"A", "x"}, {"A", "y"}],
          "A=x",
          [:a]
        ] do
      assert_raise ArgumentError, ~r/^env: must be a map of names and values/, fn ->
        Cryptoki.child_spec(library: context.library, token: [slot: 0], env: env)
      end
    end
  end

  defp start_alone(options) do
    Process.flag(:trap_exit, true)
    Cryptoki.start_link(options)
  end
end
