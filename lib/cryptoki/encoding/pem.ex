defmodule Cryptoki.PEM do
  @moduledoc false
  # PEM and its relatives (RFC 7468): text around base64. What others wrote is read as laxly as section 3
  # of it says, and is an error with its line otherwise; nothing raises. Pure.

  alias Cryptoki.DER.Reader

  @most 16 * 1_048_576

  # As regular expressions have them: \\s.
  @blanks [?\s, ?\t, ?\r, ?\n, ?\v, ?\f]

  # What files call what they hold; what of it follows the certificate in OpenSSL's own is cut off.
  @trusted "TRUSTED CERTIFICATE"
  @labels %{
    request: ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"],
    certificate: ["CERTIFICATE", "X509 CERTIFICATE", @trusted],
    crl: ["X509 CRL", "CRL"],
    public_key: ["PUBLIC KEY"]
  }

  @names %{
    request: "certification request",
    certificate: "certificate",
    crl: "revocation list",
    public_key: "public key"
  }

  @type kind :: :request | :certificate | :crl | :public_key

  @doc "Bytes with a label, in lines of so many characters."
  @spec encode(iodata, String.t(), pos_integer) :: String.t()
  def encode(bytes, label, width \\ 64) do
    base64 = bytes |> IO.iodata_to_binary() |> Base.encode64()
    lines = Regex.replace(~r/.{1,#{width}}/, base64, "\\0\n")
    "-----BEGIN #{label}-----\n#{lines}-----END #{label}-----\n"
  end

  @doc "The label of a certificate, a request or a list, by what is in the first of their three parts, or of a public key."
  @spec label(term) :: {:ok, String.t()} | :error
  def label(der) do
    case is_binary(der) and Reader.read(der, "", &first_tags/1, :infinity) do
      {:ok, [2, 0x30, 0x30, time | _]} when time in [23, 24] -> {:ok, hd(@labels.crl)}
      # Of the first version, which does not say so.
      {:ok, [0x30, 0x30, time | _]} when time in [23, 24] -> {:ok, hd(@labels.crl)}
      {:ok, [2, 0x30, 0x30]} -> {:ok, hd(@labels.request)}
      {:ok, [2, 0x30, 0x30, 0xA0]} -> {:ok, hd(@labels.request)}
      {:ok, :public_key} -> {:ok, hd(@labels.public_key)}
      {:ok, _certificate} -> {:ok, hd(@labels.certificate)}
      _other -> :error
    end
  end

  defp first_tags(signed) do
    case for field <- Reader.values(signed), do: field.tag do
      # An algorithm and bits.
      [0x30, 3] ->
        :public_key

      _other ->
        [first, _algorithm, _signature] = Reader.signed_parts(signed)
        for field <- Reader.values(first), do: field.tag
    end
  end

  @doc """
  The DER of everything of a kind in a file that is DER or PEM: one at least. Where only so many may be there
  `most` is one more, and what stands behind them is not looked at.
  """
  @spec ders(binary, kind, pos_integer) :: {:ok, [binary, ...]} | {:error, String.t()}
  def ders(bytes, kind, most \\ @most) do
    cond do
      byte_size(bytes) > @most -> {:error, "it is longer than #{@most} bytes"}
      der?(bytes) -> {:ok, [bytes]}
      true -> in_text(bytes, kind, most)
    end
  end

  defp in_text(text, kind, most) do
    with {:ok, entries} <- decode(text, @labels[kind], most) do
      case {for({_label, der} <- entries, is_binary(der), do: der), entries} do
        {[_ | _] = ders, _entries} -> {:ok, ders}
        {[], []} -> {:error, "it is neither DER nor PEM"}
        {[], others} -> {:error, "it has no #{@names[kind]}, but #{others(others)}"}
      end
    end
  end

  @doc "The labels of entries for a sentence: they are others' text, of any length and number."
  @spec others([{String.t(), term}]) :: String.t()
  def others(entries) do
    labels = entries |> Enum.map(&elem(&1, 0)) |> Enum.uniq()
    more = if length(labels) > 3, do: " and others", else: ""
    Enum.map_join(Enum.take(labels, 3), ", ", &inspect(String.slice(&1, 0, 40))) <> more
  end

  @doc "Whether it is DER. Text may begin with a zero too, which is its first byte."
  @spec der?(binary) :: boolean
  def der?(<<0x30, size, _::binary>>) when size in 0x80..0x84, do: true

  def der?(<<0x30, size, rest::binary>> = bytes) when size < 0x80,
    do: byte_size(rest) == size or :binary.match(bytes, "-----BEGIN ") == :nomatch

  def der?(_bytes), do: false

  @doc """
  The entries of a text in their order: label and DER, or `nil` for those with other labels, which are
  only looked over; up to the one that is number `most` of those with DER. `:all` is every label. The error
  says what is wrong first and in which line.
  """
  @spec decode(binary, [String.t()] | :all, pos_integer) ::
          {:ok, [{label :: String.t(), binary | nil}]} | {:error, String.t()}
  def decode(text, labels, most \\ @most)

  def decode(text, _labels, _most) when byte_size(text) > @most,
    do: {:error, "it is longer than #{@most} bytes"}

  def decode(text, labels, most), do: text |> utf8() |> entries(0, labels, most, [])

  defp entries(_text, _from, _labels, 0, done), do: {:ok, Enum.reverse(done)}

  defp entries(text, from, labels, most, done) do
    with {label, from, to, next} <- block(text, from),
         {_from, {:ok, der}} <- {from, entry(label, binary_part(text, from, to - from), labels)} do
      most = if der, do: most - 1, else: most
      entries(text, next, labels, most, [{label, der} | done])
    else
      :none -> {:ok, Enum.reverse(done)}
      {:error, at, what} -> wrong(text, at, what)
      {from, {:error, at, what}} -> wrong(text, from + at, what)
    end
  end

  @doc """
  What is encrypted in the first entry with a label: its headers (RFC 1421), which say how, and its bytes.
  """
  @spec sealed(binary, String.t()) :: {:ok, headers :: binary, binary} | {:error, String.t()}
  def sealed(text, label), do: text |> utf8() |> sealed(label, 0)

  defp sealed(text, wanted, from) do
    case block(text, from) do
      {^wanted, from, to, _next} ->
        content = text |> binary_part(from, to - from) |> blanks()
        {behind, _encrypted?} = headers(content, false, false)
        head = byte_size(content) - byte_size(behind)

        case base64(content, head) do
          {:ok, bytes} -> {:ok, binary_part(content, 0, head), bytes}
          {:error, at, what} -> wrong(text, to - byte_size(content) + at, what)
        end

      {_another, _from, _to, next} ->
        sealed(text, wanted, next)

      _none ->
        {:error, "it has no #{inspect(wanted)}"}
    end
  end

  # What Windows' shell writes. A mark of UTF-8 is before everything, as any other text.
  defp utf8(<<mark::binary-size(2), rest::binary>> = text)
       when mark in [<<0xFF, 0xFE>>, <<0xFE, 0xFF>>] do
    {encoding, 2} = :unicode.bom_to_encoding(mark)

    case :unicode.characters_to_binary(rest, encoding) do
      utf8 when is_binary(utf8) -> utf8
      _none -> text
    end
  end

  defp utf8(text), do: text

  @begin "-----BEGIN "
  @stop "-----END "

  # Of the next block: label, where its text is, and where what follows begins.
  defp block(text, from) do
    case match(text, @begin, from) do
      nil ->
        :none

      at ->
        from = at + byte_size(@begin)
        # A line of text may look like one only.
        if own_line?(text, at), do: begun(text, at, from), else: block(text, from)
    end
  end

  defp begun(text, at, from) do
    with {:ok, label, inside} <- label(text, from),
         {:ok, to} <- rest(text, inside, label, at) do
      {label, inside, to, to + byte_size(@stop) + byte_size(label) + 5}
    else
      :none -> block(text, from)
      error -> error
    end
  end

  defp label(text, from) do
    with to when to != nil <- match(text, "-----", from),
         label = binary_part(text, from, to - from),
         true <- byte_size(label) <= 64 and label =~ ~r/\A[\x20-\x7e]+\z/,
         do: {:ok, label, to + 5},
         else: (_none -> :none)
  end

  defp rest(text, from, label, at) do
    stop = @stop <> label <> "-----"

    case match(text, "-----", from) do
      nil ->
        {:error, at, "#{inspect(label)} begins and does not end"}

      to ->
        if binary_part(text, to, min(byte_size(stop), byte_size(text) - to)) == stop,
          do: {:ok, to},
          else: {:error, to, "#{inspect(label)} should end here"}
    end
  end

  # After blanks, or right behind another.
  defp own_line?(_text, 0), do: true

  defp own_line?(text, at) do
    case :binary.at(text, at - 1) do
      blank when blank in [?\s, ?\t] -> own_line?(text, at - 1)
      # The last of the mark of UTF-8.
      0xBF -> at == 3
      byte -> byte in [?\n, ?\r, ?\v, ?\f, ?-]
    end
  end

  defp match(text, pattern, from) do
    case :binary.match(text, pattern, scope: {from, byte_size(text) - from}) do
      {at, _size} -> at
      :nomatch -> nil
    end
  end

  defp entry(label, content, labels) do
    if labels == :all or label in labels, do: open(label, content), else: {:ok, nil}
  end

  defp open(label, content) do
    first = blanks(content)
    {behind, encrypted?} = headers(first, false, false)
    from = if behind == first, do: 0, else: byte_size(content) - byte_size(behind)

    cond do
      encrypted? -> {:ok, nil}
      label == @trusted -> with {:ok, der} <- base64(content, from), do: first(der)
      true -> base64(content, from)
    end
  end

  # RFC 1421's, of which old keys have two: lines with a colon, and those that go on from them. Each byte is
  # looked at once, whatever it is: what stands behind them, and whether one says that it is encrypted.
  defp headers(text, some?, encrypted?) do
    with true <- header?(text) or (some? and goes_on?(text)),
         {line, rest} <- line(text) do
      headers(rest, true, encrypted? or encrypted?(line))
    else
      _none -> {text, encrypted?}
    end
  end

  defguardp is_name(c) when c in ?A..?Z or c in ?a..?z or c in ?0..?9 or c == ?-

  defp header?(<<c, rest::binary>>) when is_name(c), do: named?(rest)
  defp header?(_text), do: false

  defp named?(<<?:, _::binary>>), do: true
  defp named?(text), do: header?(text)

  defp goes_on?(<<c, _::binary>>), do: c in [?\s, ?\t]
  defp goes_on?(""), do: false

  # It ends with LF or CRLF: with CR alone it is none.
  defp line(text) do
    case :erlang.split_binary(text, size(text, 0)) do
      {line, <<?\n, rest::binary>>} -> {line, rest}
      {line, <<"\r\n", rest::binary>>} -> {line, rest}
      _other -> :none
    end
  end

  defp size(<<c, rest::binary>>, size) when c not in [?\r, ?\n], do: size(rest, size + 1)
  defp size(_end, size), do: size

  defp encrypted?("Proc-Type:" <> rest), do: :binary.match(rest, "ENCRYPTED") != :nomatch
  defp encrypted?(_line), do: false

  defp blanks(<<c, rest::binary>>) when c in @blanks, do: blanks(rest)
  defp blanks(text), do: text

  defp base64(content, from) do
    text = binary_part(content, from, byte_size(content) - from)

    with nil <- Regex.run(~r/[^A-Za-z0-9+\/=\s]/, text, return: :index),
         text = for(<<c <- text>>, c not in @blanks, into: <<>>, do: <<c>>),
         {:ok, <<_, _::binary>> = der} <- Base.decode64(text) do
      {:ok, der}
    else
      [{at, 1}] -> {:error, from + at, "this is not base64"}
      {:ok, ""} -> {:error, from, "nothing stands here"}
      :error -> {:error, byte_size(content), "the base64 before this is cut off"}
    end
  end

  defp first(der) do
    case Reader.first(der) do
      {:ok, first} -> {:ok, first}
      :error -> {:ok, der}
    end
  end

  defp wrong(text, at, what),
    do: {:error, "line #{line(binary_part(text, 0, at), 1)}: #{what}"}

  defp line(<<"\r\n", rest::binary>>, number), do: line(rest, number + 1)
  defp line(<<c, rest::binary>>, number) when c in [?\r, ?\n], do: line(rest, number + 1)
  defp line(<<_, rest::binary>>, number), do: line(rest, number)
  defp line("", number), do: number
end
