defmodule Mix.Cryptoki.Signing do
  @moduledoc false
  # What `mix cryptoki.sign` and `mix cryptoki.verify` take for granted, the same for both.

  alias Mix.Cryptoki.Words

  @usual %{
    rsa: :sha256_rsa_pkcs,
    ec: :ecdsa_sha256,
    ec_edwards: :eddsa,
    ml_dsa: :ml_dsa,
    slh_dsa: :slh_dsa,
    generic_secret: :sha256_hmac,
    aes: :aes_cmac
  }

  @doc "The mechanism that is said, or the usual one for the key."
  @spec mechanism!(pid, keyword, keyword) :: Cryptoki.mechanism()
  def mechanism!(hsm, selector, options), do: Words.mechanism!(hsm, selector, options, @usual)

  @doc "The option of `Cryptoki.sign/5` that `--format` stands for."
  @spec format(keyword) :: keyword
  def format(options),
    do: if(options[:format], do: [format: Words.name(options[:format])], else: [])
end
