defmodule Cryptoki.SSH.Wire do
  @moduledoc false
  # The data types of SSH (RFC 4251, section 5), and public keys in them (RFC 4253, section 6.6, RFC
  # 5656, RFC 8709, and OpenSSH's PROTOCOL.u2f for keys of security keys). Pure.

  alias Cryptoki.Error
  alias Cryptoki.PublicKey.{Edwards, Info}

  # {name in SSH, object identifier of the curve, name of the curve, the same for OTP, bytes of a coordinate}
  @curves [
    {"ecdsa-sha2-nistp256", {1, 2, 840, 10045, 3, 1, 7}, "nistp256", :secp256r1, 32},
    {"ecdsa-sha2-nistp384", {1, 3, 132, 0, 34}, "nistp384", :secp384r1, 48},
    {"ecdsa-sha2-nistp521", {1, 3, 132, 0, 35}, "nistp521", :secp521r1, 66}
  ]
  @ed25519 {1, 3, 101, 112}

  # The types whose fields are a curve's name and a point of it.
  @named_curve for({type, oid, _curve, _otp, _size} <- @curves, into: %{}, do: {type, oid})
               |> Map.put("sk-ecdsa-sha2-nistp256@openssh.com", {1, 2, 840, 10045, 3, 1, 7})
  @types ["ssh-rsa", "ssh-ed25519", "sk-ssh-ed25519@openssh.com" | Map.keys(@named_curve)]

  # What OpenSSH takes by default, and the most that it reads of a number.
  @least_modulus 1024
  @most_modulus 16_384
  # OpenSSL verifies with no longer exponent where the modulus is long.
  @most_exponent 0xFFFFFFFFFFFFFFFF
  # A key with the longest modulus has 2 800 characters.
  @longest_line 16 * 1024

  # The certificate of a key has a name of its own (PROTOCOL.certkeys).
  @certified %{
    "sk-ssh-ed25519@openssh.com" => "sk-ssh-ed25519-cert-v01@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com" => "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com"
  }
  @certificate "-cert-v01@openssh.com"

  @typedoc "A public key: its type, its fields as they stand behind the type, and all of it."
  @type key :: %{type: String.t(), fields: binary, blob: binary, comment: String.t()}

  @spec string(iodata) :: iolist
  def string(data), do: [<<IO.iodata_length(data)::32>>, data]

  @doc "A number that is not negative: the first bit is that of the sign."
  @spec mpint(non_neg_integer) :: iolist
  def mpint(0), do: string("")

  def mpint(number) do
    case :binary.encode_unsigned(number) do
      <<1::1, _::bitstring>> = bytes -> string([0, bytes])
      bytes -> string(bytes)
    end
  end

  @doc "The name of a certificate for a key of this type."
  @spec certificate_type(String.t()) :: String.t()
  def certificate_type(type), do: Map.get(@certified, type, type <> @certificate)

  @doc "A public key of `:public_key`."
  @spec encode(term) :: {:ok, key} | {:error, Error.t()}
  def encode({:RSAPublicKey, modulus, exponent})
      when is_integer(modulus) and modulus >= 0 and is_integer(exponent) and exponent >= 0,
      do: key("ssh-rsa", [mpint(exponent), mpint(modulus)])

  # One for PSS only has no name in SSH, which signs with PKCS #1.
  def encode({{:ECPoint, point}, {:namedCurve, @ed25519}}) when is_binary(point),
    do: key("ssh-ed25519", string(point))

  def encode({{:ECPoint, point}, {:namedCurve, oid}}) when is_binary(point) do
    case List.keyfind(@curves, oid, 1) do
      {type, _oid, curve, _otp, _size} -> key(type, [string(curve), string(point)])
      nil -> unsupported("SSH has no name for keys on this curve")
    end
  end

  def encode(_other), do: unsupported("SSH has no name for keys of this kind")

  defp key(type, fields) do
    fields = IO.iodata_to_binary(fields)

    with :ok <- check(type, fields),
         do: {:ok, %{type: type, fields: fields, blob: blob(type, fields), comment: ""}}
  end

  defp blob(type, fields), do: IO.iodata_to_binary([string(type), fields])

  @doc "The line of a public key, as in `id_ed25519.pub`."
  @spec decode(String.t()) :: {:ok, key} | {:error, Error.t()}
  def decode(line) when byte_size(line) > @longest_line,
    do: wrong("a line with a public key has at most #{@longest_line} characters")

  def decode(line) do
    line = if String.valid?(line), do: String.trim(line), else: ""

    with [type, base64 | comment] <- String.split(line, ~r/[ \t]+/, parts: 3),
         # Several lines, somebody's PEM, or what a terminal would follow.
         false <- String.replace(line, "\t", " ") =~ ~r/[\x00-\x1f\x7f]/,
         {:ok, <<size::32, ^type::binary-size(size), _fields::binary>> = blob} <-
           Base.decode64(base64),
         # One text for each key.
         ^base64 <- Base.encode64(blob),
         {:ok, key} <- read(blob) do
      {:ok, %{key | comment: List.first(comment) || ""}}
    else
      {:error, _error} = error -> error
      _no_line -> wrong("this is no line with a public key of OpenSSH")
    end
  end

  @doc "A public key as it stands on its line, and in what it has signed."
  @spec read(binary) :: {:ok, key} | {:error, Error.t()}
  def read(<<size::32, type::binary-size(size), fields::binary>> = blob) do
    with :ok <- check(type, fields),
         do: {:ok, %{type: type, fields: fields, blob: blob, comment: ""}}
  end

  def read(_cut_off), do: wrong("this is no public key of OpenSSH")

  @doc "The key as `:public_key` has it; that of a security key without what else it signs."
  @spec public_key(key) :: :public_key.public_key()
  def public_key(%{type: type, fields: fields}) do
    # By the type, never by what stands in a field: a point may begin as the name of a curve does.
    case {@named_curve[type], strings(fields)} do
      {nil, [exponent, modulus]} when type == "ssh-rsa" ->
        {:RSAPublicKey, number(modulus), number(exponent)}

      {nil, [point | _]} ->
        {{:ECPoint, point}, {:namedCurve, @ed25519}}

      {curve, [_name, point | _]} ->
        {{:ECPoint, point}, {:namedCurve, curve}}
    end
  end

  @doc "As `ssh-keygen -l` shows it."
  @spec fingerprint(key) :: String.t()
  def fingerprint(%{blob: blob}),
    do: "SHA256:" <> Base.encode64(:crypto.hash(:sha256, blob), padding: false)

  @doc "The line of a key, or of whatever has such a type and such bytes."
  @spec line(String.t(), iodata, String.t()) :: String.t()
  def line(type, blob, comment) do
    base64 = blob |> IO.iodata_to_binary() |> Base.encode64()
    String.trim_trailing("#{type} #{base64} #{comment}")
  end

  ## The fields of each type

  defp check(type, fields) do
    case fits(type, strings(fields)) do
      true -> :ok
      false -> wrong("the fields of this public key are not those of #{type}")
      error -> error
    end
  end

  defp fits("ssh-rsa", [exponent, modulus]), do: rsa(number(exponent), number(modulus))
  defp fits("ssh-ed25519", [point]), do: ed25519?(point)

  defp fits("sk-ssh-ed25519@openssh.com", [point, application]),
    do: text?(application) and ed25519?(point)

  defp fits("sk-ecdsa-sha2-nistp256@openssh.com", ["nistp256", point, application]),
    do: on_curve?(point, :secp256r1, 32) and text?(application)

  for {type, _oid, curve, otp, size} <- @curves do
    defp fits(unquote(type), [unquote(curve), point]),
      do: on_curve?(point, unquote(otp), unquote(size))
  end

  defp fits(type, _others) when type in @types, do: false

  defp fits(type, _fields),
    do: unsupported("there are no keys of type #{inspect(type, printable_limit: 60)} here")

  defp rsa(exponent, modulus) when is_integer(exponent) and is_integer(modulus) do
    bits = Info.bit_length(modulus)

    cond do
      exponent not in 3..@most_exponent -> false
      bits not in @least_modulus..@most_modulus -> size(bits)
      true -> rem(exponent, 2) == 1 and rem(modulus, 2) == 1
    end
  end

  defp rsa(_exponent, _modulus), do: false

  @doc "An mpint that is more than 0, in the one form that it has (RFC 4251, section 5)."
  @spec number(binary) :: pos_integer | :error
  def number(<<0>>), do: :error
  def number(<<0, 0::1, _::bitstring>>), do: :error
  def number(<<0::1, _::bitstring>> = bytes), do: :binary.decode_unsigned(bytes)
  def number(_negative_or_empty), do: :error

  # OpenSSH reads it as a string of C.
  defp text?(application), do: :binary.match(application, <<0>>) == :nomatch

  # SSH has the uncompressed form only.
  defp on_curve?(<<4, _::binary>> = point, curve, size) when byte_size(point) == 2 * size + 1,
    do: Info.point(point, curve) == :ok

  defp on_curve?(_other, _curve, _size), do: false

  # OpenSSH takes any 32 bytes; with the few points of small order everybody can sign.
  defp ed25519?(point), do: Edwards.check(:ed25519, point) == :ok

  defp wrong(text), do: {:error, Error.new(:invalid_argument, text)}
  defp unsupported(text), do: {:error, Error.new(:unsupported, text)}

  defp size(bits) do
    text =
      "OpenSSH wants #{@least_modulus} bits of an RSA key at least and #{@most_modulus} at most, this " <>
        "has #{bits}"

    {:error, Error.new(:key_size_range, text)}
  end

  @doc "The strings in some bytes, or `:error` when these are not all."
  @spec strings(binary) :: [binary] | :error
  def strings(bytes), do: strings(bytes, [])

  defp strings("", strings), do: Enum.reverse(strings)

  defp strings(<<size::32, string::binary-size(size), rest::binary>>, strings),
    do: strings(rest, [string | strings])

  defp strings(_cut_off, _strings), do: :error
end
