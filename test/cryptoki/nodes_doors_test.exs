defmodule Cryptoki.NodesDoorsTest do
  # Every function of both doors that takes an instance takes one of another node, as the documentation names its
  # arguments; and what is of a session there, message by message.
  use ExUnit.Case, async: false

  alias Cryptoki.{Error, Operation}
  alias Cryptoki.Test.{Cluster, Panics, Token}

  @away {__MODULE__.HSM, :"gone@127.0.0.1"}
  @lazy ~w[stream encrypt_stream decrypt_stream]a

  setup_all do
    Cluster.join()
    :ok
  end

  # Those of the first door, with their arguments.
  defp functions do
    {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(Cryptoki)

    for {{:function, name, _arity}, _line, [signature | _], _doc, _more} <- docs,
        {_name, _, arguments} = Code.string_to_quoted!(signature),
        names = Enum.map(arguments, &argument/1),
        hd(names) == :hsm,
        do: {name, names}
  end

  defp argument({:\\, _, [{name, _, _}, _default]}), do: name
  defp argument({name, _, _}), do: name

  defp value(:hsm), do: @away
  defp value(:opts), do: %{timeout: 20_000}
  defp value(:mechanism), do: :sha256
  defp value(:names), do: [:label]
  defp value(:pin), do: {:env, "CRYPTOKI_NO_SUCH_PIN"}
  defp value(:ref), do: make_ref()
  defp value(:fun), do: fn _session -> flunk("a session") end
  defp value(:count), do: 1
  defp value(:chunks), do: ["data"]
  defp value(name) when name in ~w[data signature seed blob importable given]a, do: "data"
  defp value(name) when name in ~w[template]a, do: %{label: "x"}
  defp value(_selector), do: %{label: "x"}

  test "each says of a node that is away that nothing was sent" do
    functions = functions()
    assert length(functions) > 60

    for {name, names} <- functions do
      arguments = Enum.map(names, &value/1)
      said = outcome(name, fn -> apply(Cryptoki, name, listed(arguments)) end)
      assert {^name, %Error{reason: :node_down, executed: false}} = {name, said}
    end
  end

  # The Elixir door takes keyword lists, and maps as well where it takes options.
  defp listed(arguments), do: Enum.map(arguments, &if(is_map(&1), do: Map.to_list(&1), else: &1))

  defp outcome(name, fun) do
    case fun.() do
      {:error, error} -> error
      stream when name in @lazy -> Enum.to_list(stream)
    end
  rescue
    error in Error -> error
  end

  test "and so does each from Erlang" do
    exports = :cryptoki.module_info(:exports)

    for {name, names} <- functions(), {name, length(names)} in exports, name not in @lazy do
      arguments = Enum.map(names, &value/1)

      assert {^name, {:node_down, %{executed: false}}} =
               {name, reason(fn -> apply(:cryptoki, name, arguments) end)}
    end
  end

  defp reason(fun) do
    with {:error, reason} <- fun.(), do: reason
  rescue
    error in ErlangError -> error.original
  end

  for token <- Token.having(:aes_gcm, :message_encrypt) do
    @tag skip: token.skip
    test "messages of #{token.title} are encrypted and decrypted where the session is" do
      {peer, node} = Cluster.start()
      options = Token.options(unquote(Macro.escape(token)), name: __MODULE__.HSM, sessions: 1)
      {:ok, _hsm} = :peer.call(peer, Panics, :start, [options], :infinity)
      hsm = {__MODULE__.HSM, node}
      key = [value_len: 32, encrypt: true, decrypt: true]

      Cryptoki.with_session(hsm, fn session ->
        {:ok, key} = Cryptoki.generate_key(session, :aes_key_gen, key)
        iv = :crypto.strong_rand_bytes(12)
        {:ok, op} = Cryptoki.start(session, :message_encrypt, key, :aes_gcm)
        assert inspect(op) =~ "message_encrypt"

        messages =
          for text <- ["", "one", :binary.copy("x", 70_000)] do
            {:ok, message} = Operation.message(op, [iv: iv], "header", text)
            {text, message}
          end

        assert :ok = Operation.finish(op)
        {:ok, op} = Cryptoki.start(session, :message_decrypt, key, :aes_gcm)

        for {text, message} <- messages do
          parameters = %{iv: iv, tag: message.tag}
          assert {:ok, ^text} = Operation.message(op, parameters, "header", message.ciphertext)
        end

        assert :ok = Operation.finish(op)
      end)

      assert {:messages, []} == Process.info(self(), :messages)
    end
  end
end
