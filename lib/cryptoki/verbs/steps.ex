defmodule Cryptoki.Steps do
  @moduledoc false
  # The steps of an operation that has begun (`Cryptoki.Operation`), each a call of its own on its session.

  alias Cryptoki.{Call, Ecdsa, Error, HSM, Operation, SignatureForm, Target}

  @doc "Runs one."
  @spec run(Operation.t(), tuple) :: :ok | {:ok, term} | {:error, Error.t()}
  def run(op, native), do: with({:ok, target} <- target(op), do: Call.run(target, native))

  @doc "One of a cipher, which counts what goes in and what comes out."
  @spec passed(Operation.t(), binary, tuple) :: :ok | {:ok, term} | {:error, Error.t()}
  def passed(%{passed: nil} = op, _piece, native), do: run(op, native)

  def passed(%{passed: passed} = op, piece, native) do
    with {:ok, bytes} <- run(op, native) do
      :counters.add(passed, 1, byte_size(piece))
      :counters.add(passed, 2, byte_size(bytes))
      {:ok, bytes}
    end
  end

  @doc "Gives the operation up."
  @spec cancel(Operation.t()) :: :ok | {:error, Error.t()}
  def cancel(op), do: run(op, {:cancel, begun(op)})

  @doc "What the native side knows it by: when it is over its steps are nobody's."
  @spec begun(Operation.t()) :: {atom, pos_integer}
  def begun(%{kind: kind, number: number}), do: {kind, number}

  @doc "What its steps work on."
  @spec target(Operation.t()) :: {:ok, Target.t()} | {:error, Error.t()}
  def target(op) do
    with {:ok, target} <- HSM.target(op.session, op.options),
         do: {:ok, %{target | mechanism: op.mechanism}}
  end

  @doc "The result of a function as the standard has it."
  @spec in_form(Operation.t(), binary, atom) :: {:ok, binary} | {:error, Error.t()}
  def in_form(%{kind: kind} = op, signature, function) when kind in [:sign, :message_sign],
    do: SignatureForm.repair(signature, op.expected, op.mechanism, function)

  def in_form(_op, result, _function), do: {:ok, result}

  @doc "A signature as the standard has it, given in a form."
  @spec raw(binary, :raw | :der | {:der, pos_integer}) :: {:ok, binary} | {:error, Error.t()}
  def raw(signature, {:der, size}), do: Ecdsa.from_der(signature, size)
  def raw(signature, _raw), do: {:ok, signature}
end
