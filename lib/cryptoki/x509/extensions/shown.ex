defmodule Cryptoki.X509.Extensions.Shown do
  @moduledoc false
  # What the extensions of others say that nothing is decided by here, in the form that the options of their names
  # take. What is written in another way is `nil`, for who looks at its DER. Pure.

  alias Cryptoki.DER.Reader
  alias Cryptoki.X509.AltName
  alias Cryptoki.X509.Extensions.Names

  @ocsp {1, 3, 6, 1, 5, 5, 7, 48, 1}
  @ca_issuers {1, 3, 6, 1, 5, 5, 7, 48, 2}
  @any_policy {2, 5, 29, 32, 0}
  @cps {1, 3, 6, 1, 5, 5, 7, 2, 1}
  @notice {1, 3, 6, 1, 5, 5, 7, 2, 2}

  @doc "All of them; lists without the extension are empty."
  @spec all([{tuple, boolean, Reader.t()}]) :: map
  def all(extensions) do
    read = &read(extensions, &1, &2)
    access = read.(:access, &access/1)

    %{
      crl_urls: read.(:crl_urls, &points/1),
      delta_crl_urls: read.(:delta_crl_urls, &points/1),
      ocsp_url: urls(access, @ocsp),
      ca_issuers_url: urls(access, @ca_issuers),
      policies: read.(:policies, &policies/1),
      name_constraints: read.(:name_constraints, &constraints/1),
      ocsp_nocheck: List.keymember?(extensions, Names.oid(:ocsp_nocheck), 0)
    }
  end

  defp read(extensions, name, fun) do
    with {_oid, _critical, value} <- List.keyfind(extensions, Names.oid(name), 0),
         {:ok, shown} <- Reader.read(value.contents, "", fun) do
      shown
    else
      nil -> []
      {:error, _another_way} -> nil
    end
  end

  ## Places

  # Of those for some reasons only, or by another issuer, too.
  defp points(points) do
    Enum.flat_map(Reader.sequence(points), fn point ->
      [names, _reasons, _issuer] =
        Reader.fields(Reader.is!(point, 0x30), [{:maybe, 0xA0}, {:maybe, 0x81}, {:maybe, 0xA2}])

      for name <- if(names, do: names(Reader.only(names)), else: []),
          {:uri, url} <- [AltName.one(name)],
          do: url
    end)
  end

  defp names(%{tag: 0xA0} = full), do: Reader.values(full)
  # Below the name of the issuer.
  defp names(_relative), do: []

  defp access(access) do
    for description <- Reader.sequence(access),
        [oid, name] = Reader.sequence(Reader.is!(description, 0x30)) |> two(description),
        {:uri, url} <- [AltName.one(name)],
        do: {Reader.oid(oid), url}
  end

  defp two([_, _] = both, _outer), do: both
  defp two(_other, outer), do: Reader.wrong!(outer, "two values should be in it")

  defp urls(nil, _oid), do: nil
  defp urls(access, oid), do: for({^oid, url} <- access, do: url)

  ## Policies

  defp policies(policies) do
    for policy <- Reader.sequence(policies) do
      [oid, qualifiers] = Reader.fields(Reader.is!(policy, 0x30), [6, {:maybe, 0x30}])

      qualifiers =
        if qualifiers,
          do: qualifiers |> Reader.sequence() |> Enum.flat_map(&qualifier/1),
          else: []

      case {Reader.oid(oid), qualifiers} do
        {@any_policy, []} -> :any
        {oid, []} -> oid
        policy -> policy
      end
    end
  end

  # Others than the two of the standard, and texts that are kept elsewhere, are not shown.
  defp qualifier(qualifier) do
    [oid, value] = Reader.sequence(qualifier) |> two(qualifier)

    case {Reader.oid(oid), value} do
      {@cps, %{tag: 22}} ->
        [cps: Reader.string(value)]

      {@notice, %{tag: 0x30}} ->
        for text <- Reader.values(value), text.tag != 0x30, do: {:notice, Reader.string(text)}

      _another ->
        []
    end
  end

  ## Name constraints

  defp constraints(constraints) do
    [permitted, excluded] =
      Reader.fields(Reader.is!(constraints, 0x30), [{:maybe, 0xA0}, {:maybe, 0xA1}])

    for {which, subtrees} <- [permitted: permitted, excluded: excluded],
        subtrees != nil,
        do: {which, for(subtree <- Reader.values(subtrees), do: base(subtree))}
  end

  # Minimum and maximum are for nobody (RFC 5280, section 4.2.1.10).
  defp base(subtree) do
    case Reader.only(Reader.is!(subtree, 0x30)) do
      %{tag: 0x87, contents: <<address::binary-size(4), mask::binary-size(4)>>} = name ->
        network(name, address, mask)

      %{tag: 0x87, contents: <<address::binary-size(16), mask::binary-size(16)>>} = name ->
        network(name, address, mask)

      name ->
        AltName.one(name)
    end
  end

  defp network(name, address, mask) do
    bits = for <<1::1 <- mask>>, do: 1
    size = length(bits)

    if mask == <<-1::size(size), 0::size(bit_size(mask) - size)>>,
      do: {:ip, "#{AltName.address(address)}/#{size}"},
      else: {:other, name.der}
  end
end
