defmodule Cryptoki.Test.PKI.Judges do
  @moduledoc false
  # Foreign eyes for certificates and revocation lists that the tests make: each judge says what it finds,
  # and what is not named in `Cryptoki.Test.PKI.Known`, with its reason, fails the test.

  import ExUnit.Assertions

  alias Cryptoki.Test.PKI.{Known, Programs, Requests, Server}
  alias Cryptoki.Test.Recorded

  # The judge, how it is asked, and whether it is one of those for `bin/test --pki` only.
  @judges [
    pkilint: {&__MODULE__.pkilint/1, :always},
    cryptography: {&__MODULE__.cryptography/1, :always},
    openssl: {&Programs.openssl/1, :always},
    other_openssl: {&Programs.other_openssl/1, :all},
    certtool: {&Programs.certtool/1, :always},
    nss: {&Programs.certutil/1, :always},
    java: {&__MODULE__.java/1, :all},
    webpki: {&__MODULE__.webpki/1, :all}
  ]

  @typedoc """
  Certificates from the root to the last, lists each with the certificate of its issuer, and the name of the
  host when the last one is a server's.
  """
  @type case_ :: %{
          certificates: [binary, ...],
          lists: [{binary, binary}],
          host: String.t() | nil
        }

  @doc "Fails with what a judge finds and nobody has named."
  @spec judge!([binary, ...], keyword) :: :ok
  def judge!(certificates, opts \\ []) do
    certificates = Enum.uniq(certificates)
    lists = Keyword.get(opts, :lists, [])
    case_ = %{certificates: certificates, lists: lists, host: opts[:host]}

    kinds = Known.kinds(certificates)

    found =
      for {judge, {ask, _when}} <- judges(),
          finding <- ask.(case_),
          do: {judge, finding, Known.reason(judge, finding, kinds)}

    assert [] == for({judge, finding, nil} <- found, do: {judge, finding})
    named = for {judge, _finding, reason} <- found, do: {judge, reason}
    Recorded.pki({:judged, Keyword.keys(judges()), length(certificates), length(lists), named})
  end

  @doc "The judges of this run."
  @spec judges :: keyword
  def judges,
    do: for({_, {_, at}} = judge <- @judges, at == :always or Requests.all?(), do: judge)

  def pkilint(%{certificates: [root | below] = certificates, lists: lists}) do
    # The root names itself as its issuer without an identifier of that key, which it may.
    asked = [[root] | Enum.zip_with([below, certificates], & &1)]

    Enum.flat_map(asked, &ask(:python, "certificate", &1)) ++
      Enum.flat_map(lists, &ask(:python, "crl", Tuple.to_list(&1)))
  end

  # A chain needs two.
  def cryptography(%{certificates: [_]}), do: []

  def cryptography(%{certificates: [root | rest], host: host}) do
    {between, [leaf]} = Enum.split(rest, -1)
    ask(:python, "chain #{host || "-"}", [root, leaf | between])
  end

  def java(case_), do: path_of(:java, case_)
  def webpki(case_), do: path_of(:webpki, case_)

  # The root, then the others; the lists last, in a line of their own kind.
  defp path_of(judge, %{certificates: certificates, lists: lists, host: host}) do
    count = length(certificates)
    ders = certificates ++ Enum.map(lists, &elem(&1, 0))
    ask(judge, "path #{host || "-"} #{count}", ders)
  end

  defp ask(judge, question, ders) do
    Server.ask(:"judge_in_#{judge}", fn -> command(judge) end, question, ders)
  end

  defp command(:python), do: [Requests.python(), "-B", path("judge.py")]
  defp command(:java), do: [System.find_executable("java"), path("Judge.java")]
  defp command(:webpki), do: [Programs.webpki()]

  defp path(name), do: Path.join(__DIR__, name)
end
