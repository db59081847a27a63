defmodule Cryptoki.Reconnect do
  @moduledoc false
  # What an instance counts while it cannot reach its token, or can and nothing else works: when it
  # tries again, and whether the library is initialised anew before that.
  #
  # | in a row                                               | the library is initialised anew
  # |--------------------------------------------------------|---------------------------------------
  # | "not initialised"                                      | at once
  # | the process of the library has ended                   | at once: it is started again
  # | device errors, general errors, "function failed"       | after three, and each three more
  # | sessions opened anew for such errors, nothing worked   | after three, and each three more
  # | the same other tokens in the slots, not the instance's | after 4, then 8, 16...: they may be meant
  #
  # OpenSC 0.23 answers CKR_GENERAL_ERROR for ever after pcscd was restarted. OpenSC 0.26 shows a card
  # that was pulled while it was read, and put back, as another one for ever.

  alias Cryptoki.Error

  @troubles [:device_error, :function_failed, :general_error]
  @patience 3
  @patience_with_others 4

  # What an error of these says may be about others' data: for a bad ciphertext SoftHSM answers
  # CKR_GENERAL_ERROR, and Kryoptic CKR_DEVICE_ERROR.
  @by_data ~w(Decrypt Verify UnwrapKey DeriveKey Decapsulate)

  # `failures` of any kind, `troubles` of the library itself; the `others` that were there instead, how
  # often, and how often it takes; sessions opened anew in vain, and how much had worked before.
  # `anew`: whether the library was initialised anew since the last failure, `refused` since the last success.
  defstruct failures: 0,
            reason: nil,
            troubles: 0,
            others: {[], 0},
            patience: @patience_with_others,
            fruitless: {0, 0},
            crashes: {0, 0},
            anew: :no,
            refused: false

  @typedoc "What tells the tokens in the slots from those of another time."
  @type others :: [term]
  @type t :: %__MODULE__{
          failures: non_neg_integer,
          reason: Error.reason() | nil,
          troubles: non_neg_integer,
          others: {others, non_neg_integer},
          patience: pos_integer,
          fruitless: {worked :: non_neg_integer, count :: non_neg_integer},
          crashes: {worked :: non_neg_integer, count :: non_neg_integer},
          anew: :no | :done | :refused,
          refused: boolean
        }

  @doc "One more that failed."
  @spec failed(t, Error.t(), others) :: t
  def failed(%__MODULE__{} = reconnect, %Error{reason: reason}, others) do
    reconnect = others(reconnect, others)
    troubles = troubles(reason, reconnect.troubles)
    %{reconnect | failures: reconnect.failures + 1, reason: reason, troubles: troubles, anew: :no}
  end

  defp others(%{others: {before, _count}} = reconnect, []), do: %{reconnect | others: {before, 0}}

  defp others(%{others: {before, count}, anew: anew} = reconnect, others)
       when others == before or anew == :done,
       do: %{reconnect | others: {others, count + 1}}

  # Others than before, and not because the library counts its slots anew: tried again soon.
  defp others(reconnect, others),
    do: %{reconnect | others: {others, 1}, patience: @patience_with_others, failures: 0}

  defp troubles(reason, before) when reason in [:cryptoki_not_initialized | @troubles],
    do: before + 1

  defp troubles(_reason, _before), do: 0

  @doc "One that succeeded."
  @spec connected(t) :: t
  def connected(%__MODULE__{fruitless: fruitless, crashes: crashes}),
    do: %__MODULE__{fruitless: fruitless, crashes: crashes}

  @doc """
  A connected instance has lost its library's process, when so much has worked: one that crashes at the first work it is given
  connects well each time, and is started less and less often all the same.
  """
  @spec crashed(t, worked :: non_neg_integer) :: t
  def crashed(%__MODULE__{crashes: {before, count}} = reconnect, worked) do
    count = if worked == before, do: count, else: 0
    %{reconnect | crashes: {worked, count + 1}, failures: count}
  end

  @doc "What a look at the slots has to say to one that waits: its token has come, or others did or went."
  @spec news(t, :came | :changed) :: t
  def news(%__MODULE__{} = reconnect, :came), do: connected(reconnect)
  def news(%__MODULE__{} = reconnect, :changed), do: reconnect

  @doc "Whether that is a reason to try again at once: others are only for one that found no token."
  @spec hopeful?(t, :came | :changed | :same) :: boolean
  def hopeful?(_reconnect, :came), do: true

  def hopeful?(%__MODULE__{reason: reason}, :changed),
    do: reason in [:token_absent, :token_ambiguous]

  def hopeful?(_reconnect, :same), do: false

  @doc """
  A session that was opened anew for a device error, when so much has worked. `:stuck` when connecting
  works and nothing else does: the library is initialised anew next, after a growing delay.
  """
  @spec reopened(t, Cryptoki.Native.failure(), worked :: non_neg_integer) :: {:stuck | :usual, t}
  def reopened(%__MODULE__{} = reconnect, failure, worked) do
    fruitless = fruitless(failure, worked, reconnect.fruitless)
    {_worked, count} = fruitless

    if fruitless != reconnect.fruitless and rem(count, @patience) == 0 do
      failures = div(count, @patience) - 1
      {:stuck, %{reconnect | fruitless: fruitless, failures: failures, troubles: count - 1}}
    else
      {:usual, %{reconnect | fruitless: fruitless}}
    end
  end

  defp fruitless({:rv, _code, function, :device}, worked, {before, count} = known) do
    cond do
      String.contains?(Atom.to_string(function), @by_data) -> known
      worked != before -> {worked, 1}
      true -> {before, count + 1}
    end
  end

  @doc "Whether the library is to be initialised anew before the next one."
  @spec reinitialize?(t) :: boolean
  def reinitialize?(%__MODULE__{anew: anew}) when anew != :no, do: false
  def reinitialize?(%__MODULE__{reason: :cryptoki_not_initialized, troubles: n}), do: n > 0
  def reinitialize?(%__MODULE__{reason: :library_crashed}), do: true
  def reinitialize?(%__MODULE__{troubles: n}) when n > 0, do: rem(n, @patience) == 0
  def reinitialize?(%__MODULE__{others: {_tokens, n}, patience: patience}), do: n >= patience

  @doc "It was, or others use it: then it stays due. For other tokens it is due less and less often."
  @spec reinitialized(t, :ok | {:error, Error.t()}) :: t
  def reinitialized(%__MODULE__{} = reconnect, {:error, _why}),
    do: %{reconnect | anew: :refused, refused: true}

  def reinitialized(%__MODULE__{others: {_tokens, n}, patience: patience} = reconnect, :ok) do
    patience = if n >= patience, do: 2 * patience, else: patience
    %{reconnect | anew: :done, patience: patience}
  end

  @doc """
  Milliseconds until the next one: doubles from `min` to `max`, less up to a half of it, so that
  instances do not knock in step.
  """
  @spec delay(t, %{min: pos_integer, max: pos_integer}) :: pos_integer
  def delay(%__MODULE__{failures: failures}, %{min: min, max: max}) do
    full = min(max, min * Integer.pow(2, min(max(failures - 1, 0), 20)))
    full - :rand.uniform(div(full, 2) + 1) + 1
  end
end
