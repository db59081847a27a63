defmodule Cryptoki.URI do
  @moduledoc """
  PKCS #11 URIs (RFC 7512): one string that names a library, a slot, a token or an object.

      pkcs11:token=payments;object=invoice;type=private?module-path=/opt/acme/libacme.so

  | attributes | what they name |
  |---|---|
  | `library-manufacturer`, `library-description`, `library-version` | the library |
  | `slot-description`, `slot-manufacturer`, `slot-id` | the slot |
  | `token`, `manufacturer`, `model`, `serial` | the token |
  | `object`, `id`, `type` | the object: its label, its id, its class |
  | behind the `?`: `module-name`, `module-path`, `pin-source`, `pin-value` | how to get there |

  In the struct each has its name with `_` for `-`. `nil` means that the URI does not have the
  attribute, which matches everything; an empty value matches only what is empty. Text is UTF-8,
  `id` is any bytes, `library_version` is `{major, minor}`. Attributes that the RFC does not
  define are kept in `vendor` (path) and `vendor_query`, in their order.

  `to_string/1` writes the canonical form, **with** the `pin-value`; `inspect/1` hides it, but not with
  `structs: false`, nor does Erlang's `~p`: what is to be nowhere belongs into `pin-source`.
  """

  alias Cryptoki.Error
  alias Cryptoki.URI.{Library, Syntax}

  # The attributes that are compared with a library, a slot, a token, and the names used there.
  @library [
    library_manufacturer: :manufacturer,
    library_description: :description,
    library_version: :version
  ]
  @slot [slot_description: :description, slot_manufacturer: :manufacturer, slot_id: :id]
  @token [token: :label, manufacturer: :manufacturer, model: :model, serial: :serial]

  @classes [
    public: :public_key,
    private: :private_key,
    cert: :certificate,
    secret_key: :secret_key,
    data: :data
  ]
  @nowhere Keyword.take(
             Syntax.empty(),
             [:object, :id, :type, :vendor_query] ++ Syntax.query_fields()
           )

  defstruct Syntax.empty()

  @type version :: {0..255, 0..255}
  @type object_type :: :public | :private | :cert | :secret_key | :data
  @type vendor :: [{String.t(), binary}]

  @type t :: %__MODULE__{
          library_manufacturer: String.t() | nil,
          library_description: String.t() | nil,
          library_version: version | nil,
          slot_description: String.t() | nil,
          slot_manufacturer: String.t() | nil,
          slot_id: non_neg_integer | nil,
          token: String.t() | nil,
          manufacturer: String.t() | nil,
          model: String.t() | nil,
          serial: String.t() | nil,
          object: String.t() | nil,
          id: binary | nil,
          type: object_type | nil,
          module_name: binary | nil,
          module_path: binary | nil,
          pin_source: binary | nil,
          pin_value: String.t() | nil,
          vendor: vendor,
          vendor_query: vendor
        }

  @doc """
  Reads a URI (RFC 7512, section 2.3).

  Strict: what the grammar does not allow is `{:error, error}` with reason `:invalid_argument` and
  a sentence that names the attribute and its position. The scheme, the standard attributes' names
  and the types are read in any case. Only a vendor attribute behind the `?` may come twice.

      iex> {:ok, uri} = Cryptoki.URI.parse("pkcs11:token=My%20HSM;id=%01%FF;type=private")
      iex> {uri.token, uri.id, uri.type}
      {"My HSM", <<1, 255>>, :private}

      iex> {:error, error} = Cryptoki.URI.parse("pkcs11:token=a;token=b")
      iex> error.detail
      "token, at character 16 of the PKCS #11 URI, is given twice"
  """
  @spec parse(String.t()) :: {:ok, t} | {:error, Error.t()}
  def parse(string) when is_binary(string) do
    with {:ok, fields} <- Syntax.read(string),
         {:ok, uri} <- one_pin(Map.merge(%__MODULE__{}, fields)) do
      {:ok, uri}
    else
      {:error, sentence} -> {:error, Error.new(:invalid_argument, sentence)}
    end
  end

  @doc """
  Reads a URI; raises `Cryptoki.Error` where `parse/1` answers an error.

      iex> Cryptoki.URI.parse!("pkcs11:slot-id=3")
      #Cryptoki.URI<pkcs11:slot-id=3>
  """
  @spec parse!(String.t()) :: t
  def parse!(string) do
    case parse(string) do
      {:ok, uri} -> uri
      {:error, error} -> raise error
    end
  end

  @doc """
  Builds a URI from its attributes (RFC 7512, section 2.3). Raises `ArgumentError` when one does
  not exist or has a value that it cannot have; `nil` is an attribute not given.

      iex> to_string(Cryptoki.URI.new(token: "My HSM", id: "k1", type: :private))
      "pkcs11:token=My%20HSM;id=%6B%31;type=private"
  """
  @spec new(keyword | map) :: t
  def new(attributes) do
    given = for {field, value} <- attributes, value != nil, do: {field, value}

    with :ok <- Enum.find_value(given, :ok, &wrong/1),
         {:ok, uri} <- one_pin(struct!(__MODULE__, given)) do
      uri
    else
      {:error, sentence} -> raise ArgumentError, sentence
    end
  end

  defp wrong({field, value}), do: with(:ok <- Syntax.check(field, value), do: nil)

  @doc """
  Whether two URIs say the same (RFC 7512, section 2.6). The order of attributes, the way bytes
  are encoded and the way a file is written in `pin-source` do not count.

      iex> a = Cryptoki.URI.parse!("pkcs11:library-version=3;token=a")
      iex> b = Cryptoki.URI.parse!("PKCS11:token=%61;library-version=3.0")
      iex> Cryptoki.URI.equivalent?(a, b)
      true
  """
  @spec equivalent?(t, t) :: boolean
  def equivalent?(%__MODULE__{} = a, %__MODULE__{} = b), do: normal(a) == normal(b)

  @doc """
  Whether the library attributes fit what `Cryptoki.library_info/1` answers (RFC 7512, section
  2.5).

      iex> uri = Cryptoki.URI.parse!("pkcs11:library-manufacturer=SoftHSM;library-version=2.6")
      iex> Cryptoki.URI.matches_library?(uri, %{manufacturer: "SoftHSM", version: {2, 6}})
      true
  """
  @spec matches_library?(t, map) :: boolean
  def matches_library?(uri, info), do: matches?(uri, info, @library)

  @doc """
  Whether the slot attributes fit an element of what `Cryptoki.slots/1` answers (RFC 7512, section
  2.5). The token in the slot is not looked at.

      iex> uri = Cryptoki.URI.parse!("pkcs11:slot-id=3;token=payments")
      iex> Cryptoki.URI.matches_slot?(uri, %{id: 3, description: "Reader", manufacturer: "Acme"})
      true
  """
  @spec matches_slot?(t, map) :: boolean
  def matches_slot?(uri, slot), do: matches?(uri, slot, @slot)

  @doc """
  Whether the token attributes fit what `Cryptoki.token_info/1` answers (RFC 7512, section 2.5).

  A URI with a vendor attribute in its path matches no library, slot or token: what it asks for is
  not known.

      iex> info = %{label: "payments", manufacturer: "Acme", model: "HSM 2", serial: "0042"}
      iex> Cryptoki.URI.matches_token?(Cryptoki.URI.new(token: "payments"), info)
      true
      iex> Cryptoki.URI.matches_token?(Cryptoki.URI.new(token: "payments", serial: "1"), info)
      false
  """
  @spec matches_token?(t, map) :: boolean
  def matches_token?(uri, info), do: matches?(uri, info, @token)

  @doc """
  The object that the URI names (RFC 7512, section 2.5), as a selector; `[]` when it names none.

  Raises `ArgumentError` for a vendor attribute in the path: without it the selector would find
  more than the URI names.

      iex> Cryptoki.URI.to_selector(Cryptoki.URI.parse!("pkcs11:object=invoice;id=%01;type=cert"))
      [class: :certificate, label: "invoice", id: <<1>>]
  """
  @spec to_selector(t) :: keyword
  def to_selector(%__MODULE__{vendor: [{name, _value} | _]}) do
    raise ArgumentError, "no object can be found by #{name}, which RFC 7512 does not define"
  end

  def to_selector(%__MODULE__{} = uri) do
    selector = [class: @classes[uri.type], label: uri.object, id: uri.id]
    Enum.reject(selector, fn {_name, value} -> value == nil end)
  end

  @doc """
  The URI without its object and its query: where the object is, nothing secret.

      iex> uri = Cryptoki.URI.parse!("pkcs11:token=payments;object=invoice?pin-value=1234")
      iex> to_string(Cryptoki.URI.place(uri))
      "pkcs11:token=payments"
  """
  @spec place(t) :: t
  def place(%__MODULE__{} = uri), do: struct!(uri, @nowhere)

  @doc """
  The library that `module-path` and `module-name` name (RFC 7512, section 2.3), as an absolute
  path. Looks at the file system.

  `module-path` is a file, or a directory that holds `module-name`. A name alone is looked for
  where systems keep PKCS #11 libraries: in `/usr/lib`, `/usr/local/lib` and the like and their
  folders `pkcs11`, `softhsm` and `opencryptoki`. `softhsm2`, `libsofthsm2` and `libsofthsm2.so`
  all find `libsofthsm2.so`, whatever the case. A name that finds nothing is
  `:library_not_loaded`, a relative path or no attribute at all `:invalid_argument`.

      iex> uri = Cryptoki.URI.parse!("pkcs11:?module-path=/opt/acme/libacme.so")
      iex> Cryptoki.URI.library(uri)
      {:ok, "/opt/acme/libacme.so"}
  """
  @spec library(t) :: {:ok, Path.t()} | {:error, Error.t()}
  def library(%__MODULE__{} = uri), do: Library.find(uri.module_path, uri.module_name)

  @doc false
  # Where the PIN is, in a form for `Cryptoki.Pin.wrap/1`: a `pin-source` is a `file:` URI or a
  # path. Sources that run a command or ask the network are refused.
  @spec pin(t) :: {:ok, nil | String.t() | {:file, Path.t()}} | {:error, Error.t()}
  def pin(%__MODULE__{pin_source: nil} = uri), do: {:ok, uri.pin_value}

  def pin(%__MODULE__{pin_source: source}) do
    with %{scheme: "file", host: host, path: "" <> path} when host in [nil, "", "localhost"] <-
           URI.parse(source),
         {:ok, path} <- Syntax.unescape(path) do
      {:ok, {:file, path}}
    else
      %{scheme: nil} when source != "" and binary_part(source, 0, 1) != "|" ->
        {:ok, {:file, source}}

      _other ->
        {:error, Error.new(:invalid_argument, "pin-source must be a file: URI or a path")}
    end
  end

  @doc false
  # The `type` of an object of this class, nil when the RFC has none.
  @spec type(term) :: object_type | nil
  def type(class), do: Enum.find_value(@classes, fn {type, c} -> if c == class, do: type end)

  defp one_pin(%{pin_source: source, pin_value: value}) when source != nil and value != nil,
    do: {:error, "a PKCS #11 URI may have pin-source or pin-value, not both"}

  defp one_pin(uri), do: {:ok, uri}

  defp normal(uri) do
    source =
      case pin(%{uri | pin_value: nil}) do
        {:ok, source} -> source
        {:error, _error} -> uri.pin_source
      end

    vendors = [vendor: Enum.sort(uri.vendor), vendor_query: Enum.sort(uri.vendor_query)]
    struct!(uri, [pin_source: source] ++ vendors)
  end

  defp matches?(%__MODULE__{vendor: [_ | _]}, _info, _table), do: false

  defp matches?(%__MODULE__{} = uri, info, table) do
    Enum.all?(table, fn {field, key} ->
      wanted = Map.fetch!(uri, field)
      wanted == nil or unpadded(wanted) == unpadded(info[key])
    end)
  end

  # PKCS #11 pads these texts to a fixed size with spaces, and some libraries with zero bytes, which other
  # programs write into their URIs: what is padding means nothing.
  @doc false
  @spec unpadded(term) :: term
  def unpadded(text) when is_binary(text),
    do: text |> :binary.split(<<0>>) |> hd() |> String.trim_trailing(" ")

  def unpadded(other), do: other

  defimpl String.Chars do
    def to_string(uri) do
      Syntax.write(uri, fn _name, encoded -> encoded end)
    rescue
      _no_uri -> raise ArgumentError, "a field of the PKCS #11 URI has a value that no URI has"
    end
  end

  defimpl Inspect do
    # What cannot be written is not shown either: Elixir would show all of it.
    def inspect(uri, _opts) do
      shown = %{uri | pin_value: uri.pin_value && "hidden"}
      "#Cryptoki.URI<#{Syntax.write(shown, &hide/2)}>"
    rescue
      _no_uri -> "#Cryptoki.URI<with a value that no URI has>"
    end

    # A vendor's query attribute may hold a PIN too; drafts of the RFC had `x-pin-value`.
    defp hide("pin-source", encoded), do: encoded
    defp hide(name, encoded), do: if(name =~ ~r/pin/i, do: "[hidden]", else: encoded)
  end
end
