defmodule Cryptoki.SSH do
  alias Cryptoki.{CallOptions, Chunks, Error}
  alias Cryptoki.Options.Table
  alias Cryptoki.SSH.{Certificate, RevocationList, Signature, Signer, Wire}

  @hash [
    hash: [
      cast: {:one_of, [:sha512, :sha256]},
      must: ":sha512 or :sha256",
      type: ":sha512 | :sha256",
      default: :sha512,
      doc: "what is hashed with; of a certificate, where the authority has an RSA key"
    ]
  ]
  @public_key [
    comment: [
      cast: &Certificate.comment/1,
      must: "text on one line",
      type: "String.t()",
      default: "",
      doc: "what stands behind it"
    ]
  ]
  @namespace [
    namespace: [
      cast: :line,
      must: "text on one line",
      type: "String.t()",
      default: "file",
      doc:
        "what the signature is for, so that one for mail is none for a file. Git wants `\"git\"`"
    ]
  ]

  @moduledoc """
  SSH with keys that stay on the token: an authority for user and host certificates, and signed files, which
  are verified without one.

      {:ok, line} = Cryptoki.SSH.certificate(MyApp.HSM, [label: "ssh-ca"], File.read!("id_ed25519.pub"),
        type: :user, key_id: "alice", principals: ["alice"], hours: 8)

      File.write!("id_ed25519-cert.pub", line <> "\\n")

  Keys of the token: RSA (`rsa-sha2-512` and `rsa-sha2-256`, never SHA-1), ECDSA on P-256, P-384 and
  P-521, and Ed25519. `Cryptoki.SSH.ClientKey` logs in with one, by OTP's `:ssh`, and
  `Cryptoki.SSH.Agent` signs with them for OpenSSH and git.
  """

  import Cryptoki.Bang, only: [bang: 1]

  @type hsm :: Cryptoki.hsm()
  @type key :: Cryptoki.key()
  @type opts :: keyword | map
  @typedoc """
  A public key: a line of OpenSSH, as in `id_ed25519.pub`, one of `:public_key`, or what names one on
  the token.
  """
  @type public_key :: String.t() | :public_key.public_key() | key
  @type data :: iodata | {:stream, Enumerable.t()}

  @doc """
  The public key in the form of OpenSSH, for `authorized_keys`, `known_hosts`, `TrustedUserCAKeys` and
  `allowed_signers`.

  #{Table.docs(@public_key)}
    * `timeout:` and `metadata:` as in `Cryptoki.public_key/3`

  Errors: `:unsupported` for keys that SSH has no name for, `:key_size_range` for RSA keys that OpenSSH
  takes for too short, and those of `Cryptoki.public_key/3`. PKCS #11 v3.2, section 5.7.5
  (C_GetAttributeValue).

      iex> {:ok, line} = Cryptoki.SSH.public_key(MyApp.HSM, [label: "contract"], comment: "contract@hsm")
      iex> line |> String.split() |> List.delete_at(1)
      ["ecdsa-sha2-nistp256", "contract@hsm"]
  """
  @spec public_key(hsm, key, opts) :: {:ok, String.t()} | {:error, Error.t()}
  def public_key(hsm, key, opts \\ []) do
    {own, call} = CallOptions.split!(opts, @public_key, [:timeout, :metadata])

    with {:ok, public} <- Signer.public(hsm, key, call),
         do: {:ok, Wire.line(public.type, public.blob, own[:comment])}
  end

  bang(public_key(hsm, key, opts) :: String.t())

  @doc """
  The SHA-256 fingerprint of a public key, of a line of OpenSSH or of `:public_key`, as `ssh-keygen -l`
  shows it.

  Errors: `:unsupported`, `:key_size_range`, and `:invalid_argument` for what is no public key.

      iex> Cryptoki.SSH.fingerprint("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl")
      {:ok, "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"}
  """
  @spec fingerprint(String.t() | :public_key.public_key()) ::
          {:ok, String.t()} | {:error, Error.t()}
  def fingerprint(public_key) do
    with {:ok, key} <- given(public_key), do: {:ok, Wire.fingerprint(key)}
  end

  bang(fingerprint(public_key :: String.t() | :public_key.public_key()) :: String.t())

  @doc """
  Certifies a public key for users or hosts: the line to write to `id_ed25519-cert.pub` (OpenSSH's
  PROTOCOL.certkeys).

  The key may be of any kind that OpenSSH certifies, those of security keys (`sk-ssh-ed25519` ...)
  among them; the authority's is on the token.

  #{Table.docs(Certificate.options() ++ @hash)}
    * `timeout:`, `pin:` and `metadata:` as in `Cryptoki.sign/5`

  Errors: `:invalid_argument` and `:unsupported` for a text that is no public key or none that can be
  certified, `:key_size_range`, and those of `Cryptoki.sign/5` and `Cryptoki.public_key/3`. PKCS #11
  v3.2, section 5.13 (C_Sign).

      iex> alice = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl alice@laptop"
      iex> {:ok, line} = Cryptoki.SSH.certificate(MyApp.HSM, [label: "contract"], alice,
      ...>   type: :user, key_id: "alice", principals: ["alice"], hours: 8)
      iex> line |> String.split() |> List.delete_at(1)
      ["ssh-ed25519-cert-v01@openssh.com", "alice@laptop"]
  """
  @spec certificate(hsm, key, public_key, opts) :: {:ok, String.t()} | {:error, Error.t()}
  def certificate(hsm, authority, public_key, opts) do
    {own, call} = CallOptions.split!(opts, Certificate.options() ++ @hash)
    fields = Certificate.fields!(own, System.os_time(:second))

    with {:ok, subject} <- subject(hsm, public_key, call),
         {:ok, signer} <- Signer.fetch(hsm, authority, own[:hash], call),
         nonce = :crypto.strong_rand_bytes(32),
         signed = Certificate.to_be_signed(fields, subject, nonce, signer.public.blob),
         {:ok, signature} <- Signer.sign(signer, signed) do
      type = Wire.certificate_type(subject.type)

      comment =
        fields.comment || if(subject.comment == "", do: fields.key_id, else: subject.comment)

      {:ok, Wire.line(type, [signed, Wire.string(signature)], comment)}
    end
  end

  bang(certificate(hsm, authority :: key, public_key, opts) :: String.t())

  @doc """
  A list of revoked certificates and keys (OpenSSH's PROTOCOL.krl): the file that `RevokedKeys` of sshd and
  `RevokedHostKeys` of ssh name. `authority` is the public key of the one whose certificates they are, or `:any`.

  Revoked are `{:serial, 17}`, `{:serial, 1..99}` and `{:key_id, "alice"}` of certificates; `{:key, public_key}`, a
  line of OpenSSH or one of `:public_key`, with all certificates for it; and `{:fingerprint, "SHA256:..."}`.

  #{Table.docs(RevocationList.options())}
    * `timeout:` and `metadata:` as in `Cryptoki.public_key/3`

  OpenSSH looks at no signature of such a file: who can write it says what is revoked. A certificate without a serial
  number (0) is revoked by its key id only.

  Errors: those of `public_key/3` for the authority, and `:invalid_argument`, `:unsupported` for a key.

      iex> {:ok, list} = Cryptoki.SSH.revocation_list(MyApp.HSM, [label: "contract"], [serial: 17, serial: 20..29, key_id: "bob"], number: 3)
      iex> binary_part(list, 0, 6)
      "SSHKRL"
  """
  @spec revocation_list(hsm, public_key | :any, [{atom, term}], opts) ::
          {:ok, binary} | {:error, Error.t()}
  def revocation_list(hsm, authority, revoked, opts \\ []) do
    {own, call} = CallOptions.split!(opts, RevocationList.options(), [:timeout, :metadata])

    with {:ok, revoked} <- RevocationList.revoked!(revoked, &about(given(&1), "revoked")),
         {:ok, blob} <- authority_blob(hsm, authority, call),
         do: {:ok, RevocationList.encode(revoked, blob, own)}
  end

  bang(
    revocation_list(hsm, authority :: public_key | :any, revoked :: [{atom, term}], opts) ::
      binary
  )

  defp authority_blob(_hsm, :any, _call), do: {:ok, ""}

  defp authority_blob(hsm, authority, call),
    do: with({:ok, key} <- subject(hsm, authority, call), do: {:ok, key.blob})

  @doc """
  Signs a file, a Git commit or other data (OpenSSH's PROTOCOL.sshsig): what `ssh-keygen -Y verify`
  reads. `{:stream, enumerable}` is data that need not be in memory; the token signs its digest.

  #{Table.docs(@namespace ++ @hash)}
    * `timeout:`, `pin:` and `metadata:` as in `Cryptoki.sign/5`

  Errors: those of `Cryptoki.sign/5` and `public_key/3`. PKCS #11 v3.2, section 5.13 (C_Sign).

      iex> {:ok, armored} = Cryptoki.SSH.sign(MyApp.HSM, [label: "contract"], "text", namespace: "file")
      iex> armored |> String.split("\\n") |> hd()
      "-----BEGIN SSH SIGNATURE-----"
  """
  @spec sign(hsm, key, data, opts) :: {:ok, String.t()} | {:error, Error.t()}
  def sign(hsm, key, data, opts \\ []) do
    {own, call} = CallOptions.split!(opts, @namespace ++ @hash)
    hash = own[:hash]
    data = data!(data)

    with {:ok, signer} <- Signer.fetch(hsm, key, hash, call),
         digest = Chunks.digest(hash, data),
         signed = Signature.to_be_signed(own[:namespace], hash, digest),
         {:ok, signature} <- Signer.sign(signer, signed),
         do: {:ok, Signature.armored(signer.public, own[:namespace], hash, signature)}
  end

  bang(sign(hsm, key, data, opts) :: String.t())

  @doc """
  Verifies what `sign/4` and `ssh-keygen -Y sign` sign: that this key has signed this data, for this. No token
  is asked. `public_key` is a line of OpenSSH or one of `:public_key`, that of a security key (`sk-ssh-ed25519`
  ...) too; `{:stream, enumerable}` is data that need not be in memory.

  #{Table.docs(@namespace)}

  Who the key belongs to and whether it may sign is for you to know: OpenSSH has `allowed_signers` for it. A
  signature of a security key counts only when the key was touched, which `ssh-keygen` does not look at.

  Errors: `:signature_invalid` for one by another key, for something else or of other data; `:invalid_argument`
  for what is no signature or no public key, with the part that is not as it should be: one signature with
  nothing around it, at most 64 KiB; `:key_size_range` as in `public_key/3`; `:unsupported` for other keys,
  certificates, `ssh-rsa`, which is SHA-1, and something in the reserved field. OpenSSH's PROTOCOL.sshsig.

      iex> line = Cryptoki.SSH.public_key!(MyApp.HSM, label: "contract")
      iex> signature = Cryptoki.SSH.sign!(MyApp.HSM, [label: "contract"], "text")
      iex> Cryptoki.SSH.verify(line, "text", signature)
      :ok
      iex> {:error, error} = Cryptoki.SSH.verify(line, "text", signature, namespace: "git")
      iex> {error.reason, error.detail}
      {:signature_invalid, ~S(signature: it is for "file", not for "git")}
  """
  @spec verify(String.t() | :public_key.public_key(), data, signature :: String.t(), opts) ::
          :ok | {:error, Error.t()}
  def verify(public_key, data, signature, opts \\ []) do
    {own, []} = CallOptions.split!(opts, @namespace, [])
    data = data!(data)
    unless is_binary(signature), do: raise(ArgumentError, "signature: must be text")

    with {:ok, key} <- about(given(public_key), "public_key"),
         {:ok, signature} <- Signature.read(signature),
         do: Signature.verify(signature, key, own[:namespace], &Chunks.digest(&1, data))
  end

  bang(
    verify(
      public_key :: String.t() | :public_key.public_key(),
      data,
      signature :: String.t(),
      opts
    ) :: :ok
  )

  ## Arguments

  defp subject(hsm, key, call) when is_list(key) or is_map(key), do: Signer.public(hsm, key, call)
  defp subject(hsm, "pkcs11:" <> _ = uri, call), do: Signer.public(hsm, uri, call)
  defp subject(_hsm, key, _call), do: given(key)

  defp about({:error, error}, argument),
    do: {:error, %{error | detail: "#{argument}: #{error.detail}"}}

  defp about(read, _argument), do: read

  defp given(line) when is_binary(line), do: Wire.decode(line)
  defp given(key) when is_tuple(key), do: Wire.encode(key)

  defp given(_other),
    do: raise(ArgumentError, "public_key: must be a line of OpenSSH or a key of :public_key")

  defp data!({:stream, _chunks} = data), do: Chunks.data!(data)
  defp data!(data) when is_binary(data) or is_list(data), do: Chunks.data!(data)
  defp data!(_other), do: raise(ArgumentError, "data is iodata or {:stream, enumerable}")
end
