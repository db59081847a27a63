defmodule Cryptoki.X509.NameConstraints.Subtree do
  @moduledoc false
  # One base of name constraints, and whether a name is below it (RFC 5280, sections 4.2.1.10 and 7). Names
  # are `{kind, value}`; what has no rule here is `:unknown`. Pure.

  alias Cryptoki.{DER, Error}
  alias Cryptoki.DER.Reader
  alias Cryptoki.X509.{AltName, Name}

  @common_name {2, 5, 4, 3}
  @email_address {1, 2, 840, 113_549, 1, 9, 1}

  @type kind :: :dns | :email | :uri | :ip | :dir_name | :unknown
  @type named :: {kind, term}

  @doc "The base of a subtree, from a `GeneralName`."
  @spec base(Reader.t()) :: named
  def base(%{tag: 0x87, contents: bytes} = name) do
    case bytes do
      <<address::binary-size(4), mask::binary-size(4)>> -> {:ip, {address, mask}}
      <<address::binary-size(16), mask::binary-size(16)>> -> {:ip, {address, mask}}
      _other -> Reader.wrong!(name, "it is no address with a mask")
    end
  end

  def base(name), do: name(name)

  @doc "All names of a certificate that constraints are about, those that stand in its subject too."
  @spec names(DER.t(), [DER.t()]) :: {:ok, [named]} | {:error, Error.t()}
  def names(subject, alt_names) do
    read = &Enum.map(Reader.sequence(&1), fn name -> name(name) end)

    with {:ok, names} <- Reader.read(DER.sequence(alt_names), "its alternative names: ", read),
         {:ok, subject} <- parts(subject) do
      whole = if subject == [], do: [], else: [{:dir_name, subject}]
      {:ok, names ++ whole ++ in_subject(subject, names)}
    end
  end

  defp name(%{tag: 0x82, contents: text}), do: {:dns, text}
  defp name(%{tag: 0x81, contents: text}), do: {:email, text}
  defp name(%{tag: 0x86, contents: text}), do: {:uri, text}
  defp name(%{tag: 0x87, contents: address}), do: {:ip, address}
  defp name(%{tag: 0xA4} = name), do: {:dir_name, comparable(Reader.only(name))}
  defp name(name), do: {:unknown, name.der}

  # As OpenSSL does: a common name counts for a host when no alternative name is one.
  defp in_subject(subject, names) do
    attributes = List.flatten(subject)
    emails = for {@email_address, text} <- attributes, do: {:email, text}
    hosts = for {@common_name, text} <- attributes, host?(text), do: {:dns, text}
    if List.keymember?(names, :dns, 0), do: emails, else: emails ++ hosts
  end

  @doc "Whether a common name looks like that of a host."
  @spec host?(String.t()) :: boolean
  def host?(text),
    do: text =~ ~r/\A(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)+\z/i and not (text =~ ~r/\A[0-9.]+\z/)

  ## Names of directories

  @typedoc "Its parts in a form in which equal ones are equal (RFC 5280, section 7.1)."
  @type parts :: [[{DER.oid(), String.t() | {byte, binary}}]]

  @doc "The parts of a name."
  @spec parts(DER.t()) :: {:ok, parts} | {:error, Error.t()}
  def parts(der), do: Reader.read(der, "its name: ", &comparable/1)

  @doc "Whether two names are one."
  @spec same?(DER.t(), DER.t()) :: boolean
  def same?(one, other),
    do: one == other or (parts(one) == parts(other) and match?({:ok, _}, parts(one)))

  defp comparable(name) do
    for part <- Name.read(name),
        do: Enum.sort(for {oid, tag, contents} <- part, do: {oid, comparable(tag, contents)})
  end

  # Strings without regard to their type, to upper case and to how many spaces there are.
  defp comparable(tag, contents) do
    case Reader.text(tag, contents) do
      {:ok, text} ->
        text = text |> :unicode.characters_to_nfkc_binary() |> String.downcase()
        text |> String.split() |> Enum.join(" ")

      :error ->
        {tag, contents}
    end
  end

  ## Whether one is below the other

  @doc "Whether all that a name stands for is below a base."
  @spec within?(kind, term, term) :: boolean
  def within?(:dns, name, base), do: domain?(String.downcase(name), String.downcase(base))
  def within?(:dir_name, name, base), do: List.starts_with?(name, base)
  def within?(:email, name, base), do: mailbox?(name, base)

  # One without a host, or with an address, is below none.
  def within?(:uri, name, base) do
    host = uri_host(name)
    host != nil and on_host?(host, String.downcase(base))
  end

  def within?(:ip, address, {base, mask}),
    do: byte_size(address) == byte_size(mask) and masked(address, mask) == masked(base, mask)

  def within?(:unknown, _name, _base), do: false

  @doc "Whether any of what a name stands for is below a base."
  @spec touches?(kind, term, term) :: boolean
  def touches?(:dns, "*." <> domain = name, base),
    do: within?(:dns, name, base) or one_below?(String.downcase(base), String.downcase(domain))

  # Of one without a host nothing can be told: it is refused (RFC 5280).
  def touches?(:uri, name, base), do: uri_host(name) == nil or within?(:uri, name, base)

  def touches?(kind, name, base), do: within?(kind, name, base)

  # One star stands for one label.
  defp one_below?(base, domain) do
    label = String.replace_suffix(base, "." <> domain, "")
    label != base and not String.contains?(label, ".")
  end

  defp domain?(_name, ""), do: true
  defp domain?(name, "." <> _ = base), do: String.ends_with?(name, base)
  defp domain?(name, base), do: name == base or String.ends_with?(name, "." <> base)

  defp uri_host(name) do
    case Regex.run(~r/\A[^:]+:\/\/(?:[^@\/?#]*@)?([a-z0-9._-]+)(?:[:\/?#]|\z)/i, name) do
      [_, host] -> if host =~ ~r/\A[0-9.]+\z/, do: nil, else: String.downcase(host)
      nil -> nil
    end
  end

  # A host is itself only, one with a dot before it all below.
  defp on_host?(host, "." <> _ = base), do: String.ends_with?(host, base)
  defp on_host?(host, base), do: host == base

  defp mailbox?(name, base) do
    case {split(name), split(base)} do
      {{local, host}, {local, base}} -> host == base
      {{_local, host}, {nil, base}} -> on_host?(host, base)
      _other -> false
    end
  end

  # Letters of hosts are all one, those of mailboxes are not.
  defp split(text) do
    case Regex.run(~r/\A(.+)@([^@]*)\z/s, text) do
      [_, local, host] -> {local, String.downcase(host)}
      nil -> {nil, String.downcase(text)}
    end
  end

  @doc "The bytes of an address that a mask leaves."
  @spec masked(binary, binary) :: binary
  def masked(address, mask),
    do:
      for(
        {a, m} <- Enum.zip(:binary.bin_to_list(address), :binary.bin_to_list(mask)),
        into: <<>>,
        do: <<Bitwise.band(a, m)>>
      )

  @doc "A name in a sentence."
  @spec text(named) :: String.t()
  def text({:ip, ip}) when byte_size(ip) in [4, 16], do: inspect({:ip, AltName.address(ip)})
  def text({:dir_name, _parts}), do: "its subject or a directory name"
  def text(named), do: inspect(named)
end
