defmodule Cryptoki.SessionTest do
  use ExUnit.Case, async: true

  alias Cryptoki.{Error, Operation, Session}
  alias Cryptoki.Test.MainToken

  setup do
    %{hsm: start_supervised!({Cryptoki, MainToken.options(sessions: 2)})}
  end

  describe "with_session/3" do
    test "answers what the function answers, in this process", %{hsm: hsm} do
      me = self()

      assert Cryptoki.with_session(hsm, fn %Session{} = session ->
               assert self() == me
               assert %{sessions: %{busy: 1}} = Cryptoki.status!(session)
               assert Cryptoki.with_session(session, & &1) == session
               {Cryptoki.digest!(session, :sha256, "abc"), :mine}
             end) == {:crypto.hash(:sha256, "abc"), :mine}

      assert inspect(Cryptoki.with_session(hsm, & &1)) =~ "#Cryptoki.Session<"
    end

    test "serves this process only, until the function ends", %{hsm: hsm} do
      session =
        Cryptoki.with_session(hsm, fn session ->
          task = Task.async(fn -> catch_error(Cryptoki.digest(session, :sha256, "")) end)
          assert %ArgumentError{message: message} = Task.await(task, 60_000)
          assert message =~ "belongs to #{inspect(self())}"
          session
        end)

      assert {:error, %Error{reason: :session_lost}} = Cryptoki.digest(session, :sha256, "")
    end

    test "gives the session back when the function raises, throws, or its process dies", %{
      hsm: hsm
    } do
      for _ <- 1..10 do
        assert_raise RuntimeError, fn -> Cryptoki.with_session(hsm, fn _ -> raise "stop" end) end
        assert catch_throw(Cryptoki.with_session(hsm, fn _ -> throw(:stop) end)) == :stop

        {pid, ref} =
          spawn_monitor(fn ->
            Cryptoki.with_session(hsm, fn session ->
              {:ok, op} = Cryptoki.start(session, :digest, :sha256)
              :ok = Operation.update(op, "left behind")
              Process.exit(self(), :kill)
            end)
          end)

        assert_receive {:DOWN, ^ref, :process, ^pid, :killed}
      end

      for _ <- 1..10, do: assert({:ok, _} = Cryptoki.digest(hsm, :sha256, ""))
      assert %{sessions: %{open: 2}} = Cryptoki.status!(hsm)
    end

    test "waits for a session no longer than its timeout", %{hsm: hsm} do
      Cryptoki.with_session(hsm, fn _ ->
        Cryptoki.with_session(hsm, fn _ ->
          assert {:error, %Error{reason: :timeout, executed: false}} =
                   Cryptoki.with_session(hsm, fn _ -> flunk("no session is left") end, timeout: 20)

          assert {:error, %Error{reason: :timeout, executed: false}} =
                   Cryptoki.digest(hsm, :sha256, "", timeout: 20)
        end)
      end)

      assert {:ok, _digest} = Cryptoki.digest(hsm, :sha256, "")
      refute_received _anything
    end
  end

  describe "multi-part operations" do
    test "of each kind", %{hsm: hsm} do
      aes = Cryptoki.generate_key!(hsm, :aes_key_gen, label: "multi", value_len: 16)
      template = [label: "multi", modulus_bits: 2048]
      {public, private} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, template)
      chunks = for n <- 1..5, do: :binary.copy(<<n>>, n * 20_000)
      data = IO.iodata_to_binary(chunks)
      cbc = {:aes_cbc_pad, iv: <<0::128>>}

      Cryptoki.with_session(hsm, fn session ->
        op = Cryptoki.start!(session, :sign, private, :sha256_rsa_pkcs)
        for chunk <- chunks, do: :ok = Operation.update(op, chunk)
        assert {:ok, signature} = Operation.finish(op)
        assert signature == Cryptoki.sign!(hsm, private, :sha256_rsa_pkcs, data)

        op = Cryptoki.start!(session, :verify, public, :sha256_rsa_pkcs)
        for chunk <- chunks, do: :ok = Operation.update(op, [chunk])
        assert :ok = Operation.finish(op, signature)

        op = Cryptoki.start!(session, :encrypt, aes, cbc)
        out = for chunk <- chunks, do: elem({:ok, _} = Operation.update(op, chunk), 1)
        assert {:ok, last} = Operation.finish(op)
        ciphertext = IO.iodata_to_binary([out, last])
        assert ciphertext == Cryptoki.encrypt!(hsm, aes, cbc, data)

        op = Cryptoki.start!(session, :decrypt, aes, cbc)
        assert {:ok, out} = Operation.update(op, ciphertext)
        assert {:ok, last} = Operation.finish(op)
        assert out <> last == data

        op = Cryptoki.start!(session, :digest, nil, :sha256)
        assert :ok = Operation.update(op, data)
        assert {:ok, digest} = Operation.finish(op)
        assert digest == :crypto.hash(:sha256, data)
      end)
    end

    test "can be given up, and are not finished twice", %{hsm: hsm} do
      Cryptoki.with_session(hsm, fn session ->
        {:ok, op} = Cryptoki.start(session, :digest, :sha256)
        :ok = Operation.update(op, "a")
        assert :ok = Operation.cancel(op)
        assert {:error, %Error{reason: :operation_not_initialized}} = Operation.update(op, "b")

        {:ok, op} = Cryptoki.start(session, :digest, :sha256)
        assert {:ok, _} = Operation.finish(op)
        assert {:error, %Error{reason: :operation_not_initialized}} = Operation.finish(op)
      end)
    end

    test "given up do not cost the keys made in the session" do
      {:ok, hsm} = Cryptoki.start_link(MainToken.options(sessions: 1))
      {:ok, key} = Cryptoki.generate_key(hsm, :aes_key_gen, value_len: 16)

      {:ok, {_public, private}} =
        Cryptoki.generate_key_pair(hsm, :rsa_pkcs_key_pair_gen, modulus_bits: 1024)

      chunks = Stream.map(1..3, fn n -> if n == 3, do: raise("bad"), else: <<0::800_000>> end)

      for _ <- 1..12 do
        assert_raise RuntimeError, fn ->
          Cryptoki.sign(hsm, private, :sha256_rsa_pkcs, {:stream, chunks})
        end

        assert {:ok, _} = Cryptoki.encrypt(hsm, key, :aes_ecb, <<0::128>>)
      end

      Cryptoki.stop(hsm)
    end

    test "are checked", %{hsm: hsm} do
      Cryptoki.with_session(hsm, fn session ->
        {:ok, op} = Cryptoki.start(session, :digest, :sha256)
        assert_raise ArgumentError, ~r/without signature/, fn -> Operation.finish(op, "x") end

        assert_raise ArgumentError, fn ->
          Cryptoki.start(session, :hash, [label: "x"], :sha256)
        end

        assert_raise ArgumentError, fn ->
          Cryptoki.start(session, :digest, [label: "x"], :sha256)
        end
      end)
    end
  end
end
