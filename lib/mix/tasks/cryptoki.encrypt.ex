defmodule Mix.Tasks.Cryptoki.Encrypt do
  use Mix.Cryptoki,
    usage: "URI [--in FILE] [--out FILE] [--mechanism NAME] [options]",
    switches: [in: :string, out: :string, mechanism: :string]

  alias Mix.Cryptoki.{Encryption, Files, Place}

  @shortdoc "Encrypts a file or standard input with a key of a token"

  @moduledoc """
  Encrypts with a secret key that stays in its token, or with the public key of a pair.

      $ mix cryptoki.encrypt "pkcs11:token=payments;object=archive" --in backup.tar --out backup.enc
      $ mix cryptoki.decrypt "pkcs11:token=payments;object=archive" --in backup.enc --out backup.tar

    * `--in FILE`, `-i`: what to encrypt, standard input when not given
    * `--out FILE`, `-o`: where the ciphertext goes, standard output when not given
    * #{Mix.Cryptoki.Words.mechanism_docs()}.
      Without it `aes_gcm` or, for RSA, `rsa_pkcs_oaep:hash=sha256`, as the key is (SoftHSM does `hash=sha_1` only)

  #{Encryption.docs()}

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    {uri, selector} = Place.key!(arguments, options)

    Place.logged_in(uri, options, fn hsm ->
      mechanism = Encryption.mechanism!(hsm, selector, options)

      Files.progress("encrypting", fn count ->
        with {:ok, iv, mechanism} <- Encryption.new_iv(hsm, mechanism),
             data = Files.input(options, count),
             {:ok, chunks} <- encrypt(hsm, selector, mechanism, data),
             do: Files.output_stream(Stream.concat([iv], chunks), options)
      end)
    end)
  end

  defp encrypt(hsm, selector, mechanism, {:stream, chunks}),
    do: {:ok, Cryptoki.encrypt_stream(hsm, selector, mechanism, chunks)}

  defp encrypt(hsm, selector, mechanism, data) do
    with {:ok, result} <- Cryptoki.encrypt(hsm, selector, mechanism, data) do
      # With the IV that the token has chosen.
      if is_tuple(result), do: {:ok, Tuple.to_list(result)}, else: {:ok, [result]}
    end
  end
end
