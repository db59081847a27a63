defmodule Mix.Tasks.Cryptoki.Import do
  alias Mix.Cryptoki.Secrets

  use Mix.Cryptoki,
    usage: "URI [--in FILE] [--type NAME] [--for USES] [--attribute NAME=VALUE]... [options]",
    switches:
      [in: :string, type: :string, for: :string, attribute: :keep, how: :string] ++
        Secrets.switches([:password])

  alias Cryptoki.{Error, PEM, X509}
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
    * `--type NAME`, `-t`: `key`, `cert`, `pkcs12` (a key, and its certificate beside it), `data`, or `aes`
      and `hmac` for the bytes of a secret key as they are; without it the first, second or third, as the file is
    * #{Words.uses_docs()}
    * `--attribute NAME=VALUE`, `-a`: one more attribute, as often as wanted
    * `--how NAME`: `create`, `unwrap` or `auto`, the way into the token, see `Cryptoki.import_key/4`
    * #{Secrets.docs(:password, "the password of an encrypted file")}

  #{Mix.Cryptoki.docs()}
  """

  @secret ~w[aes hmac]
  @types ~w[key cert pkcs12 data] ++ @secret
  @ways ~w[create unwrap auto]

  defp task(arguments, options) do
    {uri, selector} = Place.key!(arguments, options)
    template = [token: true] ++ Keyword.delete(selector, :class) ++ Words.uses!(options)
    template = Keyword.merge(template, Words.template!(options, :attribute))
    one_of!(options, :type, @types)
    one_of!(options, :how, @ways)
    file = Files.whole(options)

    with {:ok, classes, make} <- made(options[:type] || kind(file), file, template, options) do
      Place.logged_in(uri, options, fn hsm ->
        with :ok <- Place.free(hsm, Keyword.take(template, [:label, :id]), classes),
             {:ok, objects} <- Files.progress("importing", fn _count -> make.(hsm) end),
             do: objects |> List.wrap() |> Enum.each(&Place.print_uri/1)
      end)
    end
  end

  defp one_of!(options, name, known) do
    unless options[name] in [nil | known],
      do: raise(ArgumentError, "--#{name} #{options[name]} is none of #{Enum.join(known, ", ")}")
  end

  # A PFX is a sequence that begins with its version, 3 (RFC 7292, section 4); PKCS #8 and PKCS #1 have others.
  @pfx ~r/\A\x30(?:[\x00-\x80]|\x81.|\x82..|\x83...|\x84....)\x02\x01\x03\x30/s

  defp kind(file) do
    with false <- file =~ @pfx or file =~ ~r/^-----BEGIN PKCS12-----/m,
         {:ok, [der | _]} <- PEM.ders(file, :certificate, 2),
         {:ok, "CERTIFICATE"} <- PEM.label(der),
         {:ok, _certificate} <- X509.certificate(der) do
      "cert"
    else
      true -> "pkcs12"
      _other -> "key"
    end
  end

  @keys [:private_key, :public_key, :secret_key]

  # The classes among which its name has to be free, and what makes it.
  defp made(type, bytes, template, options) when type in @secret,
    do: {:ok, @keys, &Cryptoki.import_key(&1, {Words.name(type), bytes}, template, how(options))}

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
    # PEM says of itself that it is encrypted.
    with {:ok, password} <- password(file =~ "ENCRYPTED", options),
         do: {:ok, @keys, &Cryptoki.import_key(&1, file, template, password ++ how(options))}
  end

  defp made("pkcs12", file, template, options) do
    with {:ok, password} <- password(true, options) do
      options = password ++ how(options)
      named = Keyword.take(template, [:label, :id, :token])
      {:ok, [:certificate | @keys], &pkcs12(&1, file, template, named, options)}
    end
  end

  # Of those above it nobody has said how they are called.
  defp pkcs12(hsm, file, template, named, options) do
    with {:ok, {key, certificates}} <-
           Cryptoki.import_key(hsm, {:pkcs12, file}, template, options),
         {:ok, own} <- store(hsm, Enum.take(certificates, 1), named) do
      more = length(certificates) - 1
      if more > 0, do: IO.puts(:stderr, "certificates of the file that are not stored: #{more}")
      {:ok, [key | own]}
    end
  end

  defp store(_hsm, [], _named), do: {:ok, []}

  defp store(hsm, [der], named) do
    case X509.store(hsm, der, named) do
      {:ok, certificate} ->
        {:ok, [certificate]}

      {:error, error} ->
        text = "the key is there, its certificate is not: " <> Exception.message(error)
        {:error, Error.new(error.reason, text)}
    end
  end

  defp how(options), do: if(options[:how], do: [how: Words.name(options[:how])], else: [])

  defp password(encrypted?, options) do
    source = Secrets.named(:password, options) || Secrets.usual(:password)

    cond do
      source != nil ->
        {:ok, [password: source]}

      encrypted? ->
        with({:ok, typed} <- Secrets.ask("Password of the file"), do: {:ok, [password: typed]})

      true ->
        {:ok, []}
    end
  end
end
