defmodule Cryptoki.CMS do
  alias Cryptoki.{Bytes, CallOptions, Certificates, Chunks, DER, Each, Error, PEM, Pin, X509}
  alias Cryptoki.CMS.{Enveloped, Opener, Options, Sealer, SignedData, Signer, Verifier}
  alias Cryptoki.ContentKey.Holder
  alias Cryptoki.Options.Table
  alias Cryptoki.X509.OnToken

  @sign Options.sign()

  @moduledoc """
  Signed files in the Cryptographic Message Syntax (RFC 5652, once PKCS #7), with keys that stay on the
  token: what `openssl cms -verify`, mail programs, PDF and firmware tools read.

      {:ok, der} = Cryptoki.CMS.sign(MyApp.HSM, [label: "invoice"], File.read!("invoice.pem"),
        File.read!("invoice.pdf"), detached: true)

      File.write!("invoice.pdf.p7s", der)

  What is signed are attributes: the type and the digest of the content, the time, and the certificate
  (RFC 5035), which makes it a CAdES-BES signature; with a time stamp it is CAdES-T. Keys: RSA (PKCS #1 and
  PSS), ECDSA, Ed25519 (RFC 8419), ML-DSA (RFC 9882), and SLH-DSA with SHA-2 (RFC 9814).
  """

  import Cryptoki.Bang, only: [bang: 1]

  @signed_data {1, 2, 840, 113_549, 1, 7, 2}
  @data {1, 2, 840, 113_549, 1, 7, 1}

  @type hsm :: Cryptoki.hsm()
  @type key :: Cryptoki.key()
  @type opts :: keyword | map
  @typedoc """
  The certificate of a key: DER, PEM, or what names it on the token, as for `Cryptoki.certificate/3`.
  With more than one, that of the key is the first, and all of them go along. `:token` is what
  `Cryptoki.X509.chain/3` finds of the key on the token.
  """
  @type certificate :: binary | key | [binary | key] | :token
  @type data :: iodata | {:stream, Enumerable.t()}

  @doc """
  Signs data with a key and its certificate: the DER of a `ContentInfo` with `SignedData`.

  #{Table.docs(@sign)}
    * `timeout:`, `pin:` and `metadata:` as in `Cryptoki.sign/5`

  Whether the certificate is that of the key is proven as in `Cryptoki.public_key/3`, and each signature
  is verified with it before it is handed on. Whether it is valid is said by who verifies.

  Errors: those of `Cryptoki.Timestamp.verify/3` for a `timestamp:` that is none, and what its function says;
  `:unsupported` for other keys (Ed448 and SLH-DSA with SHAKE among them), `:key_not_found`, `:invalid_argument` when a
  certificate is none, or is not that of its key, and those of `Cryptoki.sign/5` and `Cryptoki.certificate/3`. PKCS
  #11 v3.2, section 5.13 (C_Sign).

      iex> {:ok, der} = Cryptoki.CMS.sign(MyApp.HSM, [label: "invoice"], [label: "invoice"], "text")
      iex> <<0x30, 0x82, _size::16, 6, 9, signed_data::binary-size(9), _rest::binary>> = der
      iex> signed_data == <<0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 7, 2>>
      true
  """
  @spec sign(hsm, key, certificate, data, opts) :: {:ok, binary} | {:error, Error.t()}
  def sign(hsm, key, certificate, data, opts \\ []) do
    {own, call} = CallOptions.split!(opts, Options.sign())
    # The same for all, when none is given.
    own = Keyword.put_new_lazy(own, :signing_time, &DateTime.utc_now/0)
    detached? = own[:detached]
    data = data!(data, detached?)
    signers = [{hsm, key, certificate, "certificate"} | Enum.map(own[:signers], &signer(hsm, &1))]
    :ok = look!(signers, own[:chain])

    with {:ok, signers} <- Each.of(signers, &Signer.fetch(&1, own)),
         {:ok, chain} <- chain(hsm, own[:chain]),
         :ok <- each_is_of_its_key(signers),
         digests = Chunks.digests(Enum.uniq(for(signer <- signers, do: signer.hash)), data),
         {:ok, infos} <- Each.of(signers, &Signer.info(&1, digests, @data, own, call)) do
      certificates = Enum.uniq(Enum.flat_map(signers, & &1.certificates) ++ chain)
      content = if detached?, do: nil, else: data
      algorithms = for signer <- signers, do: signer.digest_algorithm
      signed = SignedData.encode(@data, content, algorithms, certificates, infos)
      {:ok, content_info(@signed_data, [DER.explicit(0, signed)])}
    end
  end

  bang(sign(hsm, key, certificate, data, opts) :: binary)

  @doc """
  Certificates, and lists of revoked ones, in one file that nobody has signed (RFC 5652, section 5.1; `.p7b` and
  `.p7c`), as authorities hand out chains, and Java and Windows import them: DER, in which they have no order. No
  token is asked.

    * `crls:` revocation lists to go along, DER or PEM, one or several

  Errors: `:invalid_argument` for what is no certificate, or no list.

      iex> {:ok, der} = Cryptoki.CMS.certs_only(Cryptoki.certificate!(MyApp.HSM, label: "invoice"))
      iex> <<0x30, 0x82, _size::16, 6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 7, 2, _rest::binary>> = der
      iex> String.starts_with?(Cryptoki.CMS.to_pem(der), "-----BEGIN CMS-----")
      true
  """
  @spec certs_only(binary | [binary], opts) :: {:ok, binary} | {:error, Error.t()}
  def certs_only(certificates, opts \\ []) do
    {own, []} = CallOptions.split!(opts, [:crls], [])

    with {:ok, certificates} <-
           Certificates.fetch(nil, binaries!(certificates, "certificates"), "certificates"),
         {:ok, lists} <- lists(own[:crls] || []) do
      signed = SignedData.encode(@data, nil, [], Enum.uniq(certificates), [], lists)
      {:ok, content_info(@signed_data, [DER.explicit(0, signed)])}
    end
  end

  bang(certs_only(certificates :: binary | [binary], opts) :: binary)

  defp lists([]), do: {:ok, []}

  defp lists(lists) do
    with {:ok, ders} <- Each.of(binaries!(lists, "crls"), &list/1),
         do: {:ok, Enum.uniq(Enum.concat(ders))}
  end

  defp list(bytes) do
    with {:ok, ders} <- PEM.ders(bytes, :crl),
         {:ok, _read} <- Each.of(ders, &X509.revocation_list/1) do
      {:ok, ders}
    else
      {:error, %Error{} = error} -> {:error, %{error | detail: "crls: #{error.detail}"}}
      {:error, text} -> {:error, Error.new(:invalid_argument, "crls: #{text}")}
    end
  end

  defp binaries!(some, argument) do
    some = List.wrap(some)

    unless some != [] and Enum.all?(some, &is_binary/1),
      do: raise(ArgumentError, "#{argument}: must be DER or PEM, or a list of these")

    some
  end

  @doc """
  Verifies signed data of others, in DER, BER or PEM: each of its signers, as `openssl cms -verify` does. No token
  is asked. Zeros behind its end, which fill the room of a signature in PDF, count for nothing.

  `trusted` are the certificates, DER or PEM, that those of the signers have to be, or lead to by others in it and by
  `certificates:`; all of them hold now. With `:any` only the signatures are verified: whose the certificates are
  is yours to find out then.

  #{Table.docs(Options.verify())}

  It answers a map: `:content`, `nil` when it is detached; `:type`, its object identifier; `:signers`, a list of maps
  with `:certificate`, the DER of who has signed; `:algorithm` and `:hash`; `:signing_time`, which is what the signer
  says, or `nil`; `:attributes`, the signed ones by object identifier, each a list of DER.

  Keys that may only do something else (key usage) sign nothing here; other purposes of certificates, and whether one
  is revoked, are not looked at.

  Errors: `:signature_invalid` for other content, another key, a signer whose certificate is not there or does not lead
  to one that is trusted; `:unsupported` for algorithms that are broken or not known; `:invalid_argument` for what is
  no signed data, and for `content:` that is missing, or there twice.

      iex> {:ok, der} = Cryptoki.CMS.sign(MyApp.HSM, [label: "invoice"], [label: "invoice"], "text")
      iex> certificate = Cryptoki.certificate!(MyApp.HSM, label: "invoice")
      iex> {:ok, %{content: text, signers: [signer]}} = Cryptoki.CMS.verify(der, certificate)
      iex> {text, signer.certificate == certificate, signer.algorithm}
      {"text", true, :sha256_rsa_pkcs}
      iex> {:error, error} = Cryptoki.CMS.verify(der, [])
      iex> error.reason
      :signature_invalid
  """
  @spec verify(signed :: binary, binary | [binary] | :any, opts) ::
          {:ok, map} | {:error, Error.t()}
  def verify(signed, trusted, opts \\ []) do
    {own, []} = CallOptions.split!(opts, Options.verify(), [])
    unless is_binary(signed), do: raise(ArgumentError, "signed: must be DER or PEM, a binary")

    with {:ok, trusted} <- if(trusted == :any, do: {:ok, :any}, else: given(trusted, "trusted")),
         {:ok, others} <- given(own[:certificates], "certificates"),
         do: Verifier.verify(signed, trusted, others, own[:content])
  end

  bang(verify(signed :: binary, trusted :: binary | [binary] | :any, opts) :: map)

  # One, several, or none.
  defp given([], _name), do: {:ok, []}

  defp given(certificates, name) do
    Certificates.fetch(nil, binaries!(certificates, name), name)
  end

  @doc """
  Decrypts what was encrypted for a key of the token: EnvelopedData (RFC 5652) and AuthEnvelopedData (RFC
  5083), in DER, BER or PEM, as `openssl cms -encrypt`, `gpgsm` and mail programs write them.

      {:ok, text} = Cryptoki.CMS.decrypt(MyApp.HSM, [label: "invoice"], File.read!("letter.p7m"),
        certificate: [label: "invoice"])

  Keys are encrypted with RSA (OAEP with SHA-1 and SHA-2, PKCS #1 v1.5), or wrapped with AES or triple DES by what an
  EC, X25519 or X448 key agrees on (RFC 5753, RFC 8418), or with AES by an AES key that both have (`openssl cms -secretkey`), which may
  unwrap; content with AES in CBC or GCM mode, or triple DES. The token decrypts, agrees on, or unwraps the key of the
  content; the content is decrypted here.

  #{Table.docs(Options.decrypt())}
    * `timeout:`, `pin:` and `metadata:` as in `Cryptoki.decrypt/5`

  Errors: `:encrypted_data_invalid` for all ways in which decryption fails. It does not say which, and a key by
  PKCS #1 v1.5 that is none is one that opens nothing: who is told more can decrypt with the answers what was
  meant for others. Such a message gives in CBC mode, once in 256 times, bytes that nobody wrote, as with OpenSSL.
  Whether CBC could be decrypted is an answer of that kind too: do not tell it to who has sent the message.
  What was written with GCM can be sent once more as CBC, with the same recipients (RFC 9709, section 1): who learns what becomes of
  that decrypts the first. Say `authenticated: true` where GCM is what your correspondents write; it is not the default, as mail
  programs and `openssl cms` write CBC.
  Before that, of what all can see: `:invalid_argument` for what is no such message, or is for others,
  `:unsupported` for other algorithms; and those of `Cryptoki.decrypt/5`, `Cryptoki.derive_key/5` and
  `Cryptoki.certificate/3`. PKCS #11 v3.2, sections 5.10 (C_Decrypt) and 5.18 (C_DeriveKey).

      iex> {:ok, der} = Cryptoki.CMS.encrypt(Cryptoki.certificate!(MyApp.HSM, label: "invoice"), "a secret")
      iex> Cryptoki.CMS.decrypt(MyApp.HSM, [label: "invoice"], der, certificate: [label: "invoice"])
      {:ok, "a secret"}
  """
  @spec decrypt(hsm, key, message :: binary, opts) :: {:ok, binary} | {:error, Error.t()}
  def decrypt(hsm, key, message, opts \\ []) do
    {own, call} = CallOptions.split!(opts, Options.decrypt())
    unless is_binary(message), do: raise(ArgumentError, "message: must be DER or PEM, a binary")
    :ok = Certificates.selector!(key, :decrypt, "key")
    certificate = own[:certificate]
    if certificate, do: :ok = Certificates.source!(certificate, "certificate")

    with {:ok, message} <- Enveloped.read(message),
         :ok <- Enveloped.authenticated(message, own[:authenticated]),
         {:ok, certificate} <- own_certificate(hsm, certificate),
         {:ok, holder} <- Holder.fetch(hsm, key, call),
         do: Opener.open(holder, message, certificate)
  end

  bang(decrypt(hsm, key, message :: binary, opts) :: binary)

  @doc """
  Decrypts what was encrypted with a password (RFC 5652, section 6.2.4), as `openssl cms -encrypt -pwri_password` does. No token
  is asked. The password comes in any form that `pin:` of `Cryptoki.start_link/1` may have: a function, `{:env, name}`, `{:file, path}`.

  #{Table.docs(Options.by_password())}

  Errors: `:encrypted_data_invalid` for another password, and whatever else is wrong with what is encrypted; `:invalid_argument` for
  what is no such message, or has no password; `:unsupported` for other algorithms, and for more than two million rounds of
  PBKDF2; `:pin_unavailable` when the password cannot be had.

      iex> {:error, error} = Cryptoki.CMS.decrypt_with_password("a letter", fn -> "a password" end)
      iex> error.reason
      :invalid_argument
  """
  @spec decrypt_with_password(message :: binary, password :: Cryptoki.pin(), opts) ::
          {:ok, binary} | {:error, Error.t()}
  def decrypt_with_password(message, password, opts \\ []) do
    {own, []} = CallOptions.split!(opts, Options.by_password(), [])
    unless is_binary(message), do: raise(ArgumentError, "message: must be DER or PEM, a binary")

    pin =
      case Pin.cast(password) do
        {:ok, pin} when password not in [nil, :protected_path] -> pin
        _none -> raise ArgumentError, "password: must be one, or what gives it, as pin: has it"
      end

    with {:ok, message} <- Enveloped.read(message),
         :ok <- Enveloped.authenticated(message, own[:authenticated]) do
      Pin.hidden(fn ->
        with {:ok, password} <- Pin.fetch(pin), do: Opener.by_password(message, password)
      end)
    end
  end

  bang(decrypt_with_password(message :: binary, password :: Cryptoki.pin(), opts) :: binary)

  defp own_certificate(_hsm, nil), do: {:ok, nil}

  defp own_certificate(hsm, source) do
    with {:ok, [certificate | _others]} <- Certificates.fetch(hsm, source, "certificate"),
         do: {:ok, certificate}
  end

  @doc """
  Encrypts for the holders of certificates, in DER or PEM, each of which can decrypt it, for one with
  `decrypt/4` or `openssl cms -decrypt`. No token is asked.

  #{Table.docs(Options.encrypt())}

  For EC keys the content key is wrapped with what an ephemeral key agrees on with them (RFC 5753; RFC 8418 for
  X25519 and X448). Whether the certificates are valid, and of whom you think, is for you to know.

  Errors: `:invalid_argument` for what is no certificate, `:unsupported` for keys that nothing is encrypted for,
  such as Ed25519.

      iex> {:ok, der} = Cryptoki.CMS.encrypt([Cryptoki.certificate!(MyApp.HSM, label: "invoice")], "a secret", cipher: :aes_256_cbc)
      iex> String.starts_with?(Cryptoki.CMS.to_pem(der), "-----BEGIN CMS-----")
      true
  """
  @spec encrypt(binary | [binary], iodata, opts) :: {:ok, binary} | {:error, Error.t()}
  def encrypt(certificates, data, opts \\ []) do
    {own, []} = CallOptions.split!(opts, Options.encrypt(), [])
    data = Bytes.binary!(data, "data")

    certificates = binaries!(certificates, "certificates")

    with {:ok, ders} <- Certificates.fetch(nil, certificates, "certificates"),
         {:ok, {type, content}} <- Sealer.seal(ders, data, own),
         do: {:ok, content_info(type, [DER.explicit(0, content)])}
  end

  bang(encrypt(certificates :: binary | [binary], data :: iodata, opts) :: binary)

  @doc """
  The PEM of a message, as `openssl cms -inform PEM` reads it.

      iex> Cryptoki.CMS.to_pem(<<0x30, 0>>)
      "-----BEGIN CMS-----\\nMAA=\\n-----END CMS-----\\n"
  """
  @spec to_pem(binary) :: String.t()
  def to_pem(der) when is_binary(der), do: PEM.encode(der, "CMS")

  defp content_info(type, content), do: DER.sequence([DER.oid(type) | content])

  # All before the first signature.
  defp each_is_of_its_key(signers) do
    Enum.find_value(signers, :ok, fn signer ->
      with :ok <- Certificates.same_key(signer.hsm, signer.key, signer.public), do: nil
    end)
  end

  defp chain(_hsm, []), do: {:ok, []}
  defp chain(hsm, source), do: Certificates.fetch(hsm, source, "chain")

  ## Arguments

  defp data!({:stream, _chunks} = data, true), do: Chunks.data!(data)

  defp data!({:stream, _chunks}, false),
    do: raise(ArgumentError, "a stream is signed with detached: true")

  defp data!(data, _detached?) when is_binary(data) or is_list(data),
    do: Chunks.data!(data)

  defp data!(_other, _detached?),
    do: raise(ArgumentError, "data is iodata or {:stream, enumerable}")

  # Mistakes in what names keys and certificates, before any is asked for.
  defp look!(signers, chain) do
    for {_hsm, key, certificate, argument} <- signers do
      :ok = OnToken.source!(certificate, argument)
      name = if argument == "certificate", do: "key", else: argument
      :ok = Certificates.selector!(key, :sign, name)
    end

    if chain == [], do: :ok, else: Certificates.source!(chain, "chain")
  end

  defp signer(hsm, {key, certificate}), do: {hsm, key, certificate, "signers"}
  defp signer(_hsm, {hsm, key, certificate}), do: {hsm, key, certificate, "signers"}
end
