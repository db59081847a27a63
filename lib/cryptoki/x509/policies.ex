defmodule Cryptoki.X509.Policies do
  @moduledoc false
  # Certificate policies (RFC 5280, sections 4.2.1.4, 4.2.1.5, 4.2.1.11 and 4.2.1.14): the option, and what
  # the certificate of an issuer that is no root allows. Pure.

  alias Cryptoki.DER
  alias Cryptoki.DER.Reader
  alias Cryptoki.X509.Extensions.{Names, Read, URLs}

  @any {2, 5, 29, 32, 0}
  @cps {1, 3, 6, 1, 5, 5, 7, 2, 1}
  @notice {1, 3, 6, 1, 5, 5, 7, 2, 2}
  @ia5 22
  @utf8 12

  @type t :: {[{DER.oid(), keyword}], critical :: boolean}

  @doc "The value of the option."
  @spec cast(term) :: {:ok, t} | {:error, String.t()} | false
  def cast({policies, critical: critical}) when is_boolean(critical),
    do: with({:ok, {policies, false}} <- cast(policies), do: {:ok, {policies, critical}})

  def cast([_ | _] = policies) do
    policies = Enum.map(policies, &policy/1)
    oids = for {oid, _qualifiers} <- policies, do: oid

    cond do
      text = Enum.find(policies, &is_binary/1) ->
        {:error, text}

      oids != Enum.uniq(oids) ->
        {:error, "#{inspect(hd(oids -- Enum.uniq(oids)))} is there twice"}

      true ->
        {:ok, {policies, false}}
    end
  end

  def cast(_other), do: false

  defp policy(:any), do: {@any, []}

  defp policy({oid, [_ | _] = qualifiers}) do
    with {oid, []} <- policy(oid),
         nil <- Enum.find_value(qualifiers, &wrong/1),
         do: {oid, qualifiers}
  end

  defp policy(oid) do
    if DER.oid?(oid),
      do: {oid, []},
      else: "#{inspect(oid)} is no object identifier, :any, or {one, cps: url, notice: text}"
  end

  defp wrong({:cps, url}),
    do: if(URLs.url?(url), do: nil, else: "cps: #{inspect(url)} is no URL in ASCII")

  defp wrong({:notice, text}) do
    unless is_binary(text) and String.valid?(text) and text =~ ~r/\A\P{Cc}+\z/u and
             String.length(text) <= 200,
           do: "notice: is UTF-8 without control characters, 1 to 200"
  end

  defp wrong(other), do: "there is no qualifier #{inspect(other)}; known: cps: url, notice: text"

  @doc "The value of the extension."
  @spec encode(t) :: DER.t()
  def encode({policies, _critical}) do
    DER.sequence(
      for {oid, qualifiers} <- policies do
        ders = Enum.map(qualifiers, &qualifier/1)
        DER.sequence([DER.oid(oid) | if(ders == [], do: [], else: [DER.sequence(ders)])])
      end
    )
  end

  defp qualifier({:cps, url}), do: DER.sequence([DER.oid(@cps), DER.value(@ia5, url)])

  defp qualifier({:notice, text}),
    do: DER.sequence([DER.oid(@notice), DER.sequence([DER.value(@utf8, text)])])

  ## What an issuer's certificate says

  @doc "Why an issuer with these extensions cannot issue with these options; nothing when it can."
  @spec refused(map, keyword) :: String.t() | nil
  def refused(extensions, options) do
    {policies, _critical} = options[:policies] || {[], false}
    asked = Enum.map(policies, &elem(&1, 0))

    with {:ok, allowed} <- allowed(extensions),
         {:ok, explicit} <- skip(extensions, :policy_constraints, &explicit/1),
         {:ok, any} <- skip(extensions, :inhibit_any_policy, &Read.positive/1) do
      cond do
        asked == [] and explicit <= if(options[:ca] == true, do: 0, else: 1) ->
          "policies: the issuer's certificate wants them in all that it issues (policy constraints)"

        @any in asked and any == 0 ->
          "policies: the issuer's certificate does not allow :any (inhibit any policy)"

        allowed != :any and asked -- allowed != [] ->
          "policies: the issuer's certificate does not allow #{DER.dotted(hd(asked -- allowed))}"

        true ->
          nil
      end
    else
      :error -> "the issuer's certificate has policies that cannot be read"
    end
  end

  # Those of the issuer, by the names that they have below it.
  defp allowed(extensions) do
    with {:ok, policies} <- read(extensions, :policies, &oids(&1, [6, {:maybe, 0x30}])),
         {:ok, mappings} <- read(extensions, :policy_mappings, &oids(&1, [6, 6])) do
      if policies == nil or [@any] in policies do
        {:ok, :any}
      else
        policies = List.flatten(policies)

        {from, to} =
          Enum.unzip(for [from, to] <- mappings || [], from in policies, do: {from, to})

        {:ok, (policies -- from) ++ to}
      end
    end
  end

  # The object identifiers that stand first in each part of an extension.
  defp oids(value, fields) do
    for part <- Reader.sequence(value) do
      for %{tag: 6} = oid <- Reader.fields(Reader.is!(part, 0x30), fields), do: Reader.oid(oid)
    end
  end

  # How many certificates may follow before it holds; never is more than any number.
  defp skip(extensions, name, read) do
    with {:ok, nil} <- read(extensions, name, read), do: {:ok, :never}
  end

  defp explicit(constraints) do
    [explicit, _mapping] =
      Reader.fields(Reader.is!(constraints, 0x30), [{:maybe, 0x80}, {:maybe, 0x81}])

    explicit && Read.positive(%{explicit | tag: 2})
  end

  defp read(extensions, name, fun) do
    case Read.ask(extensions, Names.oid(name), fun) do
      {:ok, value} -> {:ok, value}
      :absent -> {:ok, nil}
      {:error, _unreadable} -> :error
    end
  end
end
