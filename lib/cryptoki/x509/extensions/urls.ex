defmodule Cryptoki.X509.Extensions.URLs do
  @moduledoc false
  # Where lists of revoked certificates, answers about one, and the issuer's certificate are found (RFC
  # 5280, sections 4.2.1.13, 4.2.2.1, 5.2.5 and 5.2.7). Pure.

  alias Cryptoki.DER

  @ocsp {1, 3, 6, 1, 5, 5, 7, 48, 1}
  @ca_issuers {1, 3, 6, 1, 5, 5, 7, 48, 2}
  @uri 0x86

  @doc "The value of an option: one URL or a list of them."
  @spec cast(term) :: {:ok, [String.t()]} | {:error, String.t()} | false
  def cast([]), do: {:ok, []}

  def cast(urls) when is_list(urls) or is_binary(urls) do
    urls = List.wrap(urls)

    case Enum.reject(urls, &url?/1) do
      [] -> {:ok, urls}
      [wrong | _] -> {:error, "#{inspect(wrong)} is no URL in ASCII (http, https, ldap or ftp)"}
    end
  end

  def cast(_other), do: false

  # Space and what RFC 3986 has not, are escaped.
  @characters "[A-Za-z0-9._~:/?\\[\\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2}"

  @doc "Whether it is a URL that programs look for."
  @spec url?(term) :: boolean
  def url?(text) do
    is_binary(text) and byte_size(text) <= 2048 and
      text =~ ~r/\A(?i:https?|ldaps?|ftp):\/\/(#{@characters})+\z/ and
      text =~ ~r/\A[^:]+:\/\/([^\/]|\/[^\/])/
  end

  @doc "`CRLDistributionPoints`: one list, which all of the URLs lead to."
  @spec distribution_points([String.t()]) :: DER.t()
  def distribution_points(urls), do: DER.sequence([issuing_distribution_point(urls)])

  @doc "`IssuingDistributionPoint` of a list for everything, which is where certificates say that it is."
  @spec issuing_distribution_point([String.t()]) :: DER.t()
  def issuing_distribution_point(urls),
    do: DER.sequence([DER.value(0xA0, [DER.value(0xA0, Enum.map(urls, &uri/1))])])

  @doc "`AuthorityInfoAccess`."
  @spec access(ocsp :: [String.t()], ca_issuers :: [String.t()]) :: DER.t()
  def access(ocsp, ca_issuers) do
    all =
      for {oid, urls} <- [{@ocsp, ocsp}, {@ca_issuers, ca_issuers}], url <- urls, do: {oid, url}

    DER.sequence(for {oid, url} <- all, do: DER.sequence([DER.oid(oid), uri(url)]))
  end

  defp uri(url), do: DER.value(@uri, url)
end
