defmodule Cryptoki.CMS.Enveloped do
  @moduledoc false
  # EnvelopedData (RFC 5652, section 6.1) and AuthEnvelopedData (RFC 5083) of others. Pure.

  alias Cryptoki.CMS.{Cipher, Form, Recipient}
  alias Cryptoki.{BER, DER, Error}
  alias Cryptoki.DER.Reader

  @enveloped {1, 2, 840, 113_549, 1, 7, 3}
  @auth_enveloped {1, 2, 840, 113_549, 1, 9, 16, 1, 23}
  # Each costs a call of the token at most, and memory here.
  @recipients 1000

  @typedoc "`sealed` is what `Cryptoki.CMS.Cipher.open/3` opens."
  @type t :: %{
          recipients: [Recipient.t()],
          cipher: Cipher.t(),
          sealed: {binary, binary | nil, binary}
        }

  @doc "What stands in DER, BER or PEM."
  @spec read(binary) :: {:ok, t} | {:error, Error.t()}
  def read(bytes), do: Form.read(bytes, "this is no encrypted message: ", &content_info/1)

  @doc "Whether it has a tag, where that is asked for."
  @spec authenticated(t, boolean) :: :ok | {:error, Error.t()}
  def authenticated(%{cipher: cipher}, wanted?) do
    if wanted? and not Cipher.authenticated?(cipher) do
      text = "authenticated: its content has no tag that would show a change"
      {:error, Error.new(:unsupported, text)}
    else
      :ok
    end
  end

  defp content_info(info) do
    [type, content] = Reader.fields(Reader.is!(info, 0x30), [6, 0xA0])

    case Reader.oid(type) do
      @enveloped ->
        enveloped(Reader.only(content))

      @auth_enveloped ->
        auth_enveloped(Reader.only(content))

      other ->
        Reader.wrong!(type, "it is #{Form.called(other)}, which is not encrypted for a key")
    end
  end

  @head [{"version", 2}, {:maybe, 0xA0}, {"recipients", 0x31}, {"encrypted content", 0x30}]

  defp enveloped(data) do
    [version, _originator, recipients, content, _attributes] =
      Reader.fields(Reader.is!(data, 0x30), @head ++ [{:maybe, 0xA1}])

    {cipher, ciphertext} = content(content)

    if Cipher.authenticated?(cipher),
      do: Reader.wrong!(content, "a cipher with a tag stands in what has none", :unsupported)

    read(version, recipients, cipher, {ciphertext, nil, ""})
  end

  defp auth_enveloped(data) do
    tail = [{:maybe, "attributes", 0xA1}, {"tag", 4}, {:maybe, 0xA2}]

    [version, _originator, recipients, content, attributes, tag, _others] =
      Reader.fields(Reader.is!(data, 0x30), @head ++ tail)

    {cipher, ciphertext} = content(content)

    unless Cipher.authenticated?(cipher),
      do: Reader.wrong!(content, "a cipher without a tag stands in what has one", :unsupported)

    # Authenticated as the SET OF that they are, without the tag that they have here (RFC 5083, section 2.2).
    aad = if attributes, do: DER.value(0x31, attributes.contents), else: ""
    read(version, recipients, cipher, {ciphertext, Reader.octets(tag), aad})
  end

  defp read(version, recipients, cipher, sealed) do
    _ = Reader.integer(version)

    recipients =
      Reader.map(
        recipients,
        fn recipient, number -> Recipient.read(Reader.name(recipient, "recipient #{number}")) end,
        @recipients
      )

    %{recipients: Enum.concat(recipients), cipher: cipher, sealed: sealed}
  end

  defp content(content) do
    [type, algorithm | encrypted] = at_least_two(content)
    _ = Reader.oid(type)

    case encrypted do
      [encrypted] -> {Cipher.read(algorithm), BER.octets(encrypted)}
      [] -> Reader.wrong!(content, "the content is not in it", :unsupported)
      [_, extra | _] -> Reader.wrong!(extra, "nothing should stand here")
    end
  end

  defp at_least_two(content) do
    case Reader.values(content) do
      [_type, _algorithm | _encrypted] = values -> values
      _fewer -> Reader.wrong!(content, "it says not how it is encrypted")
    end
  end
end
