defmodule Cryptoki.ErlangTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  # The Erlang modules against the Elixir modules they stand for, and what they do differently.

  alias Cryptoki.Test.{ErlangExamples, MainToken, Payments, SoftHSM}

  @doors [
    {Cryptoki, :cryptoki},
    {Cryptoki.Operation, :cryptoki_operation},
    {Cryptoki.Token, :cryptoki_token},
    {Cryptoki.Group, :cryptoki_group}
  ]

  # What Erlang has more: Enum.reduce/3 and Exception.message/1.
  @own [cryptoki: [fold: 3, format_error: 1, format_error: 2]]

  # They show what SoftHSM answers: it has no 3.x, takes a seed, and needs no init_args.
  @shows_softhsm for name <- ~w(start_link library_info seed_random decrypt_stream
                                encapsulate_key decapsulate_key validation_flags),
                     do: "-spec " <> name

  setup_all do
    options = Payments.options(name: :hsm)
    start_supervised!({Cryptoki, options})
    Payments.fill(:hsm)
    %{bindings: [Library: options[:library], Pin: SoftHSM.pin()]}
  end

  describe "both doors" do
    for {elixir, erlang} <- @doors do
      test "#{erlang} has every function of #{inspect(elixir)}, and no other" do
        assert exports(unquote(erlang)) -- (@own[unquote(erlang)] || []) ==
                 Enum.sort(for {name, arity} <- verbs(unquote(elixir)), do: {erlang(name), arity})
      end

      test "#{erlang} has a text and a spec for each" do
        source = File.read!("src/#{unquote(erlang)}.erl")
        specs = unquote(erlang) |> specs() |> Enum.sort()
        assert specs == exports(unquote(erlang))

        # A text or the name of the one it is the same as stands in front of every spec.
        assert Regex.scan(~r/^-spec /m, source) |> length() ==
                 Regex.scan(~r/^(\?DOC|\?SAME_AS)\([^\n]*\n?(?:[^\n]*\n)*?-spec /m, source)
                 |> length()
      end

      if System.otp_release() >= "27" do
        test "#{erlang} shows them" do
          {:docs_v1, _, :erlang, "text/markdown", %{"en" => _}, _, docs} =
            Code.fetch_docs(unquote(erlang))

          for {{:function, name, arity}, _, _, doc, meta} <- docs,
              do: assert(is_map(doc) or meta[:equiv], "#{name}/#{arity} shows no text")
        end
      end
    end

    test "the option types are those of Elixir" do
      assert keys(:cryptoki, :start_options) == union(:start_option)
      assert keys(:cryptoki, :options) == union(:call_option)
    end
  end

  describe "the examples" do
    for {_elixir, erlang} <- @doors,
        file = "src/#{erlang}.erl",
        {{owner, text}, index} <- Enum.with_index(ErlangExamples.docs(file)),
        example <- ErlangExamples.examples(text) do
      @example example
      @tag skip:
             owner in @shows_softhsm and
               MainToken.lacks(:kryoptic, "it shows what SoftHSM answers")
      test "of #{erlang}, text #{index}: #{owner}", %{bindings: bindings} do
        ErlangExamples.run(@example, bindings)
      end
    end

    test "are there for every function but those that no token here can do" do
      for {_elixir, erlang} <- @doors,
          {"-spec " <> name, text} <- ErlangExamples.docs("src/#{erlang}.erl") do
        assert ErlangExamples.examples(text) != [] or text =~ "\n    ", "#{name} has no example"
      end
    end
  end

  describe "guides/erlang.md" do
    @guide File.read!("guides/erlang.md")

    blocks = Regex.scan(~r/^```erlang\n(.*?)^```/ms, @guide, capture: :all_but_first)

    for {example, index} <-
          blocks |> Enum.join() |> ErlangExamples.examples() |> Enum.with_index() do
      @example example
      test "example #{index}" do
        ErlangExamples.run(@example)
      end
    end

    test "has OTP's logging back" do
      [code] = Regex.run(~r/^_ = logger:remove_handler.*?(?=^```)/ms, @guide)
      ebin = &(&1 |> Application.app_dir("ebin") |> to_charlist())
      args = Enum.flat_map([:elixir, :logger], &[~c"-pa", ebin.(&1)])
      {:ok, peer, _node} = :peer.start_link(%{connection: :standard_io, args: args})
      {:ok, _} = :peer.call(peer, :application, :ensure_all_started, [:logger])
      :peer.call(peer, :erl_eval, :exprs, [ErlangExamples.parse(code), []])

      assert [%{id: :default, module: :logger_std_h, formatter: {:logger_formatter, _}}] =
               :peer.call(peer, :logger, :get_handler_config, [])

      assert %{level: :notice} = :peer.call(peer, :logger, :get_primary_config, [])
      :peer.stop(peer)
    end

    test "shows the application that test/consumers_test.exs builds" do
      for file <- ~w(rebar.config src/signer.erl),
          do: assert(@guide =~ "```erlang\n" <> File.read!("test/rebar3/#{file}") <> "```")
    end

    test "shows what the shell says of a mistake" do
      {:badarg, stack} = raised(fn -> :cryptoki.sign(:hsm, %{lable: "invoice"}, :ecdsa, "") end)
      shown = :error |> :erl_error.format_exception(:badarg, stack) |> IO.chardata_to_string()
      [sentence] = Regex.run(~r/\*\*\* argument 2: .*/, shown)
      assert @guide =~ sentence
    end
  end

  describe "errors" do
    test "have the reason in front, and a sentence in every form" do
      {:ok, pid} = :cryptoki.start_link(Map.new(MainToken.options(pin: "wrong", name: :wrong)))

      {:ok, %{state: :locked, reason: {:pin_incorrect, info} = reason}} = :cryptoki.status(pid)
      assert %{function: :C_Login, code: 0xA0, executed: false} = info
      sentence = "C_Login answered CKR_PIN_INCORRECT: the PIN is wrong;"
      assert :cryptoki.format_error(reason) =~ sentence
      assert :cryptoki.format_error({:error, reason}) =~ sentence

      {:ok, %{reason: error}} = Cryptoki.status(pid)
      assert :cryptoki.format_error(error) =~ sentence
      assert {:error, {:locked, %{code: nil}}} = :cryptoki.random(pid, 1)
      :ok = :cryptoki.stop(pid)
      assert {:error, {:shutdown, %{code: nil, function: nil}}} = :cryptoki.random(pid, 1)
    end

    test "that a question cannot answer are raised, with their sentence" do
      assert {{:key_not_found, %{code: nil}} = reason, stack} =
               raised(fn -> :cryptoki.is_valid(:hsm, %{label: "none"}, :ecdsa, "", "") end)

      assert %{general: "nothing matches the selector" <> _} =
               :cryptoki.format_error(reason, stack)

      assert {:cryptoki, :is_valid, 6, _} = hd(stack)
    end
  end

  describe "a mistake in a call is a badarg" do
    for {name, arguments, position, text} <- [
          {:sign, [:hsm, %{lable: "a"}, :ecdsa, ""], 2, "did you mean :label?"},
          {:sign, [:hsm, ~c"pkcs11:object", :ecdsa, ""], 2, "pkcs11:object=invoice"},
          {:sign, [:hsm, %{label: "a"}, :ecdsa_sha265, ""], 3, "did you mean :ecdsa_sha256"},
          {:sign, [:hsm, %{label: "a"}, :ecdsa, %{}], :general, "data must be iodata"},
          {:sign, [:hsm, %{label: "a"}, :ecdsa, "", %{timout: 1}], 5, "did you mean :timeout?"},
          {:sign, [:hsm, %{label: "a"}, :ecdsa, "", %{timeout: 0}], 5, "timeout: must be"},
          {:derive_key, [:hsm, %{label: "a"}, :x, %{}], 3, "there is no mechanism :x"},
          {:derive_key, [:hsm, %{label: "a"}, :sha256_key_derivation, %{clas: 1}], 4, ":class?"},
          {:wrap_key, [:hsm, %{label: "a"}, :aes_key_wrap, %{id: 1}], 4, ":id"},
          {:generate_key_pair, [:hsm, :ec_key_pair_gen, %{curve: 1}], 3, ":curve"},
          {:attributes, [:hsm, %{label: "a"}, [:lable]], 3, ":lable"},
          {:start_link, [%{libary: "x"}], 1, "did you mean :library?"},
          {:random, [:hsm, -1], :general, "a number of bytes"}
        ] do
      test "#{name}: #{inspect(position)} #{text}" do
        {:badarg, stack} =
          raised(fn -> apply(:cryptoki, unquote(name), unquote(Macro.escape(arguments))) end)

        assert %{unquote(position) => message} = :cryptoki.format_error(:badarg, stack)
        assert message =~ unquote(text)

        # As the shell shows it.
        shown = :error |> :erl_error.format_exception(:badarg, stack) |> IO.chardata_to_string()

        where =
          if unquote(position) == :general, do: "***", else: "*** argument #{unquote(position)}:"

        assert shown =~ "cryptoki:#{unquote(name)}/"
        assert shown =~ where
      end
    end

    test "without the arguments, which may hold a PIN" do
      {:badarg, stack} =
        raised(fn -> :cryptoki.start_link(%{pin: SoftHSM.pin(), libary: "x"}) end)

      refute inspect(stack, limit: :infinity) =~ SoftHSM.pin()
    end

    test "and that of a function of the caller stays the caller's" do
      {:badarg, stack} =
        raised(fn ->
          :cryptoki.with_session(:hsm, fn session -> :erlang.atom_to_list(session) end)
        end)

      assert {:erlang, :atom_to_list, [_], _} = hd(stack)
    end
  end

  describe "streams" do
    @cbc {:aes_cbc_pad, %{iv: <<0::128>>}}
    @key %{label: "archive"}

    test "take lazy lists, as data and as chunks" do
      assert {:ok, digest} = :cryptoki.digest(:hsm, :sha256, {:stream, lazy(["a", ["b"], "c"])})
      assert digest == :crypto.hash(:sha256, "abc")

      secret =
        :cryptoki.encrypt_stream(:hsm, @key, @cbc, lazy(List.duplicate("0123456789", 20_000)))

      assert {:ok, secret} = :cryptoki.fold(&[&2, &1], [], secret)
      assert {:ok, plain} = :cryptoki.decrypt(:hsm, @key, @cbc, secret)
      assert plain == String.duplicate("0123456789", 20_000)
    end

    test "answer the error that ends them" do
      stream = :cryptoki.stream(:no_such_instance, %{})
      assert {:error, {:shutdown, %{}}} = :cryptoki.fold(&[&1 | &2], [], stream)
    end

    defp lazy([]), do: fn -> [] end
    defp lazy([chunk | rest]), do: fn -> [chunk | lazy(rest)] end
  end

  test "an Erlang supervisor starts an instance, and its reports show no PIN" do
    options = Map.new(MainToken.options(name: :supervised, pin: SoftHSM.pin(), sessions: 1))
    %{start: {:cryptoki, :start_link, _}} = spec = :cryptoki.child_spec(options)
    {:ok, supervisor} = :supervisor.start_link(__MODULE__.Supervisor, [spec])
    assert {:ok, %{state: :ready}} = :cryptoki.status(:supervised)
    refute inspect(:sys.get_state(supervisor), limit: :infinity) =~ SoftHSM.pin()
    :ok = Supervisor.stop(supervisor)
  end

  defmodule Supervisor do
    @behaviour :supervisor
    def init(children), do: {:ok, {%{}, children}}
    defdelegate stop(supervisor), to: Elixir.Supervisor
  end

  defp raised(fun) do
    fun.()
    flunk("it raised nothing")
  catch
    :error, reason when not is_struct(reason) -> {reason, __STACKTRACE__}
  end

  # The twins with ! are for a language without {ok, _} = ...
  defp verbs(module) do
    for {name, arity} <- module.__info__(:functions),
        hidden?(module, name, arity) == false,
        not String.ends_with?(Atom.to_string(name), "!"),
        not String.starts_with?(Atom.to_string(name), "__"),
        do: {name, arity}
  end

  # Code.fetch_docs knows a function with defaults by its largest arity.
  defp hidden?(module, name, arity) do
    {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(module)

    Enum.any?(docs, fn {{kind, other, most}, _, _, doc, meta} ->
      kind == :function and other == name and doc == :hidden and
        arity in (most - (meta[:defaults] || 0))..most
    end)
  end

  defp erlang(:valid?), do: :is_valid
  defp erlang(name), do: name

  defp exports(module),
    do: Enum.sort(module.module_info(:exports) -- [module_info: 0, module_info: 1])

  defp specs(module) do
    {:ok, specs} = Code.Typespec.fetch_specs(module)
    for {function, _} <- specs, function in exports(module), do: function
  end

  defp type(module, name) do
    {:ok, types} = Code.Typespec.fetch_types(module)
    Enum.find_value(types, fn {_kind, {type, definition, _}} -> type == name && definition end)
  end

  defp keys(module, name) do
    {:type, _, :map, fields} = type(module, name)
    Enum.sort(for {:type, _, :map_field_assoc, [{:atom, _, key}, _]} <- fields, do: key)
  end

  defp union(name) do
    {:type, _, :union, pairs} = type(Cryptoki.Options, name)
    Enum.sort(for {:type, _, :tuple, [{:atom, _, key}, _]} <- pairs, do: key)
  end
end
