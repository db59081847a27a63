defmodule Mix.Cryptoki.Wrapping do
  @moduledoc false
  # What `mix cryptoki.wrap` and `mix cryptoki.unwrap` take for granted, the same for both.

  alias Mix.Cryptoki.Words

  # AES key wrap with padding (RFC 5649), which wraps a key of any length; SoftHSM has it under an older name.
  @padded [:aes_key_wrap_kwp, :aes_key_wrap_pad]

  @spec docs() :: String.t()
  def docs,
    do:
      "Without it, with an AES key, key wrap with padding (RFC 5649), which tokens call " <>
        Enum.map_join(@padded, " or ", &"`#{&1}`")

  @doc "The mechanism that is said, or the usual one for the key and the token."
  @spec mechanism!(pid, keyword, keyword) :: Cryptoki.mechanism()
  def mechanism!(hsm, selector, options) do
    mechanisms = if options[:mechanism], do: [], else: Cryptoki.mechanisms!(hsm)
    usual = for padded <- @padded, padded in mechanisms, do: {:aes, padded}
    Words.mechanism!(hsm, selector, options, Map.new(Enum.take(usual, 1)))
  end
end
