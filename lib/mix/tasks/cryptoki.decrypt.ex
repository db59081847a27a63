defmodule Mix.Tasks.Cryptoki.Decrypt do
  use Mix.Cryptoki,
    usage: "URI [--in FILE] [--out FILE] [--mechanism NAME] [options]",
    switches: [in: :string, out: :string, mechanism: :string]

  alias Cryptoki.Error
  alias Mix.Cryptoki.{Encryption, Files, Place}

  @shortdoc "Decrypts a file or standard input with a key of a token"

  @moduledoc """
  Decrypts what `mix cryptoki.encrypt` or another program has encrypted. The file of `--out` is there when
  all of it has been decrypted, and not before: until then it is in `FILE.part`, which nobody else may read and which goes
  with this program, however it ends. Standard output may have got the beginning.

      $ mix cryptoki.decrypt "pkcs11:token=payments;object=archive" --in backup.enc --out backup.tar
      $ mix cryptoki.decrypt "pkcs11:token=payments;object=inbox" --mechanism rsa_pkcs_oaep:hash=sha_1 < secret

    * `--in FILE`, `-i`: what to decrypt, standard input when not given
    * `--out FILE`, `-o`: where the plaintext goes, standard output when not given
    * #{Mix.Cryptoki.Words.mechanism_docs()}.
      Without it `aes_gcm` or, for RSA, `rsa_pkcs_oaep:hash=sha256`, as the key is

  #{Encryption.docs()}

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    {uri, selector} = Place.key!(arguments, options)

    Place.logged_in(uri, options, fn hsm ->
      mechanism = Encryption.mechanism!(hsm, selector, options)
      size = Encryption.iv_size(mechanism)

      Files.progress("decrypting", fn count ->
        with {:ok, iv, data} <- input(size, options, count),
             mechanism = Encryption.with_iv(mechanism, iv),
             {:ok, chunks} <- decrypt(hsm, selector, mechanism, data),
             do: Files.output_stream(chunks, options)
      end)
    end)
  end

  defp input(size, options, count) do
    case Files.input(options, count, size) do
      {iv, data} when byte_size(iv) == size ->
        {:ok, iv, data}

      _short ->
        {:error,
         Error.new(
           :encrypted_data_len_range,
           "it is shorter than the IV of #{size} bytes that stands before it"
         )}
    end
  end

  defp decrypt(hsm, selector, mechanism, {:stream, chunks}),
    do: {:ok, Cryptoki.decrypt_stream(hsm, selector, mechanism, chunks)}

  defp decrypt(hsm, selector, mechanism, data) do
    with {:ok, plaintext} <- Cryptoki.decrypt(hsm, selector, mechanism, data),
         do: {:ok, [plaintext]}
  end
end
