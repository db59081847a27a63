defmodule Cryptoki.PrivateKey.File do
  @moduledoc false
  # A key as others keep it in a file: PKCS #8, PKCS #1 or SEC 1, or a public key, in DER or PEM; OpenSSH's own
  # form; a JWK. Strict, and what is read is one key. Nothing that an error shows is secret. Pure.

  alias Cryptoki.{DER, Error, JSON, PEM, PrivateKey, PublicKey, SecretKey}
  alias Cryptoki.DER.Reader
  alias Cryptoki.PrivateKey.{DEKInfo, Encryption, Info, JWK, OpenSSH, OpenSSHEncryption}
  alias Cryptoki.PublicKey.OID

  # Of the file, whatever stands around the key in it.
  @most 65_536
  @what "private key: "

  @pkcs8 "PRIVATE KEY"
  @pkcs1 "RSA PRIVATE KEY"
  @sec1 "EC PRIVATE KEY"
  @parameters "EC PARAMETERS"
  @encrypted "ENCRYPTED PRIVATE KEY"
  @openssh "OPENSSH PRIVATE KEY"
  @public "PUBLIC KEY"
  @pkcs1_public "RSA PUBLIC KEY"
  @keys [@pkcs8, @pkcs1, @sec1, @encrypted, @openssh]

  # What stands in the place of a key, and what can be done.
  @others %{
    "DSA PRIVATE KEY" => "private key: DSA is not imported",
    "PKCS12" => Info.pkcs12()
  }
  @putty "private key: it is one of PuTTY's own form; `puttygen FILE -O private-openssh -o PEM` writes it as PEM"
  @ssh "public key: it is a line of OpenSSH; `[{key, _} | _] = :ssh_file.decode(text, :public_key)` gives a key that is imported"

  @type key :: PrivateKey.t() | PublicKey.Given.t() | SecretKey.t()

  @doc """
  The one key in a file, which a password opens when it is encrypted; a public key, where there is no private
  one.
  """
  @spec read(binary, password :: binary | nil) :: {:ok, key} | {:error, Error.t()}
  def read(bytes, password \\ nil)

  def read(bytes, _password) when byte_size(bytes) > @most,
    do: wrong("it is longer than #{@most} bytes")

  def read("PuTTY-User-Key-File-" <> _rest, _password), do: unsupported(@putty)

  def read(<<line::binary-4, _rest::binary>>, _password)
      when line in ["ssh-", "sk-s", "sk-e", "ecds"],
      do: unsupported(@ssh)

  def read(bytes, password) do
    cond do
      PEM.der?(bytes) -> der(bytes, &Info.any(&1, password))
      bytes =~ ~r/\A\s*\{/ -> json(bytes)
      true -> text(bytes, password)
    end
  end

  @doc "Whether a password is wanted to read it."
  @spec encrypted?(binary) :: boolean
  def encrypted?(bytes) do
    wanted = [Encryption.needed(), OpenSSHEncryption.needed()]
    with {:error, %Error{detail: detail}} <- read(bytes), do: detail in wanted, else: (_ -> false)
  end

  defp json(text) do
    case JSON.decode(text) do
      {:ok, %{} = jwk} -> JWK.read(jwk)
      :error -> wrong("it begins as JSON, and is none")
    end
  end

  defp der(bytes, read), do: Reader.read(bytes, @what, &read.(Reader.secret(&1)), @most)

  defp text(text, password) do
    case PEM.decode(text, [@parameters, @public, @pkcs1_public | @keys]) do
      {:ok, entries} -> entries(entries, text, password)
      {:error, sentence} -> wrong(sentence)
    end
  end

  defp entries(entries, text, password) do
    case Enum.filter(entries, fn {label, _der} -> label in @keys or is_map_key(@others, label) end) do
      [{label, nil}] when label in [@pkcs1, @sec1] ->
        sealed(label, text, entries, password)

      [{label, der}] ->
        entry(label, der, entries, password)

      [] when entries == [] ->
        wrong(neither(text))

      [] ->
        public(Enum.filter(entries, &(elem(&1, 0) in [@public, @pkcs1_public])), entries)

      several ->
        wrong("there are #{length(several)} in it, and one should be")
    end
  end

  defp public([{@public, <<_, _::binary>> = der}], _entries), do: public(der)

  # RSAPublicKey (RFC 8017, appendix A.1.1), as Go and Ruby write it, is what the bits of the other form are.
  defp public([{@pkcs1_public, <<_, _::binary>> = der}], _entries),
    do: public(PrivateKey.public_info([DER.oid(OID.rsa()), DER.null()], der))

  defp public(_none_or_several, entries),
    do: wrong("there is none in it, but #{PEM.others(entries)}")

  defp public(der), do: Reader.read(der, "public key: ", &PublicKey.Given.read/1, @most)

  defp neither(text) do
    if String.printable?(text) and text =~ ~r/\A[^\r\n]{1,4096}\z/,
      do: "it is neither DER nor PEM; what File.read!/1 gives is wanted, not a path",
      else: "it is neither DER nor PEM"
  end

  defp entry(label, _der, _entries, _password) when is_map_key(@others, label),
    do: unsupported(@others[label])

  # With the header of RFC 1421 that says so, which only these two have.
  defp entry(_label, nil, _entries, _password), do: unsupported(Encryption.unknown())
  defp entry(@pkcs8, der, _entries, _password), do: der(der, &Info.pkcs8/1)
  defp entry(@pkcs1, der, _entries, _password), do: der(der, &Info.pkcs1/1)
  defp entry(@openssh, bytes, _entries, password), do: OpenSSH.read(bytes, password)
  defp entry(@encrypted, der, _entries, password), do: der(der, &Info.encrypted(&1, password))

  # The curve in front of it, as OpenSSL writes it, says the same once more.
  defp entry(@sec1, der, entries, _password) do
    with {:ok, curve} <- curve(List.keyfind(entries, @parameters, 0)),
         do: der(der, &Info.sec1(&1, curve))
  end

  defp sealed(_label, _text, _entries, nil), do: unsupported(Encryption.needed())

  defp sealed(label, text, entries, password) do
    with {:ok, headers, bytes} <- PEM.sealed(text, label),
         {:ok, plain} <- DEKInfo.open(headers, bytes, password),
         {:ok, key} <- entry(label, plain, entries, password) do
      {:ok, key}
    else
      {:error, %Error{reason: :invalid_argument, detail: text}} ->
        text = String.replace_prefix(text, @what, "")
        wrong("with this password it is no key that is read here: #{text}")

      {:error, %Error{} = error} ->
        {:error, error}

      {:error, sentence} ->
        wrong(sentence)

      :error ->
        wrong("it does not open with this password")

      :unknown ->
        unsupported(Encryption.unknown())
    end
  end

  defp curve(nil), do: {:ok, nil}
  defp curve({@parameters, nil}), do: wrong("its EC PARAMETERS are encrypted")
  defp curve({@parameters, der}), do: Reader.read(der, "EC PARAMETERS: ", &Info.curve/1, @most)

  defp wrong(sentence), do: {:error, Error.new(:invalid_argument, @what <> sentence)}
  defp unsupported(sentence), do: {:error, Error.new(:unsupported, sentence)}
end
