defmodule Cryptoki.GuidesTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  # What guides/erlang.md and guides/jwt.md show is run, on the token of the docs' examples.

  alias Cryptoki.Test.{ErlangExamples, Jose, Payments}

  @compile {:no_warn_undefined, [:jose_jwk, :jose_jws, :jose_jwt]}
  @erlang File.read!("guides/erlang.md")

  setup_all do
    start_supervised!({Cryptoki, Payments.options(name: MyApp.HSM)})
    Payments.fill(MyApp.HSM)
    start_supervised!({Cryptoki, Payments.options(name: :hsm)}, id: :hsm)
    :ok
  end

  doctest Cryptoki.Test.Guides.JWT

  blocks = Regex.scan(~r/^```erlang\n(.*?)^```/ms, @erlang, capture: :all_but_first)

  for {example, index} <- blocks |> Enum.join() |> ErlangExamples.examples() |> Enum.with_index() do
    @example example
    test "erlang.md, example #{index}" do
      # One of them changes how the VM logs.
      config = :logger.get_primary_config()
      handlers = :logger.get_handler_config()

      try do
        ErlangExamples.run(@example)
      after
        for id <- :logger.get_handler_ids(),
            id not in Enum.map(handlers, & &1.id),
            do: :logger.remove_handler(id)

        for %{id: id, module: module} = handler <- handlers,
            do: :logger.add_handler(id, module, handler)

        :logger.set_primary_config(config)
      end
    end
  end

  test "erlang.md shows the application that the consumers' test builds" do
    for file <- ~w(rebar.config src/signer.erl),
        do: assert(@erlang =~ "```erlang\n" <> File.read!("test/rebar3/#{file}") <> "```")
  end

  test "erlang.md shows what the shell says of a mistake" do
    :cryptoki.sign(:hsm, %{lable: "invoice"}, :ecdsa, "")
  catch
    :error, :badarg ->
      shown =
        :error |> :erl_error.format_exception(:badarg, __STACKTRACE__) |> IO.chardata_to_string()

      [_, sentence] = Regex.run(~r/\*\*\* (argument 2: .*)/, shown)
      assert @erlang =~ "*** " <> sentence
  end

  test "jwt.md shows erlang-jose" do
    if Jose.erlang_jose?() do
      [code] = Regex.run(~r/^\{:ok, jwk\} = .*?(?=^```)/ms, File.read!("guides/jwt.md"))
      assert {{true, _, _}, _bindings} = Code.eval_string(code)
    end
  end
end
