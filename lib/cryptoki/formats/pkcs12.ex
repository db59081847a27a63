defmodule Cryptoki.PKCS12 do
  @moduledoc false
  # PKCS #12 (RFC 7292) that a password protects: one private key and its certificates, in DER, BER or PEM. The MAC is
  # verified before anything is opened, and all that is computed with the password has one bound. Pure.

  alias Cryptoki.{BER, Error, PEM, PrivateKey}
  alias Cryptoki.DER.Reader
  alias Cryptoki.PKCS12.{Chain, MAC, Password}
  alias Cryptoki.PrivateKey.{Encryption, Info}

  @what "PKCS #12: "
  @most 1_048_576
  # Safes, bags in one, and safes within safes: files have a handful.
  @parts 256
  @depth 3

  @anew "`openssl pkcs12 -in FILE -nodes -out PEM` and `openssl pkcs12 -export -in PEM -out NEW` write it anew"
  @data {1, 2, 840, 113_549, 1, 7, 1}
  @encrypted {1, 2, 840, 113_549, 1, 7, 6}
  @enveloped {1, 2, 840, 113_549, 1, 7, 3}
  @signed {1, 2, 840, 113_549, 1, 7, 2}
  @x509 {1, 2, 840, 113_549, 1, 9, 22, 1}
  @bags %{
    {1, 2, 840, 113_549, 1, 12, 10, 1, 1} => :key,
    {1, 2, 840, 113_549, 1, 12, 10, 1, 2} => :shrouded,
    {1, 2, 840, 113_549, 1, 12, 10, 1, 3} => :certificate,
    {1, 2, 840, 113_549, 1, 12, 10, 1, 6} => :safe
  }

  @unknown "it is encrypted in a way that is not read here; #{@anew} (RC4 with `-legacy` in the first)"
  @needed "it wants its password; say password:"
  @another "it is not authentic with this password: another was meant, or it was changed"
  @by_keys "it is protected by keys and not by a password, which is not read here"
  @no_mac "it has no MAC, so that nobody can tell whose it is; #{@anew}"

  @doc "The private key in a file, and its certificates: its own first, and those above it."
  @spec read(binary, password :: binary | nil) ::
          {:ok, {PrivateKey.t(), [binary]}} | {:error, Error.t()}
  # Windows writes some without one.
  def read(bytes, nil) do
    with {:error, %Error{reason: :invalid_argument, detail: detail}} = error <- read(bytes, "") do
      if String.ends_with?(detail, @another),
        do: {:error, Error.new(:unsupported, @what <> @needed)},
        else: error
    end
  end

  def read(bytes, _password) when byte_size(bytes) > @most,
    do: {:error, Error.new(:invalid_argument, "#{@what}it is longer than #{@most} bytes")}

  def read(bytes, password) do
    with {:ok, bytes} <- binary(bytes),
         {:ok, der} <- BER.to_der(bytes),
         {:ok, {key, certificates}} <- Reader.read(der, @what, &pfx(&1, password)) do
      {:ok, {key, Chain.sorted(certificates, key.public)}}
    else
      {:error, %Error{} = error} -> {:error, about(error)}
      {:error, text} -> {:error, Error.new(:invalid_argument, @what <> text)}
    end
  end

  @doc "Whether a password is wanted to read it."
  @spec encrypted?(binary) :: boolean
  def encrypted?(bytes),
    do: match?({:error, %Error{detail: @what <> @needed}}, read(bytes, nil))

  # GnuTLS writes it as text where it is not told otherwise.
  defp binary(<<0x30, _::binary>> = bytes), do: {:ok, bytes}

  defp binary(text) do
    with {:ok, entries} <- PEM.decode(text, ["PKCS12"]) do
      case {for({_label, der} <- entries, is_binary(der), do: der), entries} do
        {[bytes], _entries} -> {:ok, bytes}
        {[], []} -> {:error, "it is neither DER nor PEM"}
        {[], others} -> {:error, "there is none in it, but #{PEM.others(others)}"}
        {several, _entries} -> {:error, "there are #{length(several)} in it, and one should be"}
      end
    end
  end

  # What opens a private key alone does not open this.
  defp about(%{detail: detail} = error) do
    if detail == Encryption.unknown(), do: %{error | detail: @what <> @unknown}, else: error
  end

  defp pfx(value, password) do
    [version, safe, mac] =
      Reader.fields(Reader.is!(value, 0x30), [
        {"version", 2},
        {"authSafe", 0x30},
        {:maybe, "macData", 0x30}
      ])

    if Reader.integer(version) != 3,
      do: Reader.wrong!(version, "there is no such version of PKCS #12")

    {bytes, password} =
      authentic(content(safe), mac || Reader.refuse!(:unsupported, @what <> @no_mac), password)

    safes = for safe <- bytes |> inside("authSafe") |> numbered("safe"), do: safe(safe)
    left = spent(Password.most(), for({:sealed, algorithm, _} <- safes, do: algorithm))
    bags = Enum.flat_map(safes, &bags(&1, password))

    {key(bags, left, password), for({:certificate, der} <- bags, do: der)}
  end

  # What somebody changed is not opened, whoever knows the password.
  defp authentic(bytes, mac, password) do
    case MAC.password(mac, bytes.contents, password) do
      {:ok, written} ->
        {der(bytes), written}

      :error ->
        Reader.wrong!(bytes, @another)
    end
  end

  # What stands in it was written by itself: the MAC is of its bytes as they are.
  defp der(bytes) do
    case BER.to_der(bytes.contents) do
      {:ok, der} -> %{bytes | contents: der}
      {:error, text} -> Reader.wrong!(bytes, text)
    end
  end

  # The bytes of a ContentInfo that is not encrypted.
  defp content(info) do
    case parts(info) do
      {@data, value} -> Reader.is!(value, 4)
      {oid, value} -> other!(oid, value)
    end
  end

  defp parts(info) do
    [type, value] = Reader.fields(Reader.is!(info, 0x30), [{"contentType", 6}, {"content", 0xA0}])
    {Reader.oid(type), Reader.only(value)}
  end

  @spec other!(tuple, Reader.t()) :: no_return
  defp other!(oid, _value) when oid in [@signed, @enveloped],
    do: Reader.refuse!(:unsupported, @what <> @by_keys)

  defp other!(_oid, value), do: Reader.wrong!(value, "there is no such content of PKCS #12")

  defp safe(info) do
    case parts(info) do
      {@data, value} -> {:open, value |> Reader.is!(4) |> der()}
      {@encrypted, value} -> sealed(value)
      {oid, value} -> other!(oid, value)
    end
  end

  defp sealed(value) do
    [version, info] =
      Reader.fields(Reader.is!(value, 0x30), [{"version", 2}, {"encryptedContentInfo", 0x30}])

    if Reader.integer(version) != 0, do: Reader.wrong!(version, "there is no such version of it")

    [type, algorithm, one, parts] =
      Reader.fields(info, [
        {"contentType", 6},
        {"algorithm", 0x30},
        {:maybe, "encryptedContent", 0x80},
        {:maybe, "encryptedContent", 0xA0}
      ])

    if Reader.oid(type) != @data, do: Reader.wrong!(type, "what is encrypted in it is no safe")
    content = one || parts || Reader.wrong!(info, "it has no encryptedContent")
    {:sealed, algorithm, %{content | tag: 4, contents: BER.octets(content)}}
  end

  # What is computed with the password is counted before it is.
  defp spent(left, algorithms) do
    Enum.reduce(algorithms, left, fn algorithm, left ->
      left = left - Encryption.rounds(algorithm)
      if left < 0, do: Reader.refuse!(:unsupported, @what <> Password.too_many()), else: left
    end)
  end

  defp bags({:open, bytes}, _password), do: safe_contents(bytes, @depth)

  defp bags({:sealed, algorithm, sealed}, password) do
    plain = Encryption.open(algorithm, sealed, password)
    within(plain, sealed, &safe_contents(&1, @depth))
  end

  # It is the password's when what it opened is none: the MAC was made with it.
  defp within(plain, sealed, read) do
    read = &read.(%{Reader.secret(&1) | path: sealed.path})

    case with({:ok, der} <- BER.to_der(plain), do: Reader.read(der, "", read)) do
      {:ok, read} -> read
      {:error, %{reason: :unsupported, detail: text}} -> Reader.wrong!(sealed, text, :unsupported)
      {:error, %{detail: text}} -> Reader.wrong!(sealed, none(text))
      {:error, text} -> Reader.wrong!(sealed, none(text))
    end
  end

  defp none(text), do: "with this password it is none: #{text}"

  # The SEQUENCE that the contents of a string of bytes are.
  defp inside(bytes, name), do: bytes |> Reader.within() |> Reader.name(name)

  defp numbered(value, each) do
    sequence = Reader.is!(value, 0x30)
    Reader.map(sequence, fn value, number -> Reader.name(value, "#{each} #{number}") end, @parts)
  end

  defp safe_contents(%{tag: 4} = bytes, depth),
    do: bytes |> inside("safeContents") |> numbered("bag") |> each_bag(depth)

  defp safe_contents(value, depth), do: value |> numbered("bag") |> each_bag(depth)

  defp each_bag([first | _], 0), do: Reader.wrong!(first, "safes stand in each other too deep")
  defp each_bag(bags, depth), do: Enum.flat_map(bags, &bag(&1, depth))

  defp bag(bag, depth) do
    [type, value, attributes] =
      Reader.fields(Reader.is!(bag, 0x30), [
        {"bagId", 6},
        {"bagValue", 0xA0},
        {:maybe, "bagAttributes", 0x31}
      ])

    if attributes, do: Reader.check(attributes)

    case @bags[Reader.oid(type)] do
      :key -> [{:key, Reader.secret(Reader.only(value))}]
      :shrouded -> [{:shrouded, Reader.only(value)}]
      :certificate -> certificate(Reader.only(value))
      :safe -> value |> Reader.only() |> safe_contents(depth - 1)
      # Lists of revoked certificates and somebody's secrets.
      nil -> []
    end
  end

  defp certificate(bag) do
    [type, value] = Reader.fields(Reader.is!(bag, 0x30), [{"certId", 6}, {"certValue", 0xA0}])

    if Reader.oid(type) == @x509 do
      bytes = Reader.only(value)
      _ = bytes |> Reader.within() |> Reader.is!(0x30)
      [{:certificate, Reader.octets(bytes)}]
    else
      []
    end
  end

  defp key(bags, left, password) do
    case for({kind, value} when kind in [:key, :shrouded] <- bags, do: {kind, value}) do
      [{:key, value}] ->
        Info.pkcs8(value)

      [{:shrouded, value}] ->
        _ = spent(left, Enum.take(Reader.sequence(value), 1))
        Info.encrypted(value, password)

      [] ->
        Reader.refuse!(:invalid_argument, @what <> "there is no private key in it")

      several ->
        text = "there are #{length(several)} private keys in it, and one should be"
        Reader.refuse!(:invalid_argument, @what <> text)
    end
  end
end
