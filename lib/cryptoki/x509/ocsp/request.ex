defmodule Cryptoki.X509.OCSP.Request do
  @moduledoc false
  # What clients ask about certificates (RFC 6960, section 4.1): anybody's bytes. Who asks, and a signature of
  # theirs, are looked over and count for nothing. Pure.

  alias Cryptoki.{DER, Error}
  alias Cryptoki.DER.Reader
  alias Cryptoki.SignatureAlgorithm.Identifier
  alias Cryptoki.X509.Extensions.Read

  @nonce {1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
  # Which answers a client takes: the one that there is.
  @response {1, 3, 6, 1, 5, 5, 7, 48, 1, 4}
  # RFC 9654, section 2.1.
  @nonce_bytes 1..128

  @most 65_536
  # Each is looked up by somebody.
  @requests 100

  @hashes Map.new(~w(sha sha256 sha384 sha512)a, &{Identifier.hash_oid(&1), &1})

  @typedoc "A certificate that is asked about, as it was written in `der`; the hash is `nil` when it is not known."
  @type id :: %{
          der: DER.t(),
          hash: atom | nil,
          issuer_name_hash: binary,
          issuer_key_hash: binary,
          serial: integer
        }
  @type t :: %{ids: [id, ...], nonce: binary | nil}

  @doc "Reads a request."
  @spec read(binary) :: {:ok, t} | {:error, Error.t()}
  def read(bytes), do: Reader.read(bytes, "this is no OCSP request: ", &request/1, @most)

  defp request(request) do
    with [%{tag: 10} = status | _] <- Reader.values(Reader.is!(request, 0x30)),
         do: Reader.wrong!(status, "it is an answer to one")

    [asked, signature] =
      Reader.fields(Reader.is!(request, 0x30), [0x30, {:maybe, "signature", 0xA0}])

    if signature, do: Reader.check(signature)

    [version, name, list, extensions] =
      Reader.fields(asked, [
        {:maybe, "version", 0xA0},
        {:maybe, "requestor name", 0xA1},
        {"list", 0x30},
        {:maybe, "extensions", 0xA2}
      ])

    if version && Reader.integer(Reader.only(version)) != 0,
      do: Reader.wrong!(version, "it is of a version that is not known", :unsupported)

    if name, do: Reader.check(name)
    ids = Reader.map(list, &one/2, @requests)
    if ids == [], do: Reader.wrong!(list, "it asks about no certificate")
    %{ids: ids, nonce: extensions(extensions, [@nonce, @response])}
  end

  defp one(request, number) do
    [id, extensions] =
      request
      |> Reader.name("request #{number}")
      |> Reader.is!(0x30)
      |> Reader.fields([0x30, {:maybe, "extensions", 0xA0}])

    nil = extensions(extensions, [])
    [algorithm, name, key, serial] = Reader.fields(id, [0x30, 4, 4, {"serial number", 2}])
    {oid, parameters} = Identifier.parts(algorithm)
    if parameters, do: Reader.null(parameters)

    %{
      der: id.der,
      hash: @hashes[oid],
      issuer_name_hash: Reader.octets(name),
      issuer_key_hash: Reader.octets(key),
      serial: Reader.integer(serial, 64)
    }
  end

  # The nonce; what is critical and not known is not passed over.
  defp extensions(nil, _known), do: nil

  defp extensions(extensions, known) do
    list = Read.list(Reader.only(extensions))

    for {oid, true, value} <- list, oid not in known do
      Reader.wrong!(value, "it is critical, and not known here")
    end

    if @nonce in known, do: Read.of(list, @nonce, nil, &nonce/1)
  end

  defp nonce(value) do
    nonce = Reader.octets(value)
    if byte_size(nonce) in @nonce_bytes, do: nonce, else: Reader.wrong!(value, "1 to 128 bytes")
  end

  @doc "What users see of a request."
  @spec shown(t) :: map
  def shown(%{ids: ids, nonce: nonce}),
    do: %{certificates: Enum.map(ids, &Map.delete(&1, :der)), nonce: nonce}

  @doc "Whether one is about a certificate of this issuer, by its name and the bits of its key."
  @spec of?(id, name :: DER.t(), key :: binary) :: boolean
  def of?(%{hash: nil}, _name, _key), do: false

  def of?(%{hash: hash} = id, name, key) do
    id.issuer_name_hash == :crypto.hash(hash, name) and
      id.issuer_key_hash == :crypto.hash(hash, key)
  end

  @doc "The extension of an answer that has the nonce of its request."
  @spec nonce_extension(binary) :: {DER.oid(), false, DER.t()}
  def nonce_extension(nonce), do: {@nonce, false, DER.octet_string(nonce)}
end
