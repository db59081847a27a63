defmodule Cryptoki.DoorsTest do
  # What instances are called, and how text is written.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.{Error, Instances}
  alias Cryptoki.Test.MainToken

  @name __MODULE__.HSM

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(name: @name, sessions: 2)})
    uses = [encrypt: true, decrypt: true]
    Cryptoki.generate_key!(hsm, :aes_key_gen, [value_len: 16, label: "door", token: true] ++ uses)
    %{hsm: hsm}
  end

  describe "an instance" do
    test "of a name that is not there: those that are" do
      for name <- [:nobody, {:global, :nobody}, {:nobody, node()}], call <- calls() do
        assert {:error, %Error{reason: :shutdown, detail: detail}} = call.(name)
        assert detail =~ "no instance #{inspect(name)} is running on this node"
        assert detail =~ inspect(@name)
      end

      # Some other process.
      assert {:error, %Error{reason: :shutdown}} = Cryptoki.status(self())
      assert {:error, {:shutdown, %{detail: _}}} = :cryptoki.status(:nobody)
    end

    test "of another node that cannot be reached" do
      # A pid of a node that nobody is connected to, as it comes in a message.
      pid = :erlang.binary_to_term(<<131, 88, 119, 9, "far@there", 0::32, 77::32, 0::32, 1::32>>)

      for hsm <- [{@name, :far@there}, pid], call <- calls() do
        assert {:error, %Error{reason: :node_down, executed: false} = error} = call.(hsm)
        assert error.detail =~ "far@there: "
      end

      assert {:ok, _} = Cryptoki.random({@name, node()}, 1)
    end

    test "counts its own epochs", %{hsm: hsm} do
      options = MainToken.options(sessions: 1)
      {:ok, other} = Cryptoki.start_link(options)
      before = Cryptoki.status!(hsm).epoch
      assert Cryptoki.status!(other).epoch < 5
      Cryptoki.stop(other)

      for _ <- 1..5 do
        {:ok, other} = Cryptoki.start_link(options)
        Cryptoki.stop(other)
      end

      assert Cryptoki.status!(hsm).epoch == before
    end
  end

  test "a subscription that comes too late is none", %{hsm: hsm} do
    {:ok, target} = Cryptoki.HSM.target(hsm, %{timeout: 50})
    server = Instances.get(hsm, :server)
    :ok = :sys.suspend(server)
    assert {:error, %Error{reason: :timeout}} = Cryptoki.Subscriber.subscribe(target)
    :ok = :sys.resume(server)
    assert :sys.get_state(server).watch.subscribers == %{}
    {:ok, ref} = Cryptoki.subscribe(hsm)
    assert [^ref] = Map.keys(:sys.get_state(server).watch.subscribers)
    :ok = Cryptoki.unsubscribe(hsm, ref)
    assert :sys.get_state(server).watch.subscribers == %{}
    Task.await(Task.async(fn -> Cryptoki.subscribe(hsm) end))
    await(fn -> :sys.get_state(server).watch.subscribers == %{} end)
  end

  test "slots of a library with the options of a call" do
    library = Keyword.take(MainToken.options(), [:library, :init_args])
    assert {:ok, [_ | _]} = Cryptoki.slots(library, timeout: 60_000)
    assert {:ok, [_ | _]} = :cryptoki.slots(Map.new(library), %{timeout: 60_000})
    assert_raise ArgumentError, ~r/timout/, fn -> Cryptoki.slots(library, timout: 1) end
  end

  test "URIs as Erlang has text, wherever a key is named", %{hsm: hsm} do
    uri = "pkcs11:object=door;type=secret-key"
    cbc = {:aes_cbc_pad, iv: <<0::128>>}

    for text <- [
          uri,
          to_charlist(uri),
          [?p, "kcs11:", ~c"object=door", [";type=", [~c"secret-key"]]]
        ] do
      assert {:ok, [_]} = :cryptoki.find(hsm, text)
      assert {:ok, [_]} = Cryptoki.find(hsm, text)
      assert {:ok, %{label: "door"}} = :cryptoki.attributes(hsm, text, [:label])
      assert {:ok, ciphertext} = :cryptoki.encrypt(hsm, text, cbc, "text")
      assert {:ok, "text"} = :cryptoki.decrypt(hsm, text, cbc, ciphertext)

      Cryptoki.with_session(hsm, fn session ->
        {:ok, op} = Cryptoki.start(session, :digest, :sha256)
        # The token may refuse it; it is found.
        answer = :cryptoki_operation.update(op, {:key, text})

        assert answer == :ok or match?({:error, {:key_indigestible, _}}, answer) or
                 match?({:error, {:operation_active, _}}, answer)

        Cryptoki.Operation.cancel(op)

        # No state of an operation, but a key that can be named.
        options = %{encryption_key: text}

        assert {:error, {reason, _}} =
                 :cryptoki_operation.restore(session, :encrypt, "x", options)

        assert reason not in [:key_not_found, :invalid_argument]
      end)
    end

    for text <- [[?p, :k], [0xD800], ["pkcs11:object=" | "door"]] do
      assert_raise ArgumentError, ~r/names no key|URI/, fn -> Cryptoki.find(hsm, text) end
    end
  end

  defp calls do
    [
      &Cryptoki.status/1,
      &Cryptoki.random(&1, 1),
      &Cryptoki.find(&1, label: "x"),
      &Cryptoki.token_info/1,
      &Cryptoki.subscribe/1,
      fn hsm -> Cryptoki.with_session(hsm, fn _ -> flunk("no session") end) end
    ]
  end
end
