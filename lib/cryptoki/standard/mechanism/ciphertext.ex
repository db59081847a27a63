defmodule Cryptoki.Mechanism.Ciphertext do
  @moduledoc false
  # How long what a cipher has made can be: whole blocks, and not shorter than its tag. What is not so long
  # is refused here, since tokens are known to take a ciphertext shorter than its tag for authentic.

  alias Cryptoki.Error

  @typedoc "A multiple of `block` bytes, `least` at least."
  @type rule :: {block :: pos_integer, least :: non_neg_integer}

  # PKCS #11 v3.2, sections 6.10 to 6.18 and 6.45 to 6.51; key wrapping: RFC 3394 and RFC 5649.
  @sixteen ~w[aes camellia aria seed twofish]
  @eight ~w[des des3 blowfish cast cast3 cast128 idea cdmf rc2]

  @rules for {ciphers, block} <- [{@sixteen, 16}, {@eight, 8}],
             cipher <- ciphers,
             {mode, least} <- [{"ecb", 0}, {"cbc", 0}, {"cbc_pad", block}],
             into: %{
               aes_cts: {1, 16},
               aes_xts: {1, 16},
               aes_key_wrap: {8, 24},
               aes_key_wrap_kwp: {8, 16},
               aes_key_wrap_pad: {8, 16},
               aes_key_wrap_pkcs7: {8, 24}
             },
             do: {:"#{cipher}_#{mode}", {block, least}}

  @doc "The rule of a mechanism by its name, with a tag of so many bytes; nil for none."
  @spec rule(atom | non_neg_integer, non_neg_integer | nil) :: rule | nil
  def rule(_name, tag) when tag != nil, do: {1, tag}
  def rule(name, nil), do: Map.get(@rules, name)

  @doc "Whether a ciphertext can be so long; `reason` is what is said of one that cannot."
  @spec check(rule | nil, non_neg_integer, atom) :: :ok | {:error, Error.t()}
  def check(rule, size, reason \\ :encrypted_data_len_range)

  def check({block, least}, size, reason) when size < least or rem(size, block) != 0 do
    more = if block > 1, do: ", in blocks of #{block}", else: ""
    {:error, Error.new(reason, "#{size} bytes, it has at least #{least}#{more}")}
  end

  def check(_rule, _size, _reason), do: :ok
end
