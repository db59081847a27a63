defmodule Cryptoki.X509.AltName do
  @moduledoc false
  # Alternative names (RFC 5280, section 4.2.1.6): from what users write to DER, and back. Pure.

  alias Cryptoki.DER

  @type t :: {:dns | :ip | :email | :uri, String.t()}
  @type source :: String.t() | t

  @doc "The kinds of names that are known."
  @spec kinds :: [atom]
  def kinds, do: [:dns, :ip, :email, :uri]

  @doc "The DER of one name; mistakes raise `ArgumentError`."
  @spec encode!(source) :: DER.t()
  def encode!(text) when is_binary(text), do: encode!({kind(text), text})

  def encode!({:dns, name}) do
    unless ascii?(name, 253) and
             name =~
               ~r/\A(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*\z/,
           do:
             wrong!(
               "subject_alt_name: #{inspect(name)} is no name of a host; others than ASCII begin with xn--"
             )

    DER.value(0x82, name)
  end

  def encode!({:email, address}) do
    unless ascii?(address, 255) and address =~ ~r/\A[^@\s]+@[^@\s]+\z/,
      do: wrong!("subject_alt_name: #{inspect(address)} is no e-mail address in ASCII")

    DER.value(0x81, address)
  end

  def encode!({:uri, uri}) do
    unless ascii?(uri, 2048) and uri =~ ~r/\A[A-Za-z][A-Za-z0-9+.-]*:[^\s]+\z/,
      do: wrong!("subject_alt_name: #{inspect(uri)} is no URI in ASCII with a scheme")

    DER.value(0x86, uri)
  end

  def encode!({:ip, address}) do
    case ip(address) do
      {:ok, {_, _, _, _} = v4} -> DER.value(0x87, for(n <- Tuple.to_list(v4), do: <<n>>))
      {:ok, v6} -> DER.value(0x87, for(n <- Tuple.to_list(v6), do: <<n::16>>))
      :error -> wrong!("subject_alt_name: #{inspect(address)} is no IP address")
    end
  end

  def encode!(other),
    do:
      wrong!(
        "subject_alt_name: #{inspect(other)} is neither text nor {:dns | :ip | :email | :uri, text}"
      )

  defp kind(text) do
    cond do
      ip(text) != :error -> :ip
      text =~ ~r/\A[A-Za-z][A-Za-z0-9+.-]*:/ -> :uri
      text =~ "@" -> :email
      true -> :dns
    end
  end

  defp ip(address) when is_tuple(address) do
    if :inet.is_ip_address(address), do: {:ok, address}, else: :error
  end

  defp ip(text) when is_binary(text) do
    case :inet.parse_strict_address(to_charlist(text)) do
      {:ok, address} -> {:ok, address}
      {:error, :einval} -> :error
    end
  end

  defp ip(_other), do: :error

  defp ascii?(text, most),
    do: is_binary(text) and byte_size(text) <= most and text =~ ~r/\A[\x21-\x7e]+\z/

  @doc "Names as `encode!/1` takes them, from the value of the extension; others as `{:other, der}`."
  @spec read(DER.t()) :: {:ok, [t | {:other, DER.t()}]} | :error
  def read(der) do
    with {:ok, [{0x30, contents, _}]} <- DER.split(der),
         {:ok, names} <- DER.split(contents),
         do: {:ok, Enum.map(names, &read_one/1)},
         else: (_no_names -> :error)
  end

  defp read_one({0x81, address, _}), do: {:email, address}
  defp read_one({0x82, name, _}), do: {:dns, name}
  defp read_one({0x86, uri, _}), do: {:uri, uri}

  defp read_one({0x87, <<a, b, c, d>>, _}), do: {:ip, address({a, b, c, d})}

  defp read_one({0x87, <<bytes::binary-size(16)>>, _}),
    do: {:ip, address(List.to_tuple(for <<n::16 <- bytes>>, do: n))}

  defp read_one({_tag, _contents, der}), do: {:other, der}

  defp address(address), do: address |> :inet.ntoa() |> to_string()

  @spec wrong!(String.t()) :: no_return
  defp wrong!(text), do: raise(ArgumentError, text)
end
