defmodule Cryptoki.SSH.Signature do
  @moduledoc false
  # Signatures of files (OpenSSH's PROTOCOL.sshsig): made, and those of others read and verified. They may be
  # any bytes: one text for each, and what a verifier need not know is refused by name. Pure.

  alias Cryptoki.{Ecdsa, Error, PEM, SignatureAlgorithm, SSH.Wire}

  @magic "SSHSIG"
  @label "SSH SIGNATURE"
  # The longest of ours, RSA of 16 384 bits, has 6 KiB.
  @longest 64 * 1024

  # {key, algorithm, hash}: what each key signs with (RFC 8332, RFC 5656, RFC 8709).
  @algorithms [
    {"ssh-rsa", "rsa-sha2-512", :sha512},
    {"ssh-rsa", "rsa-sha2-256", :sha256},
    {"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256", :sha256},
    {"ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384", :sha384},
    {"ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521", :sha512},
    {"ssh-ed25519", "ssh-ed25519", :none},
    {"sk-ssh-ed25519@openssh.com", "sk-ssh-ed25519@openssh.com", :none},
    {"sk-ecdsa-sha2-nistp256@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", :sha256}
  ]

  @type t :: %{
          key: Wire.key(),
          namespace: binary,
          hash: :sha256 | :sha512,
          algorithm: String.t(),
          with: atom,
          signature: binary,
          touched: binary
        }

  @doc "What is signed: the digest of the data, and what it is for."
  @spec to_be_signed(binary, atom, binary) :: iolist
  def to_be_signed(namespace, hash, digest),
    do: [@magic, about(namespace, hash), Wire.string(digest)]

  # Between them is a field that is reserved.
  defp about(namespace, hash),
    do: Enum.map([namespace, "", Atom.to_string(hash)], &Wire.string/1)

  @doc "The text of a signature: of the key, with two strings, the name of the algorithm first."
  @spec armored(Wire.key(), binary, atom, iodata) :: String.t()
  def armored(key, namespace, hash, signature) do
    about = about(namespace, hash)
    blob = [@magic, <<1::32>>, Wire.string(key.blob), about, Wire.string(signature)]
    PEM.encode(blob, @label, 70)
  end

  ## Of others

  @doc "Reads a signature; nothing is verified."
  @spec read(String.t()) :: {:ok, t} | {:error, Error.t()}
  def read(text) do
    with {:ok, blob} <- blob(text),
         {:ok, fields} <- version(blob),
         {:ok, [key, namespace, reserved, hash, signature]} <-
           fields(fields, ["public key", "namespace", "reserved field", "hash", "signature"]),
         {:ok, key} <- key(key),
         :ok <- reserved(reserved),
         {:ok, hash} <- hash(hash),
         {:ok, signature} <- signature(signature, key.type),
         do: {:ok, Map.merge(signature, %{key: key, namespace: namespace, hash: hash})}
  end

  # OpenSSH wants nothing before and behind it; lines may have any length.
  defp blob(text) when byte_size(text) > @longest,
    do: wrong("it is longer than #{@longest} bytes")

  defp blob(text) do
    with {:ok, [{@label, <<_, _::binary>> = blob}]} <- PEM.decode(text, [@label]),
         true <- String.starts_with?(text, "-----BEGIN "),
         true <- squeezed(text) == blob |> PEM.encode(@label) |> squeezed() do
      {:ok, blob}
    else
      {:error, text} -> wrong(text)
      _others -> wrong("it is not the text of one signature, with nothing around it")
    end
  end

  defp squeezed(text),
    do: for(<<c <- text>>, c not in [?\s, ?\t, ?\r, ?\n], into: <<>>, do: <<c>>)

  defp version(<<@magic, 1::32, fields::binary>>), do: {:ok, fields}

  defp version(<<@magic, version::32, _::binary>>),
    do: unsupported("there is no version #{version} here")

  defp version(_other), do: wrong("it does not begin with SSHSIG and a version")

  defp fields("", []), do: {:ok, []}
  defp fields(_more, []), do: wrong("there are bytes behind its end")

  defp fields(<<size::32, field::binary-size(size), rest::binary>>, [_name | names]),
    do: with({:ok, fields} <- fields(rest, names), do: {:ok, [field | fields]})

  defp fields(_cut_off, [name | _]), do: wrong("the #{name} is cut off")

  defp key(blob) do
    with {:error, error} <- Wire.read(blob), do: {:error, in_signature(error)}
  end

  # OpenSSH verifies as if nothing stood there, so that one that is signed is none for it.
  defp reserved(""), do: :ok

  defp reserved(other),
    do: unsupported("its reserved field is #{shown(other)}, and here it has to be empty")

  defp hash("sha256"), do: {:ok, :sha256}
  defp hash("sha512"), do: {:ok, :sha512}
  defp hash(other), do: unsupported("the hash is #{shown(other)}, neither sha256 nor sha512")

  # Security keys say behind it that they were touched, and how often (PROTOCOL.u2f).
  defp signature(<<size::32, name::binary-size(size), rest::binary>>, type) do
    with {:ok, hash} <- algorithm(type, name),
         {:ok, signature, touched} <- raw(rest, type),
         do: {:ok, %{algorithm: name, with: hash, signature: signature, touched: touched}}
  end

  defp signature(_cut_off, _type), do: wrong("the signature is cut off")

  defp algorithm(type, name) do
    case for({^type, ^name, hash} <- @algorithms, do: hash) do
      [hash] -> {:ok, hash}
      [] when name == "ssh-rsa" -> unsupported("it is signed with ssh-rsa, whose hash is SHA-1")
      [] -> wrong("it is signed with #{shown(name)}, and a key of #{type} is not")
    end
  end

  defp raw(<<size::32, raw::binary-size(size)>>, type) when binary_part(type, 0, 3) != "sk-",
    do: {:ok, raw, ""}

  defp raw(<<size::32, raw::binary-size(size), touched::binary-size(5)>>, "sk-" <> _),
    do: {:ok, raw, touched}

  defp raw(_other, _type), do: wrong("what is signed is cut off, or there is more behind it")

  ## Whether it is one

  @doc "Whether it is one by this key, for this, of data with such digests."
  @spec verify(t, Wire.key(), binary, (atom -> binary)) :: :ok | {:error, Error.t()}
  def verify(signature, key, namespace, digest) do
    cond do
      signature.key.blob != key.blob ->
        invalid("it is by another key, #{Wire.fingerprint(signature.key)}")

      signature.namespace != namespace ->
        invalid("it is for #{shown(signature.namespace)}, not for #{shown(namespace)}")

      not touched?(signature.touched) ->
        invalid("nobody has touched the security key")

      signed?(signature, digest.(signature.hash)) ->
        :ok

      true ->
        invalid("it is not of this data")
    end
  end

  # The first bit of the flags: who asks a security key can do so without a touch, and sshd takes none.
  defp touched?(""), do: true
  defp touched?(<<flags, _counter::32>>), do: Bitwise.band(flags, 1) == 1

  defp signed?(signature, digest) do
    data = to_be_signed(signature.namespace, signature.hash, digest)
    data = data |> IO.iodata_to_binary() |> by_hardware(signature)
    key = Wire.public_key(signature.key)

    with {:ok, plain} <- plain(key, signature.signature),
         do: SignatureAlgorithm.signed?(data, signature.with, plain, key) == true,
         else: (:error -> false)
  end

  defp by_hardware(data, %{touched: ""}), do: data

  defp by_hardware(data, %{key: key, touched: touched}) do
    application = key.fields |> Wire.strings() |> List.last()
    :crypto.hash(:sha256, application) <> touched <> :crypto.hash(:sha256, data)
  end

  # As OTP verifies it. Of RSA some leave zeros out that stand before the number, as OpenSSH does not mind.
  defp plain({:RSAPublicKey, modulus, _exponent}, raw) do
    case byte_size(:binary.encode_unsigned(modulus)) - byte_size(raw) do
      missing when missing >= 0 -> {:ok, <<0::unit(8)-size(missing), raw::binary>>}
      _longer -> :error
    end
  end

  defp plain({_point, {:namedCurve, {1, 3, 101, 112}}}, raw), do: {:ok, raw}

  defp plain(_ecdsa, raw) do
    with [r, s] <- Wire.strings(raw),
         [r, s] when is_integer(r) and is_integer(s) <- [Wire.number(r), Wire.number(s)],
         do: {:ok, Ecdsa.der(r, s)},
         else: (_no_numbers -> :error)
  end

  defp shown(bytes), do: inspect(bytes, printable_limit: 60, limit: 60)

  defp in_signature(error), do: %{error | detail: "signature: #{error.detail}"}
  defp wrong(text), do: {:error, in_signature(Error.new(:invalid_argument, text))}
  defp unsupported(text), do: {:error, in_signature(Error.new(:unsupported, text))}
  defp invalid(text), do: {:error, in_signature(Error.new(:signature_invalid, text))}
end
