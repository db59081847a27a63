defmodule Cryptoki.Lazy do
  @moduledoc false
  # Encryption and decryption as lazy streams: the session is taken when the stream is first asked
  # for something, by the process that asks, and given back when it ends, is halted or raises.

  alias Cryptoki.{Chunks, Ciphers, Error, HSM, Operation, Operations}

  @spec stream(term, :encrypt | :decrypt, term, term, Enumerable.t(), keyword) :: Enumerable.t()
  def stream(hsm, kind, key, mechanism, chunks, opts) do
    unless Chunks.enumerable?(chunks) do
      raise ArgumentError,
            "#{kind}_stream needs something that can be enumerated, with iodata in it"
    end

    allowed = Operations.start_options(kind)
    call = Operations.call!(kind, key, mechanism, {:stream, chunks}, opts, allowed)
    # The IV is known when the stream has gone by.
    call = Ciphers.given!(call, "a lazy stream: encrypt/5 takes {:stream, enumerable}")

    chunks
    |> Chunks.regroup()
    |> Stream.transform(
      fn -> begin(hsm, call, [kind, key, mechanism, opts]) end,
      fn piece, {op, _give_back} = state -> {op |> Operation.update(piece) |> bytes(), state} end,
      fn {op, _give_back} = state -> {op |> Operation.finish() |> bytes(), state} end,
      fn {op, give_back} -> leave(op, give_back) end
    )
  end

  defp begin(hsm, call, arguments) do
    {session, give_back} =
      case HSM.take(hsm, call.options, {Operations, :start, [hsm | arguments]}) do
        {:ok, session, give_back} -> {session, give_back}
        {:error, error} -> raise error
      end

    try do
      case start(session, call, arguments) do
        {:ok, op} -> {op, give_back}
        {:error, error} -> raise error
      end
    catch
      kind, reason ->
        give_back.()
        :erlang.raise(kind, reason, __STACKTRACE__)
    end
  end

  # A call that has been checked is not sent to another node, there are functions in it; for a group its key is.
  defp start(%{there: nil, member: nil} = session, call, _arguments),
    do: Operations.start(session, call)

  defp start(session, _call, arguments),
    do: HSM.there(session, {Operations, :start, [session | arguments]})

  # Of an operation that is over there is nothing left to cancel. One on the caller's own session
  # must not stay; a session of ours is cleaned when it is given back.
  defp leave(op, give_back) do
    _ = Operation.cancel(op)
    give_back.()
  end

  defp bytes({:ok, ""}), do: []
  defp bytes({:ok, bytes}), do: [bytes]
  defp bytes({:error, %Error{} = error}), do: raise(error)
end
