defmodule Cryptoki.X509.NameConstraints do
  @moduledoc false
  # Which names an authority may issue for (RFC 5280, section 4.2.1.10): the option, and the names of a
  # certificate against what the issuer's says. Pure.

  alias Cryptoki.DER
  alias Cryptoki.DER.Reader
  alias Cryptoki.X509.Name
  alias Cryptoki.X509.NameConstraints.Subtree

  @permitted 0xA0
  @excluded 0xA1

  @type t :: {[{:permitted | :excluded, [DER.t()]}], critical :: boolean}

  ## The option

  @doc "The value of the option."
  @spec cast(term) :: {:ok, t} | {:error, String.t()} | false
  def cast({constraints, critical: critical}) when is_boolean(critical),
    do: with({:ok, {constraints, true}} <- cast(constraints), do: {:ok, {constraints, critical}})

  def cast([_ | _] = constraints) do
    with true <- Keyword.keyword?(constraints),
         [] <- Keyword.keys(constraints) -- [:permitted, :excluded] do
      names = for {_which, names} <- constraints, name <- List.wrap(names), do: base(name)

      case {Enum.find(names, &match?({:error, _}, &1)), names} do
        {nil, []} -> false
        {nil, _names} -> {:ok, {bases(constraints), true}}
        {error, _names} -> error
      end
    else
      _no_constraints -> false
    end
  end

  def cast(_other), do: false

  defp bases(constraints) do
    for {which, [_ | _] = names} <- constraints,
        do: {which, Enum.map(List.wrap(names), &elem(base(&1), 1))}
  end

  defp base({:dns, name}), do: ascii(0x82, name, ~r/\A\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\z/)

  defp base({:email, name}),
    do: ascii(0x81, name, ~r/\A([\x21-\x3f\x41-\x7e]+@|\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\z/)

  defp base({:uri, name}), do: ascii(0x86, name, ~r/\A\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\z/)
  defp base({:dir_name, name}), do: {:ok, DER.value(0xA4, Name.encode!(name, "name_constraints"))}

  defp base({:ip, text} = name) when is_binary(text) do
    with [address, bits] <- String.split(text, "/"),
         {:ok, address} <- :inet.parse_strict_address(to_charlist(address)),
         {bits, ""} <- Integer.parse(bits),
         bytes = bytes(address),
         true <- bits in 0..bit_size(bytes),
         mask = <<-1::size(bits), 0::size(bit_size(bytes) - bits)>>,
         true <- Subtree.masked(bytes, mask) == bytes do
      {:ok, DER.value(0x87, [bytes, mask])}
    else
      _no_network -> wrong(name, "no network, such as \"10.0.0.0/8\"")
    end
  end

  defp base(name), do: wrong(name, "none of {:dns | :email | :uri | :ip | :dir_name, text}")

  defp ascii(tag, name, regex) do
    if is_binary(name) and byte_size(name) <= 255 and name =~ regex,
      do: {:ok, DER.value(tag, name)},
      else: wrong(name, "no name or domain of its kind")
  end

  defp bytes(address) do
    size = if tuple_size(address) == 4, do: 8, else: 16
    for n <- Tuple.to_list(address), into: <<>>, do: <<n::size(size)>>
  end

  defp wrong(name, text), do: {:error, "#{inspect(name)} is #{text}"}

  @doc "The value of the extension."
  @spec encode(t) :: DER.t()
  def encode({constraints, _critical}) do
    DER.sequence(
      for {which, tag} <- [permitted: @permitted, excluded: @excluded],
          bases = constraints[which],
          do: DER.value(tag, Enum.map(bases, &DER.sequence([&1])))
    )
  end

  ## The issuer's

  @doc "Why a certificate with this subject and these alternative names cannot be issued; nothing when it can."
  @spec refused(DER.t() | nil, subject :: DER.t(), alt_names :: [DER.t()]) :: String.t() | nil
  def refused(nil, _subject, _alt_names), do: nil

  def refused(constraints, subject, alt_names) do
    with {:ok, subtrees} <- read(constraints),
         {:ok, names} <- Subtree.names(subject, alt_names) do
      Enum.find_value(names, &refused_by(&1, subtrees))
    else
      {:error, error} ->
        "the issuer's certificate has name constraints that cannot be read here: #{error.detail}"
    end
  end

  defp refused_by({kind, name} = named, subtrees) do
    permitted = for {:permitted, {^kind, base}} <- subtrees, do: base
    excluded = for {:excluded, {^kind, base}} <- subtrees, do: base

    cond do
      kind == :unknown and Enum.any?(subtrees, &match?({_which, {:unknown, _}}, &1)) ->
        "the issuer's name constraints have names of a kind that is not understood here"

      Enum.any?(excluded, &Subtree.touches?(kind, name, &1)) ->
        "the issuer's name constraints exclude #{Subtree.text(named)}"

      permitted != [] and not Enum.any?(permitted, &Subtree.within?(kind, name, &1)) ->
        "the issuer's name constraints do not permit #{Subtree.text(named)}"

      true ->
        nil
    end
  end

  defp read(der) do
    Reader.read(der, "", fn constraints ->
      fields = [{:maybe, "permitted", @permitted}, {:maybe, "excluded", @excluded}]
      [permitted, excluded] = Reader.fields(Reader.is!(constraints, 0x30), fields)

      for {which, subtrees} <- [permitted: permitted, excluded: excluded],
          subtrees != nil,
          subtree <- Reader.values(subtrees),
          # Without a minimum and a maximum, which nobody may have (RFC 5280).
          do: {which, subtree |> Reader.is!(0x30) |> Reader.only() |> Subtree.base()}
    end)
  end
end
