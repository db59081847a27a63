defmodule Cryptoki.Dual do
  @moduledoc false
  # Two operations fed by one update (PKCS #11 v3.2, section 5.17): encryption and a digest or a
  # signature of the plaintext, in one pass. Only for tokens that can.

  alias Cryptoki.{Bytes, Chunks, Error, HSM, Operation, Operations, Steps}

  @functions %{
    {:encrypt, :digest} => :digest_encrypt,
    {:encrypt, :sign} => :sign_encrypt,
    {:decrypt, :digest} => :decrypt_digest,
    {:decrypt, :verify} => :decrypt_verify
  }

  @doc "The second operation that the options ask for, checked; nil for none."
  @spec second!(:encrypt | :decrypt, map) :: map | nil
  def second!(kind, options) do
    case for(name <- [:digest, :sign, :verify], options[name] != nil, do: name) do
      [] -> nil
      [name] -> second!(kind, name, options[name], Map.take(options, [:timeout, :metadata]))
      several -> raise ArgumentError, "give one of #{Enum.map_join(several, ", ", &"#{&1}:")}"
    end
  end

  defp second!(kind, name, what, options) do
    function = Map.fetch!(@functions, {kind, name})

    {key, mechanism, signature} =
      case {name, what} do
        {:digest, mechanism} ->
          {nil, mechanism, nil}

        {:sign, {key, mechanism}} ->
          {key, mechanism, nil}

        {:verify, {key, mechanism, signature}}
        when is_binary(signature) or is_list(signature) ->
          {key, mechanism, Bytes.binary!(signature, "verify: the signature")}

        {:sign, _other} ->
          raise ArgumentError, "sign: must be {key, mechanism}"

        {:verify, _other} ->
          raise ArgumentError, "verify: must be {key, mechanism, signature}"
      end

    name
    |> Operations.call!(key, mechanism, {:stream, []}, Enum.to_list(options))
    |> Map.merge(%{function: function, signature: signature})
  end

  @doc "Runs the encryption or decryption `first` together with `second`."
  @spec run(term, map, map) :: {:ok, term} | {:error, Error.t()}
  def run(hsm, first, second) do
    with {:error, error} <- HSM.with_session(hsm, first.options, &run_on(&1, first, second)),
         do: {:error, explained(error)}
  end

  # Whether a token can is not to be read from CKF_DUAL_CRYPTO_OPERATIONS: there are some that can and do
  # not set it. One operation at a time, or none of these functions: both mean no.
  defp explained(%Error{reason: reason, function: function})
       when reason in [:function_not_supported, :operation_active] do
    detail =
      "the token does no two operations at once (#{function} says #{reason}): run one by one"

    Error.new(:unsupported, detail, function: function)
  end

  defp explained(error), do: error

  defp run_on(session, first, second) do
    with {:ok, one} <- Operations.start(session, first),
         {:ok, two} <- or_cancel(Operations.start(session, second), one) do
      try do
        with {:ok, out} <- feed(one, two, second, Operations.enumerable(first.data)),
             {:ok, last} <- Operation.finish(one),
             do: answer(IO.iodata_to_binary([out, last]), two, second)
      after
        # Of an operation that is over there is nothing left to cancel.
        _ = Operation.cancel(one)
        _ = Operation.cancel(two)
      end
    end
  end

  defp or_cancel({:error, _error} = error, op) do
    _ = Operation.cancel(op)
    error
  end

  defp or_cancel(started, _op), do: started

  defp feed(one, two, %{function: function}, enumerable) do
    step = &{:dual_update, function, Steps.begun(one), Steps.begun(two), &1}

    Chunks.feed(enumerable, fn piece ->
      piece
      |> IO.iodata_to_binary()
      |> Chunks.cut()
      |> Chunks.send_all(&Steps.passed(one, &1, step.(&1)))
    end)
  end

  # Plaintext with a bad signature is given to nobody.
  defp answer(out, two, %{kind: :verify, signature: signature}),
    do: with(:ok <- Operation.finish(two, signature), do: {:ok, out})

  defp answer(out, two, _second),
    do: with({:ok, result} <- Operation.finish(two), do: {:ok, {out, result}})
end
