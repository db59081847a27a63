defmodule Mix.Tasks.Cryptoki.Import do
  alias Mix.Cryptoki.Secrets

  use Mix.Cryptoki,
    usage: "URI [--in FILE] [--type NAME] [--for USES] [--attribute NAME=VALUE]... [options]",
    switches:
      [in: :string, type: :string, for: :string, attribute: :keep] ++
        Secrets.switches([:password])

  alias Cryptoki.{PEM, X509}
  alias Mix.Cryptoki.{Files, Place, Words}

  @shortdoc "Takes a key, a certificate or data into a token"

  @moduledoc """
  Takes a key of a file into a token, proves that it is there, and prints its PKCS #11 URI: a private key, with
  its public key beside it, a public key, a secret key; or a certificate, or data. What a key may be written
  as is what `Cryptoki.import_key/4` takes.

      $ mix cryptoki.import "pkcs11:token=payments;object=legacy;id=%07" --in legacy.pem
      $ mix cryptoki.import "pkcs11:token=payments;object=legacy;id=%07" --in legacy.crt
      $ mix cryptoki.import "pkcs11:token=payments;object=archive" --type aes --in archive.key

  The URI says on which token, with which label (`object`) and which `id`; if the token has a key of that
  name already, nothing is made. A key in a file has been outside of the token, and stays in the file:
  delete that.

    * `--in FILE`, `-i`: the file, standard input when not given
    * `--type NAME`, `-t`: `key`, `cert`, `data`, or `aes` and `hmac` for the bytes of a secret key as they
      are; without it a key or a certificate, as the file is
    * #{Words.uses_docs()}
    * `--attribute NAME=VALUE`, `-a`: one more attribute, as often as wanted
    * #{Secrets.docs(:password, "the password of an encrypted file")}

  #{Mix.Cryptoki.docs()}
  """

  @secret ~w[aes hmac]
  @types ~w[key cert data] ++ @secret

  defp task(arguments, options) do
    {uri, selector} = Place.key!(arguments, options)
    template = [token: true] ++ Keyword.delete(selector, :class) ++ Words.uses!(options)
    template = Keyword.merge(template, Words.template!(options, :attribute))

    unless options[:type] in [nil | @types],
      do: raise(ArgumentError, "--type #{options[:type]} is none of #{Enum.join(@types, ", ")}")

    file = Files.whole(options)

    with {:ok, classes, make} <- made(options[:type] || kind(file), file, template, options) do
      Place.logged_in(uri, options, fn hsm ->
        with :ok <- Place.free(hsm, Keyword.take(template, [:label, :id]), classes),
             {:ok, object} <- Files.progress("importing", fn _count -> make.(hsm) end),
             do: Place.print_uri(object)
      end)
    end
  end

  defp kind(file) do
    with {:ok, [der | _]} <- PEM.ders(file, :certificate, 2),
         {:ok, "CERTIFICATE"} <- PEM.label(der),
         {:ok, _certificate} <- X509.certificate(der),
         do: "cert",
         else: (_other -> "key")
  end

  @keys [:private_key, :public_key, :secret_key]

  # The classes among which its name has to be free, and what makes it.
  defp made(type, bytes, template, _options) when type in @secret,
    do: {:ok, @keys, &Cryptoki.import_key(&1, {Words.name(type), bytes}, template)}

  defp made("data", bytes, template, _options) do
    template = Keyword.merge([class: :data, private: true, value: bytes], template)
    {:ok, [:data], &Cryptoki.create(&1, template)}
  end

  defp made("cert", file, template, options) do
    case PEM.ders(file, :certificate, 3) do
      {:ok, [der]} ->
        {:ok, [:certificate], &X509.store(&1, der, template)}

      {:ok, _several} ->
        raise ArgumentError, "the file has several certificates: give each a name of its own"

      {:error, sentence} ->
        Mix.Cryptoki.refuse!("#{options[:in] || "standard input"}: #{sentence}")
    end
  end

  defp made("key", file, template, options) do
    with {:ok, password} <- password(file, options) do
      password = if password, do: [password: password], else: []
      {:ok, @keys, &Cryptoki.import_key(&1, file, template, password)}
    end
  end

  # PEM says of itself that it is encrypted.
  defp password(file, options) do
    case Secrets.named(:password, options) || Secrets.usual(:password) do
      nil -> if file =~ "ENCRYPTED", do: Secrets.ask("Password of the file"), else: {:ok, nil}
      source -> {:ok, source}
    end
  end
end
