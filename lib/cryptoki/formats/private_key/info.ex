defmodule Cryptoki.PrivateKey.Info do
  @moduledoc false
  # The forms of a private key in DER: PrivateKeyInfo of PKCS #8 (RFC 5958, both versions), RSAPrivateKey of
  # PKCS #1 (RFC 8017, appendix A.1.2), ECPrivateKey of SEC 1 (RFC 5915) and CurvePrivateKey (RFC 8410); those of
  # ML-DSA, ML-KEM and SLH-DSA. Pure.

  alias Cryptoki.{DER, PrivateKey, PublicKey}
  alias Cryptoki.DER.Reader
  alias Cryptoki.PrivateKey.{Elliptic, Encryption, PostQuantum, RSA}
  alias Cryptoki.PublicKey.OID
  alias Cryptoki.SignatureAlgorithm.Identifier

  @rsa OID.rsa()
  @ec OID.ec()
  @edwards PrivateKey.Elliptic.edwards_oids()
  @called %{
    {1, 2, 840, 113_549, 1, 1, 10} =>
      "RSA for PSS only, a limit that no token keeps; `openssl rsa -in FILE -traditional -outform DER -out PLAIN` writes it without",
    {1, 2, 840, 10_040, 4, 1} => "DSA, which is not imported",
    {1, 2, 840, 113_549, 1, 3, 1} => "Diffie-Hellman, which is not imported"
  }

  @numbers "public key: it may be PKCS #1 or something else, as two numbers are; " <>
             "`openssl rsa -RSAPublicKey_in -inform DER -in FILE -pubout -out PEM` writes it so that it says what it is"
  @dsa "private key: it is of the form that OpenSSL has of DSA, which is not imported"
  @pkcs12 "private key: it is PKCS #12; give it as {:pkcs12, der}, with password:"

  @doc "What is said of a PKCS #12."
  @spec pkcs12() :: String.t()
  def pkcs12, do: @pkcs12

  @doc "Whichever form it is."
  @spec any(Reader.t(), password :: binary | nil) :: PrivateKey.t() | PublicKey.Given.t()
  def any(value, password) do
    case Reader.sequence(value) do
      [%{tag: 2, contents: <<3>>}, %{tag: 0x30} | _] ->
        Reader.refuse!(:unsupported, @pkcs12)

      [%{tag: 2}, %{tag: 0x30} | _] ->
        pkcs8(value)

      [%{tag: 2}, %{tag: 2}] ->
        Reader.refuse!(:unsupported, @numbers)

      [%{tag: 2}, %{tag: 2}, %{tag: 2}, %{tag: 2}, %{tag: 2}, %{tag: 2}] ->
        Reader.refuse!(:unsupported, @dsa)

      [%{tag: 2}, %{tag: 2} | _] ->
        pkcs1(value)

      [%{tag: 2}, %{tag: 4} | _] ->
        sec1(value, nil)

      [%{tag: 0x30}, %{tag: 4}] ->
        encrypted(value, password)

      [%{tag: 0x30}, %{tag: 3}] ->
        PublicKey.Given.read(value)

      _other ->
        Reader.wrong!(value, "it is neither PKCS #8 nor PKCS #1 nor SEC 1")
    end
  end

  @doc "PKCS #8 that is encrypted (RFC 5958, section 3)."
  @spec encrypted(Reader.t(), password :: binary | nil) :: PrivateKey.t()
  def encrypted(_value, nil), do: Reader.refuse!(:unsupported, Encryption.needed())

  def encrypted(value, password) do
    [algorithm, sealed] =
      Reader.fields(Reader.is!(value, 0x30), [
        {"encryptionAlgorithm", 0x30},
        {"encryptedData", 4}
      ])

    plain = Encryption.open(algorithm, sealed, password)

    case Reader.read(plain, "", &pkcs8(Reader.secret(&1))) do
      {:ok, key} ->
        key

      {:error, %{reason: :unsupported, detail: text}} ->
        Reader.wrong!(sealed, text, :unsupported)

      # One in 256 wrong passwords leaves something behind.
      {:error, %{detail: text}} ->
        Reader.wrong!(sealed, "with this password it is no key that is read here: #{text}")
    end
  end

  @doc "PKCS #8. Attributes are looked over and left."
  @spec pkcs8(Reader.t()) :: PrivateKey.t()
  def pkcs8(value) do
    [version, algorithm, key, attributes, implicit, explicit] =
      Reader.fields(Reader.is!(value, 0x30), [
        {"version", 2},
        {"algorithm", 0x30},
        {"privateKey", 4},
        {:maybe, "attributes", 0xA0},
        {:maybe, "publicKey", 0x81},
        {:maybe, "publicKey", 0xA1}
      ])

    if implicit && explicit, do: Reader.wrong!(explicit, "it has a publicKey before")
    # As the standard has it, and as ring wrote it once.
    public =
      (implicit && %{implicit | tag: 3}) || (explicit && Reader.is!(Reader.only(explicit), 3))

    case {Reader.integer(version), public} do
      {0, nil} -> :ok
      # Of the second version only the public key is new.
      {1, _with_or_without} -> :ok
      {0, public} -> Reader.wrong!(public, "only version 2 has one")
      _other -> Reader.wrong!(version, "there is no such version of PKCS #8")
    end

    if attributes, do: Reader.check(attributes)
    {oid, parameters} = Identifier.parts(algorithm)
    key(oid, parameters, key, public, algorithm)
  end

  defp key(@rsa, parameters, key, public, _algorithm) do
    if parameters, do: Reader.null(parameters)
    key |> Reader.within() |> RSA.read() |> RSA.same!(public)
  end

  defp key(@ec, parameters, key, public, algorithm) do
    curve = curve(parameters || Reader.wrong!(algorithm, "it has no curve"))
    key |> Reader.within() |> sec1(curve) |> Elliptic.same!(public)
  end

  defp key(oid, parameters, key, public, _algorithm) when is_map_key(@edwards, oid) do
    if parameters, do: Reader.wrong!(parameters, "there are no parameters of such a key")
    @edwards[oid] |> Elliptic.edwards(key) |> Elliptic.same!(public)
  end

  defp key(oid, parameters, key, public, algorithm) do
    case PostQuantum.named(oid) do
      {:ok, set} ->
        if parameters, do: Reader.wrong!(parameters, "there are no parameters of such a key")
        PostQuantum.read(set, key, public)

      :error ->
        unknown!(oid, algorithm)
    end
  end

  @spec unknown!(tuple, Reader.t()) :: no_return
  defp unknown!(oid, algorithm) do
    called = Map.get(@called, oid, "of the kind #{DER.dotted(oid)}, which is not known here")
    Reader.wrong!(algorithm, "the key is #{called}", :unsupported)
  end

  @doc "PKCS #1."
  @spec pkcs1(Reader.t()) :: PrivateKey.t()
  def pkcs1(value), do: RSA.read(value)

  @doc "SEC 1, which may leave out the curve where it is known from elsewhere."
  @spec sec1(Reader.t(), tuple | nil) :: PrivateKey.t()
  def sec1(value, known) do
    [version, key, parameters, public] =
      Reader.fields(Reader.is!(value, 0x30), [
        {"version", 2},
        {"privateKey", 4},
        {:maybe, "parameters", 0xA0},
        {:maybe, "publicKey", 0xA1}
      ])

    if Reader.integer(version) != 1,
      do: Reader.wrong!(version, "there is no such version of SEC 1")

    said = parameters && parameters |> Reader.only() |> curve()

    if said && known && said != known,
      do: Reader.wrong!(parameters, "it is another curve than the one said before")

    curve = said || known || Reader.wrong!(value, "it has no curve")
    curve |> Elliptic.read(key) |> Elliptic.same!(public && Reader.only(public))
  end

  @doc "The object identifier of a curve."
  @spec curve(Reader.t()) :: tuple
  def curve(%{tag: 6} = oid), do: Reader.oid(oid)

  def curve(parameters) do
    text =
      "a curve by its parameters, not by its name; `openssl ec -param_enc named_curve` writes the name of one that has it"

    Reader.wrong!(parameters, text, :unsupported)
  end
end
