defmodule Cryptoki.X509.AltName do
  @moduledoc false
  # One of the alternative names of a subject (RFC 5280, section 4.2.1.6): from what users write to DER,
  # and back. What others ask for is checked as what users write is, by `check/1`. Pure.

  alias Cryptoki.{DER, Error}
  alias Cryptoki.DER.Reader
  alias Cryptoki.X509.Name

  @upn {1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
  @utf8 12

  @type t ::
          {:dns | :ip | :email | :uri | :upn | :dir_name, String.t()}
          | {:rid, DER.oid()}
          | {:other_name, DER.oid(), DER.t()}
          | {:other, DER.t()}
  @type source :: String.t() | {:ip, :inet.ip_address()} | {:dir_name, Name.source()} | t

  @doc "The kinds of names that are known."
  @spec kinds :: [atom]
  def kinds, do: [:dns, :ip, :email, :uri, :upn, :dir_name, :rid, :other_name]

  ## What users write

  @doc "The DER of a name; mistakes raise `ArgumentError`."
  @spec encode!(source) :: DER.t()
  def encode!(name) do
    with name = named!(name),
         :ok <- check(name) do
      encode(name)
    else
      {:error, text} -> wrong!(text)
    end
  end

  defp named!(text) when is_binary(text), do: {kind!(text), text}

  defp named!({:ip, address}) when is_tuple(address) do
    if :inet.is_ip_address(address),
      do: {:ip, ntoa(address)},
      else: wrong!("#{inspect(address)} is no IP address")
  end

  defp named!({:dir_name, {:der, der}}), do: {:dir_name, {:der, der}}
  defp named!({:dir_name, name}), do: {:dir_name, {:der, Name.encode!(name, "subject_alt_name")}}
  defp named!(name), do: name

  # Of which kind a plain text is: what could be two of them is none.
  defp kind!(text) do
    cond do
      not ascii?(text, 2048) -> :dns
      ip(text) != :error -> :ip
      text =~ ~r/\A[A-Za-z][A-Za-z0-9+.-]*:\/\// -> :uri
      text =~ ~r/\A(urn|sips?|tel|mailto|xmpp|tag|did):/i -> :uri
      text =~ ":" -> wrong!(with_colon(text))
      text =~ ~r/\A[0-9.]+\z/ -> :ip
      text =~ "@" -> :email
      true -> :dns
    end
  end

  defp with_colon(text) do
    cond do
      text =~ ~r/\A[^:]*:\d*\z/ -> "#{inspect(text)} has a port, which names do not have"
      text =~ "%" -> "#{inspect(text)} has a zone, which addresses in certificates do not have"
      text =~ ~r/\A\[?[0-9A-Fa-f:.]*\]?(:\d*)?\z/ -> "#{inspect(text)} is no IP address"
      true -> "#{inspect(text)} may be several things; say {:uri, text} when it is a URI"
    end
  end

  defp encode({:email, text}), do: DER.value(0x81, text)
  defp encode({:dns, text}), do: DER.value(0x82, text)
  defp encode({:dir_name, {:der, der}}), do: DER.value(0xA4, der)
  defp encode({:uri, text}), do: DER.value(0x86, text)
  defp encode({:rid, oid}), do: DER.value(0x88, contents(DER.oid(oid)))
  defp encode({:upn, text}), do: encode({:other_name, @upn, DER.value(@utf8, text)})
  defp encode({:other_name, oid, der}), do: DER.value(0xA0, [DER.oid(oid), DER.explicit(0, der)])
  defp encode({:other, der}), do: der

  defp encode({:ip, text}) do
    {:ok, address} = ip(text)
    bits = if tuple_size(address) == 4, do: 8, else: 16
    DER.value(0x87, for(n <- Tuple.to_list(address), do: <<n::size(bits)>>))
  end

  defp contents(der) do
    {:ok, value} = Reader.read(der, "", & &1)
    value.contents
  end

  ## What anybody asks for

  @doc "Whether a name may stand in a certificate; if not, a sentence that has it."
  @spec check(term) :: :ok | {:error, String.t()}
  def check({:dns, name}) do
    cond do
      not ascii?(name, 253) ->
        wrong(name, "is no name of a host; others than ASCII begin with xn--")

      name =~ ~r/(\A|\.)[0-9]+\z/ ->
        wrong(name, "is no name of a host; an address is {:ip, text}")

      host?(String.replace_prefix(name, "*.", "")) ->
        :ok

      true ->
        wrong(name, "is no name of a host")
    end
  end

  def check({:email, address}) do
    with true <- ascii?(address, 255),
         [_, local, domain] <- Regex.run(~r/\A(.+)@([^@]+)\z/, address),
         true <- byte_size(local) <= 64 and local?(local),
         true <- host?(domain) or literal?(domain),
         do: :ok,
         else: (_none -> wrong(address, "is no e-mail address in ASCII"))
  end

  def check({:uri, uri}) do
    with true <- ascii?(uri, 2048),
         [_, rest] <- Regex.run(~r/\A[A-Za-z][A-Za-z0-9+.-]*:(.+)\z/, uri),
         true <- rest =~ ~r/\A([A-Za-z0-9._~!$&'()*+,;=:@\/?#\[\]-]|%[0-9A-Fa-f]{2})+\z/,
         true <- place?(rest),
         do: :ok,
         else: (_none -> wrong(uri, "is no URI in ASCII with a scheme"))
  end

  def check({:ip, address}),
    do: if(ip(address) == :error, do: wrong(address, "is no IP address"), else: :ok)

  def check({:upn, name}) do
    if is_binary(name) and String.valid?(name) and byte_size(name) in 1..1024 and
         name =~ ~r/\A[^\p{Cc}\s@]+@[^\p{Cc}\s@]+\z/u,
       do: :ok,
       else: wrong(name, "is no user principal name, such as user@domain")
  end

  def check({:rid, oid}),
    do: if(DER.oid?(oid), do: :ok, else: wrong(oid, "is no object identifier"))

  def check({:dir_name, {:der, der}}) do
    case Reader.read(der, "it is no name: ", &Name.read/1) do
      {:ok, []} ->
        {:error, "a {:dir_name, name} is empty"}

      {:ok, name} ->
        with {:error, text} <- Name.check(name), do: {:error, "in a {:dir_name, name}: #{text}"}

      {:error, error} ->
        {:error, error.detail}
    end
  end

  def check({:other_name, @upn, der}) do
    case Reader.read(der, "", &{&1.tag, &1.contents}) do
      {:ok, {@utf8, text}} -> check({:upn, text})
      _other -> {:error, "a user principal name is a UTF8String"}
    end
  end

  def check({:other_name, oid, der}) do
    cond do
      not DER.oid?(oid) ->
        wrong(oid, "is no object identifier")

      not Reader.one?(der) ->
        {:error, "the value of {:other_name, #{inspect(oid)}, value} is not DER"}

      true ->
        :ok
    end
  end

  # The two kinds that nobody has seen: X.400 addresses and names of EDI parties.
  def check({:other, <<tag, _::binary>> = der}) when tag in [0xA3, 0xA5] do
    if Reader.one?(der), do: :ok, else: {:error, "the value of {:other, der} is not DER"}
  end

  def check({:other, <<0x87, size, _::binary>>}),
    do: {:error, "an address has #{size} bytes, not 4 or 16"}

  def check(other) do
    {:error,
     "#{quoted(other)} is neither text nor {:dns | :ip | :email | :uri | :upn, text}, " <>
       "{:dir_name, name}, {:rid, oid} or {:other_name, oid, der}"}
  end

  defp wrong(name, text), do: {:error, "#{quoted(name)} #{text}"}

  # Somebody may ask for a megabyte.
  defp quoted(name), do: inspect(name, printable_limit: 300, limit: 40)

  defp ascii?(text, most),
    do: is_binary(text) and byte_size(text) in 1..most and text =~ ~r/\A[\x21-\x7e]+\z/

  defp host?(name) do
    byte_size(name) <= 253 and
      name
      |> String.split(".")
      |> Enum.all?(&(&1 =~ ~r/\A[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\z/))
  end

  # RFC 5321, section 4.1.2: atoms with dots between them, or quoted.
  defp local?(local) do
    atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"

    local =~ ~r/\A#{atom}(\.#{atom})*\z/ or
      local =~ ~r/\A"([\x21\x23-\x5b\x5d-\x7e]|\\[\x21-\x7e])*"\z/
  end

  defp literal?(domain) do
    case Regex.run(~r/\A\[(IPv6:)?([^\]]+)\]\z/, domain) do
      [_, "", address] -> match?({:ok, {_, _, _, _}}, ip(address))
      [_, _ipv6, address] -> match?({:ok, {_, _, _, _, _, _, _, _}}, ip(address))
      nil -> false
    end
  end

  # Who is named after two slashes is a host or an address; brackets are for addresses only.
  defp place?("//" <> rest) do
    [authority | more] = Regex.split(~r/[\/?#]/, rest, parts: 2)

    case Regex.run(~r/\A(?:[^@\[\]]*@)?(\[[^\]]+\]|[^:\[\]]+)(:\d{0,5})?\z/, authority) do
      [_, host | _port] ->
        (host?(host) or bracketed?(host)) and not Enum.any?(more, &(&1 =~ ~r/[\[\]]/))

      nil ->
        false
    end
  end

  defp place?(rest), do: not (rest =~ ~r/[\[\]]/)

  defp bracketed?(host) do
    case Regex.run(~r/\A\[(.+)\]\z/, host) do
      [_, address] -> match?({:ok, {_, _, _, _, _, _, _, _}}, ip(address))
      nil -> false
    end
  end

  # One way to write each part, and no zone: what OTP reads is more.
  defp ip(text) when is_binary(text) do
    with true <- text =~ ~r/\A[0-9A-Fa-f:.]{2,45}\z/,
         true <- Enum.all?(Regex.scan(~r/[0-9A-Fa-f]+(?=\.|\z)/, text), &plain?(hd(&1), text)),
         {:ok, address} <- :inet.parse_strict_address(to_charlist(text)),
         do: {:ok, address},
         else: (_none -> :error)
  end

  defp ip(_other), do: :error

  # Numbers between dots are decimal: others take 010 for eight.
  defp plain?(number, text), do: not (text =~ ".") or number =~ ~r/\A(0|[1-9][0-9]{0,2})\z/

  ## What others have

  @doc "The names in the value of the extension."
  @spec read(DER.t()) :: {:ok, [t]} | {:error, Error.t()}
  def read(der),
    do: Reader.read(der, "subject_alt_name: ", &Enum.map(Reader.sequence(&1), fn n -> one(n) end))

  @doc "What a name says; `{:other, der}` for what is none of the kinds, or says what its kind cannot."
  @spec one(Reader.t()) :: t
  def one(%Reader{} = name) do
    case parse(name) do
      {:dir_name, {:der, der}} -> {:dir_name, shown(der)}
      {kind, text} when kind in [:dns, :email, :uri] -> ascii(kind, text, name.der)
      other -> other
    end
  end

  defp shown(der) do
    {:ok, name} = Reader.read(der, "", &Name.read/1)
    Name.text(name)
  end

  defp ascii(kind, text, der),
    do: if(text =~ ~r/\A[\x20-\x7e]*\z/, do: {kind, text}, else: {:other, der})

  @doc "The same of somebody who asks for it: what may not stand in a certificate ends the reading."
  @spec checked(Reader.t()) :: t
  def checked(%Reader{} = name) do
    with {:error, text} <- name |> parse() |> check(),
         do: Reader.refuse!(:invalid_argument, "subject_alt_name: " <> text)

    one(name)
  end

  defp parse(%{tag: 0x81, contents: text}), do: {:email, text}
  defp parse(%{tag: 0x82, contents: text}), do: {:dns, text}
  defp parse(%{tag: 0x86, contents: text}), do: {:uri, text}
  defp parse(%{tag: 0x87, contents: ip}) when byte_size(ip) in [4, 16], do: {:ip, address(ip)}
  defp parse(%{tag: 0x88} = name), do: {:rid, Reader.oid(%{name | tag: 6})}

  defp parse(%{tag: 0xA4} = name) do
    directory = Reader.only(name)
    _ = Name.read(directory)
    {:dir_name, {:der, directory.der}}
  end

  defp parse(%{tag: 0xA0} = name) do
    [oid, value] = Reader.fields(name, [6, 0xA0])
    value = Reader.only(value)

    with {@upn, %{tag: @utf8, contents: text}} <- {Reader.oid(oid), value},
         true <- String.valid?(text) do
      {:upn, text}
    else
      _another -> {:other_name, Reader.oid(oid), value.der}
    end
  end

  defp parse(name), do: {:other, name.der}

  @doc "The text of an address of four or sixteen bytes."
  @spec address(binary) :: String.t()
  def address(<<a, b, c, d>>), do: ntoa({a, b, c, d})
  def address(<<_::128>> = bytes), do: ntoa(List.to_tuple(for <<n::16 <- bytes>>, do: n))

  # The same on every OTP: addresses that hold one of IPv4 are written as they are, too.
  defp ntoa(address), do: address |> :inet.ntoa() |> to_string()

  @spec wrong!(String.t()) :: no_return
  defp wrong!(text), do: raise(ArgumentError, "subject_alt_name: " <> text)
end
