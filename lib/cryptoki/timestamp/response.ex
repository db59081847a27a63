defmodule Cryptoki.Timestamp.Response do
  @moduledoc false
  # What clients are answered (RFC 3161, section 2.4.2): a token, or why there is none. Pure.

  alias Cryptoki.{DER, Error}
  alias Cryptoki.DER.Reader

  # The bit of each failure, its reason here, and what it says.
  @failures [
    bad_alg: {0, :unsupported, "it does not know the algorithm"},
    bad_request: {2, :invalid_argument, "it does not allow such a request, or does not know it"},
    bad_data_format: {5, :invalid_argument, "what it was sent has the wrong format"},
    time_not_available: {14, :busy, "it does not know the time"},
    unaccepted_policy: {15, :unsupported, "it does not stamp by this policy"},
    unaccepted_extension: {16, :unsupported, "it does not know the extension"},
    add_info_not_available: {17, :unsupported, "it cannot say what it was asked besides"},
    system_failure: {25, :busy, "it cannot answer just now"}
  ]

  @doc "An answer with a token."
  @spec granted(DER.t()) :: DER.t()
  def granted(token), do: DER.sequence([DER.sequence([DER.integer(0)]), token])

  @doc "An answer without one."
  @spec refused(atom, String.t()) :: DER.t()
  def refused(failure, text) do
    {bit, _reason, _text} = @failures[failure]
    status = [DER.integer(2), DER.sequence([DER.value(12, text)]), DER.named_bits([bit])]
    DER.sequence([DER.sequence(status)])
  end

  @doc "The token in an answer, which may be one itself; why there is none is an error."
  @spec token(Reader.t()) :: {:token, Reader.t()} | {:refused, Error.t()}
  def token(answer) do
    case Reader.values(Reader.is!(answer, 0x30)) do
      [%{tag: 6} | _] -> {:token, answer}
      [%{tag: 2} | _] -> Reader.wrong!(answer, "it is a request for one")
      _status -> in_answer(answer)
    end
  end

  defp in_answer(answer) do
    [status, token] = Reader.fields(answer, [{"status", 0x30}, {:maybe, "token", 0x30}])
    [number, texts, failures] = Reader.fields(status, [2, {:maybe, 0x30}, {:maybe, 3}])

    case {Reader.integer(number, 2), token} do
      {granted, %Reader{}} when granted in [0, 1] -> {:token, token}
      {granted, nil} when granted in [0, 1] -> Reader.wrong!(answer, "there is no token in it")
      {_refused, %Reader{}} -> Reader.wrong!(token, "none should be in a refusal")
      {_refused, nil} -> {:refused, refusal(texts, failures)}
    end
  end

  # The text is anybody's, of any length.
  defp refusal(texts, failures) do
    bits = if failures, do: Reader.named_bits(failures), else: []

    {reason, text} =
      Enum.find_value(@failures, {:unsupported, "it does not say why"}, fn {name,
                                                                            {bit, reason, text}} ->
        if bit in bits, do: {reason, "#{text} (#{name})"}
      end)

    said = if texts, do: texts |> Reader.sequence() |> Enum.map_join("; ", &Reader.string/1)
    said = if said, do: ": " <> inspect(String.slice(said, 0, 200)), else: ""
    Error.new(reason, "the time stamping authority refused: #{text}#{said}")
  end
end
