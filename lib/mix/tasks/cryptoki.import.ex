defmodule Mix.Tasks.Cryptoki.Import do
  alias Mix.Cryptoki.Secrets

  use Mix.Cryptoki,
    usage: "URI [--in FILE] [--type NAME] [--for USES] [--attribute NAME=VALUE]... [options]",
    switches:
      [in: :string, type: :string, for: :string, attribute: :keep, how: :string] ++
        Secrets.switches([:password])

  alias Cryptoki.{Error, PEM, PKCS12, PrivateKey, X509}
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
      and `hmac` for the bytes of a secret key as they are; without it the first, second or third, as the file is,
      and of a PEM with a key and its certificate both
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

  # A certificate beside a key is the lesser of the two.
  defp kind(file) do
    labels = with({:ok, entries} <- PEM.decode(file, []), do: Enum.map(entries, &elem(&1, 0)))

    cond do
      file =~ @pfx or labels == ["PKCS12"] -> "pkcs12"
      is_list(labels) and Enum.any?(labels, &String.ends_with?(&1, "KEY")) -> "key"
      certificate?(file) -> "cert"
      true -> "key"
    end
  end

  defp certificate?(file) do
    with {:ok, [der | _]} <- PEM.ders(file, :certificate, 2),
         {:ok, "CERTIFICATE"} <- PEM.label(der),
         do: match?({:ok, _certificate}, X509.certificate(der)),
         else: (_other -> false)
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
    beside = if options[:type], do: [], else: certificates(file)

    with {:ok, password} <- password(PrivateKey.File.encrypted?(file), options) do
      make = fn hsm ->
        with {:ok, key} <- Cryptoki.import_key(hsm, file, template, password ++ how(options)),
             do: with_its_own(hsm, key, beside, template)
      end

      {:ok, if(beside == [], do: @keys, else: [:certificate | @keys]), make}
    end
  end

  defp made("pkcs12", file, template, options) do
    with {:ok, password} <- password(PKCS12.encrypted?(file), options) do
      make = fn hsm ->
        with {:ok, {key, certificates}} <-
               Cryptoki.import_key(hsm, {:pkcs12, file}, template, password ++ how(options)),
             do: with_its_own(hsm, key, certificates, template)
      end

      {:ok, [:certificate | @keys], make}
    end
  end

  defp certificates(file) do
    with false <- PEM.der?(file),
         {:ok, ders} <- PEM.ders(file, :certificate),
         do: ders,
         else: (_none -> [])
  end

  defp with_its_own(_hsm, key, [], _template), do: {:ok, [key]}

  # Of all others nobody has said how they are called.
  defp with_its_own(hsm, key, certificates, template) do
    named = Keyword.take(template, [:label, :id, :token])

    with {:ok, public} <- Cryptoki.public_key(hsm, key),
         own = Enum.find(certificates, &PKCS12.Chain.of?(&1, public)),
         {:ok, stored} <- if(own, do: X509.store(hsm, own, named), else: {:ok, nil}) do
      more = length(certificates) - if(own, do: 1, else: 0)
      if more > 0, do: IO.puts(:stderr, "certificates of the file that are not stored: #{more}")
      {:ok, if(stored, do: [key, stored], else: [key])}
    else
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
