defmodule Cryptoki.Mechanism.IV do
  @moduledoc false
  # Who chooses the IV of an encryption. Most tokens take the caller's. Some take one of their own and
  # write it over the caller's in the parameter (AWS CloudHSM), or put it behind the ciphertext (Thales
  # Luna in FIPS mode, ProtectServer): then a ciphertext alone is one that nobody can decrypt.

  alias Cryptoki.Error

  @enforce_keys [:given]
  defstruct [:given, :tag, none: false]

  @typedoc """
  `tag`: how many bytes of tag stand behind the ciphertext, nil for ciphers without. `none`: whether the
  mechanism can be given no IV at all.
  """
  @type t :: %__MODULE__{given: binary | :token, tag: non_neg_integer | nil, none: boolean}

  @typedoc "What the native side gives: with what was written into the parameter if it changed."
  @type result :: binary | {binary, written :: [binary]}

  # The IVs that tokens put behind ciphertexts.
  @behind [12, 16]

  @doc "The forms in which the token can be asked for an IV, and how to begin."
  @spec forms(t) :: [:over | :behind]
  def forms(%__MODULE__{none: none}), do: if(none, do: [:over, :behind], else: [:over])

  @doc """
  The end of a ciphertext, or the IV with it when the token was to choose; `:none` when it chose none.
  `plain` bytes went in, `before` bytes came out before.
  """
  @spec answer(t | nil, result, non_neg_integer, non_neg_integer) ::
          {:ok, binary | {iv :: binary, binary}} | :none | {:error, Error.t()}
  def answer(iv, result, plain, before \\ 0)
  def answer(nil, {bytes, _written}, _plain, _before), do: {:ok, bytes}
  def answer(nil, bytes, _plain, _before), do: {:ok, bytes}

  def answer(%{given: :token} = iv, result, plain, before) do
    case chosen(iv, result, plain, before) do
      {nil, _bytes} -> :none
      {own, bytes} -> {:ok, {own, bytes}}
    end
  end

  def answer(%{given: given} = iv, result, plain, before) do
    case chosen(iv, result, plain, before) do
      # Behind an IV of the caller's there may be nothing but an echo of it.
      {own, _bytes} when own in [nil, given] or given == "" -> {:ok, bytes(result)}
      {own, bytes} -> if chained?(own, bytes), do: {:ok, bytes}, else: {:error, replaced()}
    end
  end

  defp bytes({bytes, _written}), do: bytes
  defp bytes(bytes), do: bytes

  defp chosen(_iv, {bytes, [own | _more]}, _plain, _before), do: {own, bytes}
  defp chosen(%{tag: tag}, bytes, _plain, _before) when tag in [nil, 0], do: {nil, bytes}

  defp chosen(%{tag: tag}, bytes, plain, before) do
    case before + byte_size(bytes) - plain - tag do
      size when size in @behind and size <= byte_size(bytes) ->
        {bytes, own} = :erlang.split_binary(bytes, byte_size(bytes) - size)
        {own, bytes}

      _nothing_behind ->
        {nil, bytes}
    end
  end

  # CBC in place: the last block is where the next encryption would go on.
  defp chained?(own, bytes), do: own != "" and String.ends_with?(bytes, own)

  @doc "The token has taken another IV than it was given."
  @spec replaced() :: Error.t()
  def replaced do
    detail = "the token encrypted with an IV of its own: iv: :token lets it choose and answers it"
    Error.new(:unsupported, detail)
  end

  @doc "The token chooses none."
  @spec none() :: Error.t()
  def none do
    detail = "the token makes no IV for this mechanism: give one, of random bytes"
    Error.new(:unsupported, detail)
  end
end
