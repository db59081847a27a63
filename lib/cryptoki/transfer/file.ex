defmodule Cryptoki.Transfer.File do
  @moduledoc false
  # The text of a transfer: what it is, one line of JSON, one line with the MAC of both. Read strictly, and what is
  # read is what was written, byte by byte: nothing is taken apart from what the MAC is of. Pure.

  alias Cryptoki.{Error, JSON}
  alias Cryptoki.DER.Reader
  alias Cryptoki.PrivateKey.PostQuantum
  alias Cryptoki.PublicKey.Given
  alias Cryptoki.Transfer.{Attributes, Wrapping}

  @first "cryptoki key transfer 1\n"
  @what "transfer: "
  @most 131_072
  @members ~w[attributes check_value class key_type mac_key public_key wrapped_key]
  @sealed_most 65_536

  @type t :: %{
          class: :private_key | :secret_key,
          key_type: atom,
          attributes: keyword,
          check_value: binary | nil,
          public_key: binary | nil,
          wrapped_key: binary,
          transport_key: binary | nil,
          mac_key: binary
        }

  @doc "What the MAC is of."
  @spec body(t) :: binary
  def body(file) do
    members = %{
      class: Atom.to_string(file.class),
      key_type: Atom.to_string(file.key_type),
      attributes: Attributes.write(file.attributes),
      check_value: file.check_value && Base.encode16(file.check_value),
      public_key: file.public_key && Base.encode64(file.public_key),
      wrapped_key: Base.encode64(file.wrapped_key),
      mac_key: Base.encode64(file.mac_key)
    }

    IO.iodata_to_binary([@first, JSON.encode!(transported(members, file.transport_key)), "\n"])
  end

  defp transported(members, nil), do: members
  defp transported(members, key), do: Map.put(members, :transport_key, Base.encode64(key))

  @doc "The text of it with its MAC."
  @spec text(binary, binary) :: String.t()
  def text(body, mac), do: body <> Base.encode64(mac) <> "\n"

  @doc "What is in a text; the part that the MAC is of, and the MAC. Nobody has verified it."
  @spec read(term) :: {:ok, {t, body :: binary, mac :: binary}} | {:error, Error.t()}
  def read(text) when byte_size(text) > @most, do: wrong("it is longer than #{@most} bytes")

  def read(@first <> rest) do
    with [json, mac, ""] <- String.split(rest, "\n"),
         {:ok, <<mac::binary-32>>} <- base64(mac),
         {:ok, %{} = members} <- JSON.decode(json),
         true <- Enum.sort(Map.keys(members) -- ["transport_key"]) == @members,
         {:ok, file} <- file(members) do
      {:ok, {file, @first <> json <> "\n", mac}}
    else
      {:error, _error} = error -> error
      _no_lines -> wrong("it is cut off, or somebody has changed it")
    end
  end

  def read(text) when is_binary(text), do: wrong("it does not begin as such a text does")

  def read(other),
    do: raise(ArgumentError, "a transfer is a text, got: " <> Cryptoki.Type.of(other))

  defp file(%{"class" => class, "key_type" => type} = members) do
    with {:ok, class} <- named(class, ~w[private_key secret_key]a, "class"),
         {:ok, type} <- named(type, Attributes.types(class), "key_type"),
         {:ok, attributes} <- Attributes.read(class, members["attributes"]),
         {:ok, check} <- check_value(members["check_value"]),
         {:ok, public} <- public(class, type, members["public_key"]),
         {:ok, wrapped} <- sealed(members, "wrapped_key"),
         {:ok, transport_key} <- transport_key(members, wrapped),
         {:ok, mac_key} <- sealed(members, "mac_key"),
         :ok <- apart(wrapped, transport_key, mac_key) do
      {:ok,
       %{
         class: class,
         key_type: type,
         attributes: attributes,
         check_value: check,
         public_key: public,
         wrapped_key: wrapped,
         transport_key: transport_key,
         mac_key: mac_key
       }}
    end
  end

  defp named(name, names, what) do
    case Enum.find(names, &(Atom.to_string(&1) == name)) do
      nil -> wrong("its #{what} is none that is known here")
      name -> {:ok, name}
    end
  end

  defp check_value(nil), do: {:ok, nil}

  defp check_value(text) do
    with true <- is_binary(text) and byte_size(text) == 6,
         {:ok, value} <- Base.decode16(text),
         do: {:ok, value},
         else: (_none -> wrong("its check_value is none"))
  end

  defp public(:secret_key, _type, nil), do: {:ok, nil}
  defp public(:secret_key, _type, _key), do: wrong("a secret key has no public_key")

  # Curves of Edwards and Montgomery are of either type on old tokens.
  defp public(:private_key, type, text) do
    with {:ok, der} <- base64(text),
         {:ok, key} <- Reader.read(der, @what, &Given.read/1),
         true <- key.type == type or not PostQuantum.type?(type),
         true <- key.type == type or not PostQuantum.type?(key.type),
         do: {:ok, der},
         else: (_none -> wrong("its public_key is none"))
  end

  defp sealed(members, name) do
    case base64(members[name]) do
      {:ok, bytes} when byte_size(bytes) in 16..@sealed_most -> {:ok, bytes}
      _none -> wrong("its #{name} is none")
    end
  end

  defp transport_key(members, _wrapped) when not is_map_key(members, "transport_key"),
    do: {:ok, nil}

  defp transport_key(members, wrapped) do
    with {:ok, key} <- base64(members["transport_key"]),
         true <- byte_size(key) == Wrapping.transport_size() and Wrapping.chained?(wrapped),
         do: {:ok, key},
         else: (_none -> wrong("its transport_key is none"))
  end

  @doc "How many bytes the key of the MAC has, and how many it has when it is wrapped: no other key that travels has."
  @spec mac_key_size() :: {pos_integer, pos_integer}
  def mac_key_size, do: {200, 208}

  # Both are wrapped alike, but for one under a transport key. A key that somebody knows must not be taken for that of a
  # MAC.
  defp apart(wrapped, transport_key, mac_key) do
    {_size, sealed} = mac_key_size()

    if byte_size(mac_key) == sealed and (transport_key != nil or byte_size(wrapped) != sealed),
      do: :ok,
      else: wrong("its mac_key is none")
  end

  # One text for each bytes.
  defp base64(text) do
    with true <- is_binary(text),
         {:ok, bytes} <- Base.decode64(text),
         true <- Base.encode64(bytes) == text,
         do: {:ok, bytes},
         else: (_none -> :error)
  end

  defp wrong(text), do: {:error, Error.new(:invalid_argument, @what <> text)}
end
