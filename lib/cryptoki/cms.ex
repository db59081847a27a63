defmodule Cryptoki.CMS do
  alias Cryptoki.{CallOptions, Certificates, Chunks, DER, Error, PEM}
  alias Cryptoki.CMS.{Options, Signer}
  alias Cryptoki.Options.Table

  @sign Options.sign()

  @moduledoc """
  Signed files in the Cryptographic Message Syntax (RFC 5652, once PKCS #7), with keys that stay on the
  token: what `openssl cms -verify`, mail programs, PDF and firmware tools read.

      {:ok, der} = Cryptoki.CMS.sign(MyApp.HSM, [label: "invoice"], File.read!("invoice.pem"),
        File.read!("invoice.pdf"), detached: true)

      File.write!("invoice.pdf.p7s", der)

  What is signed are attributes: the type and the digest of the content, the time, and the certificate
  (RFC 5035), which makes it a CAdES-BES signature. Keys: RSA (PKCS #1 and PSS), ECDSA, Ed25519 (RFC
  8419), ML-DSA (RFC 9882), and SLH-DSA with SHA-2 (RFC 9814).
  """

  import Cryptoki.Bang, only: [bang: 1]

  @signed_data {1, 2, 840, 113_549, 1, 7, 2}
  @data {1, 2, 840, 113_549, 1, 7, 1}

  @type hsm :: Cryptoki.hsm()
  @type key :: Cryptoki.key()
  @type opts :: keyword | map
  @typedoc """
  The certificate of a key: DER, PEM, or what names it on the token, as for `Cryptoki.certificate/3`.
  With more than one, that of the key is the first, and all of them go along.
  """
  @type certificate :: binary | key | [binary | key]
  @type data :: iodata | {:stream, Enumerable.t()}

  @doc """
  Signs data with a key and its certificate: the DER of a `ContentInfo` with `SignedData`.

  #{Table.docs(@sign)}
    * `timeout:`, `pin:` and `metadata:` as in `Cryptoki.sign/5`

  Whether the certificate is that of the key is proven as in `Cryptoki.public_key/3`, and each signature
  is verified with it before it is handed on. Whether it is valid is said by who verifies.

  Errors: `:unsupported` for other keys (Ed448 and SLH-DSA with SHAKE among them), `:key_not_found`, `:invalid_argument` when a
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

    with {:ok, signers} <- each(signers, &Signer.fetch(&1, own)),
         {:ok, chain} <- chain(hsm, own[:chain]),
         :ok <- each_is_of_its_key(signers),
         digests = Chunks.digests(Enum.uniq(for(signer <- signers, do: signer.hash)), data),
         {:ok, infos} <- each(signers, &Signer.info(&1, digests, @data, own, call)) do
      certificates = Enum.uniq(Enum.flat_map(signers, & &1.certificates) ++ chain)
      content = if detached?, do: [], else: [DER.explicit(0, DER.octet_string(data))]

      {:ok,
       content_info(@signed_data, [
         DER.explicit(
           0,
           DER.sequence([
             DER.integer(1),
             DER.set_of(Enum.uniq(for(signer <- signers, do: signer.digest_algorithm))),
             DER.sequence([DER.oid(@data) | content]),
             DER.set_of(certificates, 0xA0),
             DER.set_of(infos)
           ])
         )
       ])}
    end
  end

  bang(sign(hsm, key, certificate, data, opts) :: binary)

  @doc """
  The PEM of signed data, as `openssl cms -inform PEM` reads it.

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

  defp each(items, fun) do
    items
    |> Enum.reduce_while({:ok, []}, fn item, {:ok, done} ->
      case fun.(item) do
        {:ok, value} -> {:cont, {:ok, [value | done]}}
        {:error, _error} = error -> {:halt, error}
      end
    end)
    |> case do
      {:ok, values} -> {:ok, Enum.reverse(values)}
      error -> error
    end
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
      :ok = Certificates.source!(certificate, argument)
      name = if argument == "certificate", do: "key", else: argument
      :ok = Certificates.selector!(key, :sign, name)
    end

    if chain == [], do: :ok, else: Certificates.source!(chain, "chain")
  end

  defp signer(hsm, {key, certificate}), do: {hsm, key, certificate, "signers"}
  defp signer(_hsm, {hsm, key, certificate}), do: {hsm, key, certificate, "signers"}
end
