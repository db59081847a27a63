defmodule Cryptoki.ExitMatrixTest do
  # Every way a VM can end, times what it does meanwhile, times the tokens: no signal, the status kept, and an
  # end. In the suite every way while it signs, and else one, another with each seed; CRYPTOKI_EXIT_ROUNDS of
  # every way when it is set.
  use ExUnit.Case, async: true

  alias Cryptoki.Test.{FaultyModule, Reliability, Scratch, SoftHSM, Token, Workers}

  @script Path.expand("../support/exit_matrix.exs", __DIR__)
  @before Path.expand("../support/initialized_before.c", __DIR__)

  @ways [
    halt: 3,
    end_of_script: 0,
    uncaught: 1,
    stop: 3,
    sigterm: 0,
    halt_without_flush: 3,
    application_stop: 0
  ]
  @works ~w[idle sign hang generate watch crypto]
  @tokens [
    softhsm2: "SoftHSM2",
    kryoptic: "Kryoptic",
    initialized: "SoftHSM2, initialised by another",
    isolated: "SoftHSM2, in a process of its own"
  ]
  # As the shell says it: 128 and the number of SIGKILL.
  @killed {:kill, 137}

  # Far beyond what any of them takes: only what never ends is killed.
  @limit "600"

  for {token, title} <- @tokens do
    describe title do
      if token == :kryoptic and is_nil(Token.library(:kryoptic)),
        do: @describetag(skip: "Kryoptic is not built")

      # The library that hangs is one of our own, which nobody else initialises.
      for work <- if(token == :initialized, do: @works -- ["hang"], else: @works) do
        @those if token == :isolated, do: [@killed | @ways], else: @ways
        @tag timeout: :infinity
        test "a VM ends by itself and with its status: #{work}" do
          %{options: options, env: env} = target(unquote(token), unquote(work))
          text = options |> :erlang.term_to_binary() |> Base.encode64()

          runs =
            ways(unquote(work), @those)
            |> Task.async_stream(
              fn {way, status} ->
                workers = Path.join(Scratch.directory("exit"), "workers")
                run = run([to_string(way), unquote(work), text, workers], env)
                {way, status, run, workers}
              end,
              max_concurrency: 2,
              timeout: :infinity
            )
            |> Enum.map(fn {:ok, run} -> run end)

          # A signal would show as 128 and its number: 139 is a segmentation fault.
          wrong =
            for {way, status, {output, other}, _workers} when other != status <- runs,
                do: {way, other, output}

          assert wrong == []

          for {_way, _status, _run, workers} <- runs, do: nothing_left(workers, unquote(token))

          if rounds(),
            do: Reliability.record(:exits, {unquote(title), unquote(work)}, length(runs))
        end
      end
    end
  end

  # Processes are gone, and the kernel closes what they had: sockets, sessions.
  defp nothing_left(file, token) do
    workers = file |> File.read!() |> String.split()
    assert length(workers) == if(token == :isolated, do: 2, else: 0)
    await(fn -> not Enum.any?(workers, &Workers.alive?/1) end)
  end

  defp await(holds?) do
    unless holds?.() do
      receive after: (10 -> :ok)
      await(holds?)
    end
  end

  defp rounds, do: System.get_env("CRYPTOKI_EXIT_ROUNDS")

  defp ways(work, ways) do
    case {rounds(), work} do
      {nil, "sign"} -> ways
      {nil, _work} -> [Enum.random(ways)]
      {rounds, _work} -> for _ <- 1..String.to_integer(rounds), way <- ways, do: way
    end
  end

  defp run(arguments, env) do
    ebin = Application.app_dir(:cryptoki, "ebin")
    command = ~w(--signal=KILL #{@limit} elixir -pa #{ebin} #{@script}) ++ arguments
    System.cmd("timeout", command, stderr_to_stdout: true, env: env)
  end

  defp target(:isolated, work) do
    %{options: options} = made = target(:softhsm2, work)
    %{made | options: [isolation: :process] ++ options}
  end

  # Only C_GenerateRandom hangs, and only a library for this work has it hang.
  defp target(token, "hang") do
    module = front(token)
    FaultyModule.control(module, "C_GenerateRandom hang")
    %{options: options} = made = made(token, module)
    %{made | options: [sessions: 64] ++ options}
  end

  defp target(:initialized, _work) do
    library = SoftHSM.library()
    %{options: soft_hsm(library), env: initialized(library)}
  end

  defp target(:softhsm2, _work), do: %{options: soft_hsm(SoftHSM.library()), env: []}

  # A copy is a library of its own: other tests have another token on Kryoptic's.
  defp target(:kryoptic, work) do
    library = Path.join(SoftHSM.directory(), "exit-#{work}.so")
    File.cp!(Token.library(:kryoptic), library)
    kryoptic(library, "exit-#{work}")
  end

  defp front(:kryoptic), do: FaultyModule.in_front_of(Token.library(:kryoptic))
  defp front(:softhsm2), do: FaultyModule.new()

  defp made(:kryoptic, module), do: kryoptic(module.library, "exit-hang")
  defp made(:softhsm2, module), do: %{options: soft_hsm(module.library), env: []}

  defp soft_hsm(library),
    do: [library: library, token: [label: SoftHSM.label()], pin: SoftHSM.pin(), sessions: 4]

  defp kryoptic(library, name) do
    token = Token.kryoptic(library, name)
    options = [library: library, token: [label: token.label], pin: SoftHSM.pin(), sessions: 4]
    %{options: [init_args: token.init_args] ++ options, env: []}
  end

  defp initialized(library) do
    preloaded = Path.join(SoftHSM.directory(), "initialized_before.so")

    unless File.exists?(preloaded) do
      new = "#{preloaded}.#{System.unique_integer([:positive])}"
      {"", 0} = System.cmd("cc", ~w(-shared -fPIC -o #{new} #{@before} -ldl))
      File.rename!(new, preloaded)
    end

    [{"LD_PRELOAD", preloaded}, {"INITIALIZED_BEFORE", library}]
  end
end
