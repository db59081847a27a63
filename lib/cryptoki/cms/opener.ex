defmodule Cryptoki.CMS.Opener do
  @moduledoc false
  # From what is encrypted to its content. Which recipient is meant is public, and told; from there on all is
  # done for whatever comes, and what went wrong is not told: who learns it can decrypt with it.

  alias Cryptoki.{Each, Error, KeyWrap}
  alias Cryptoki.Attribute.Curve
  alias Cryptoki.CMS.{Cipher, Enveloped, Password}
  alias Cryptoki.ContentKey.{Agreement, Derivation, Holder, Transport, Wrapped}
  alias Cryptoki.DER
  alias Cryptoki.X509.{Extensions, Fields}

  # Without a certificate each recipient of the key's kind may be it, and costs a call of the token.
  @tried 16

  @doc "The content; `certificate` is that of the key, or `nil`."
  @spec open(Holder.t(), Enveloped.t(), DER.t() | nil) :: {:ok, binary} | {:error, Error.t()}
  def open(holder, message, certificate) do
    with {:ok, ids} <- ids(certificate),
         {:ok, recipients} <- recipients(message.recipients, kind(holder), ids),
         :ok <- known(recipients, holder),
         {:ok, keys} <- keys(recipients, holder, message.cipher.key) do
      keys |> Stream.map(&opened(message.cipher, &1, message.sealed)) |> content()
    end
  end

  # Of all passwords of a message together: a second or two.
  @rounds 2_000_000

  @doc "The content of what a password opens."
  @spec by_password(Enveloped.t(), binary) :: {:ok, binary} | {:error, Error.t()}
  def by_password(%{recipients: all, cipher: cipher, sealed: sealed}, password) do
    recipients = Enum.filter(all, &(&1.kind == :password))
    known = Enum.reject(recipients, &(&1.cipher == :unknown))

    cond do
      recipients == [] ->
        text = "none of its #{length(all)} recipients is a password"
        {:error, Error.new(:invalid_argument, text)}

      known == [] ->
        text = "how its key is encrypted with a password is not known here"
        {:error, Error.new(:unsupported, text)}

      Enum.sum(Enum.map(known, & &1.count)) > @rounds ->
        text = "its password is for more than #{@rounds} rounds, which are not computed here"
        {:error, Error.new(:unsupported, text)}

      length(known) > @tried ->
        text = "it is for #{length(known)} passwords, and no more than #{@tried} are tried"
        {:error, Error.new(:unsupported, text)}

      true ->
        known |> Stream.map(&by(&1, password, cipher, sealed)) |> content()
    end
  end

  defp by(recipient, password, cipher, sealed) do
    key = recipient |> Password.open(password, cipher.key) |> found(cipher.key)
    opened(cipher, key, sealed)
  end

  defp opened(cipher, {key, _as}, sealed), do: Cipher.open(cipher, key, sealed)

  # The first that opens, whether its key was there or is a substitute: who could see which it was could decrypt. All
  # are opened, and one content is kept.
  defp content(opened) do
    first = fn
      {:ok, _content} = found, nil -> found
      _other, found -> found
    end

    Enum.reduce(opened, nil, first) ||
      {:error, Error.new(:encrypted_data_invalid, "it is for another key, or was changed")}
  end

  ## Who is meant: all of it can be seen by anybody

  defp ids(nil), do: {:ok, :any}

  defp ids(certificate) do
    with {:ok, fields} <- Fields.read(certificate, "certificate"),
         {:ok, extensions} <- Extensions.Read.read(fields.extensions) do
      issuer = {:issuer, DER.sequence([fields.issuer, fields.serial])}

      case Extensions.Read.identifier(extensions) do
        {:ok, identifier} -> {:ok, [issuer, {:key, identifier}]}
        :error -> {:ok, [issuer]}
      end
    end
  end

  defp kind(%{class: :secret_key}), do: :kek
  defp kind(%{key_type: :rsa}), do: :transport
  defp kind(_agreeing), do: :agreement

  defp recipients(all, kind, ids) do
    of_kind = Enum.filter(all, &(&1.kind == kind))
    meant = if ids == :any, do: of_kind, else: Enum.filter(of_kind, &(&1.id in ids))

    cond do
      meant == [] and ids == :any ->
        none("none of its #{length(all)} recipients has a key of this kind")

      meant == [] ->
        none("none of its #{length(all)} recipients is that of certificate:")

      length(meant) > @tried ->
        none("#{length(meant)} recipients may be meant: give certificate:")

      true ->
        {:ok, meant}
    end
  end

  defp none(text), do: {:error, Error.new(:invalid_argument, "it is not for this key: " <> text)}

  # Before anything is decrypted, and for all of them.
  defp known(recipients, holder) do
    if Enum.any?(recipients, &known?(&1, holder)) do
      :ok
    else
      text =
        "how its key is encrypted for this recipient is not known here, or not for this curve"

      {:error, Error.new(:unsupported, text)}
    end
  end

  defp known?(%{kind: :transport, padding: padding}, _holder), do: padding != :unknown

  defp known?(%{kind: :kek, size: size}, holder),
    do: size != :unknown and holder.key_type == :aes and holder.size in [nil, size]

  defp known?(%{kind: :agreement} = recipient, holder),
    do: recipient.scheme != :unknown and point?(recipient, holder.curve)

  defp point?(%{point: nil}, _curve), do: false
  defp point?(%{curve: nil, point: point}, curve), do: Agreement.point?(point, curve)

  defp point?(%{curve: oid, point: point}, curve),
    do: Curve.decode(DER.oid(oid)) == {:ok, curve} and Agreement.point?(point, curve)

  ## The keys, in their order

  defp keys(recipients, holder, size) do
    recipients
    |> Enum.filter(&known?(&1, holder))
    |> Each.of(&key(&1, holder, size))
  end

  defp key(%{kind: :transport} = recipient, holder, size),
    do: Transport.open(holder, recipient.padding, recipient.encrypted, size)

  defp key(%{kind: :kek} = recipient, holder, size) do
    with answer when not is_tuple(answer) or elem(answer, 0) != :error <-
           Wrapped.open(holder, :key_wrap, recipient.encrypted, size),
         do: {:ok, found(answer, size)}
  end

  defp key(%{kind: :agreement, scheme: scheme} = recipient, holder, size) do
    with {:ok, secret} <- Agreement.secret(holder, recipient.point) do
      kek = Derivation.derive(scheme.kdf, secret, recipient.info, scheme.size)
      {:ok, found(unwrapped(scheme.wrap, kek, recipient.encrypted), size)}
    end
  end

  defp unwrapped(:aes, kek, encrypted), do: KeyWrap.unwrap(kek, encrypted)
  defp unwrapped(:des_ede3, kek, encrypted), do: KeyWrap.unwrap_des_ede3(kek, encrypted)

  # One that opens nothing has a key, too.
  defp found({:ok, key}, size) when byte_size(key) == size, do: {key, :real}
  defp found(_wrong, size), do: {:crypto.strong_rand_bytes(size), :none}
end
