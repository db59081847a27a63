defmodule Cryptoki.Message do
  @moduledoc false
  # One message of a message-based operation (PKCS #11 v3.2, sections 5.9, 5.11, 5.14 and 5.16), in
  # one call or in parts.

  import Cryptoki.Names, only: [is_proper_list: 1]

  alias Cryptoki.{Bytes, Chunks, Error, Operation, Steps}
  alias Cryptoki.Mechanism.Message

  @doc "Behind `Cryptoki.Operation.message/4`."
  @spec run(Operation.t(), term, iodata, iodata | {:stream, Enumerable.t()}) ::
          :ok | {:ok, binary | map} | {:error, Error.t()}
  def run(op, parameters, extra, {:stream, enumerable}) do
    extra = binary!(extra)

    with {:ok, {wire, names}} <- encode(op, parameters, []),
         do: in_parts(op, wire, names, extra, enumerable)
  end

  def run(op, parameters, extra, data) do
    data = binary!(data)

    with {:ok, {wire, names}} <- encode(op, parameters, plaintext_size: byte_size(data)),
         {:ok, {bytes, written}} <-
           Steps.run(op, {:message, Steps.begun(op), wire, binary!(extra), data}),
         do: answer(op, bytes, names, written)
  end

  defp in_parts(op, wire, names, extra, enumerable) do
    with {:ok, written} <-
           Steps.run(op, {:message_begin, Steps.begun(op), wire, associated(op, extra)}),
         wire = begun(wire, names, written),
         {:ok, out} <- parts(op, wire, enumerable),
         {:ok, {last, written}} <- next(op, wire, "", true, signature(op, extra)),
         do: answer(op, IO.iodata_to_binary([out, last]), names, written)
  catch
    # The message cannot be finished, and there is no other way out of it.
    kind, reason ->
      _ = Steps.cancel(op)
      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  defp parts(op, wire, enumerable) do
    Chunks.feed(enumerable, fn piece ->
      piece
      |> IO.iodata_to_binary()
      |> Chunks.cut()
      |> Chunks.send_all(fn piece ->
        with {:ok, {bytes, _written}} <- next(op, wire, piece, false, ""), do: {:ok, bytes}
      end)
    end)
  end

  defp next(op, wire, data, last, signature),
    do: Steps.run(op, {:message_next, Steps.begun(op), wire, data, last, signature})

  # The parts have to name the IV that the first call has made.
  defp begun(wire, [:iv | _names], [iv | _written]), do: Message.with_iv(wire, iv)
  defp begun(wire, _names, _written), do: wire

  defp associated(%{kind: :message_verify}, _signature), do: ""
  defp associated(_op, data), do: data

  defp signature(%{kind: :message_verify}, signature), do: signature
  defp signature(_op, _data), do: ""

  # What is wrong with what came with a message is an error of this message.
  defp encode(op, parameters, context) do
    {:ok, encode!(op, parameters, context)}
  rescue
    error in Error -> {:error, error}
  end

  defp encode!(%{kind: kind, mechanism: mechanism}, parameters, context)
       when kind in [:message_encrypt, :message_decrypt],
       do: Message.encode!(mechanism, kind, parameters, context)

  defp encode!(_op, nil, _context), do: {nil, []}
  defp encode!(_op, bytes, _context) when is_binary(bytes), do: {bytes, []}
  defp encode!(_op, {:struct, fields}, _context) when is_proper_list(fields), do: {fields, nil}

  defp encode!(_op, _parameters, _context) do
    raise ArgumentError,
          "the parameters of a signed message are nil, a binary or {:struct, fields}"
  end

  defp answer(%{kind: :message_verify}, _bytes, _names, _written), do: :ok

  defp answer(%{kind: :message_sign} = op, signature, _names, _written),
    do: Steps.in_form(op, signature, :C_SignMessage)

  defp answer(%{kind: :message_decrypt}, plaintext, _names, _written), do: {:ok, plaintext}

  defp answer(_encrypted, ciphertext, nil, written),
    do: {:ok, %{ciphertext: ciphertext, written: written}}

  defp answer(_encrypted, ciphertext, names, written),
    do: {:ok, names |> Enum.zip(written) |> Map.new() |> Map.put(:ciphertext, ciphertext)}

  defp binary!(data), do: Bytes.binary!(data, "a message")
end
