defmodule Cryptoki.Options do
  @moduledoc false
  # One table for the options of `Cryptoki.start_link/1` and one for those of a call: what is
  # checked, what is documented and the types all come from here. Reads `CRYPTOKI_LIBRARY` and
  # looks for the library that a `module-name` names; otherwise pure.

  alias Cryptoki.{Environment, Pin, URI}
  alias Cryptoki.Options.{FromURI, Table}

  @reconnect [min: 100, max: 30_000]
  # pcscd looks at its readers every 400 ms: a card that is away for no longer must not be missed.
  @watch [min: 200, max: 500]
  @pin "Cryptoki.pin()"

  @start [
    name: [
      cast: :name,
      type: "atom",
      must: "an atom",
      doc: "what the functions of `Cryptoki` know the instance by, besides its pid"
    ],
    library: [
      cast: :path,
      type: "Path.t()",
      must: "a path",
      doc: "the vendor's PKCS #11 library; else the variable `CRYPTOKI_LIBRARY` names it"
    ],
    token: [
      cast: :token,
      secret: true,
      type: "keyword | String.t() | Cryptoki.URI.t()",
      must: "a keyword list such as [label: \"payments\"] or a PKCS #11 URI",
      doc:
        "which token: `label:`, `serial:`, `manufacturer:`, `model:`, `slot:` (the slot's " <>
          "id), or a PKCS #11 URI. It need not be present yet"
    ],
    uri: [
      cast: :uri,
      secret: true,
      type: "String.t() | Cryptoki.URI.t()",
      must: "a PKCS #11 URI",
      doc: "a PKCS #11 URI that gives library, token and PIN in place of their options"
    ],
    pin: [
      cast: :pin,
      secret: true,
      type: @pin,
      must: Pin.expected(),
      doc:
        "where the PIN comes from at each login: a function without arguments, " <>
          "`{module, function, arguments}`, `{:env, name}`, `{:file, path}` (its first line), " <>
          "`:protected_path` (the token's own keypad), or a string in `iex`. Without it there " <>
          "is no login"
    ],
    sessions: [
      cast: {:integer, 1, 1024},
      type: "1..1024",
      default: 4,
      must: "an integer from 1 to 1024",
      doc: "how many calls the token works on at the same time"
    ],
    user: [
      cast: :user,
      type: ":user | :so | {:named, String.t()}",
      default: :user,
      must: ":user, :so or {:named, name}",
      doc: "who logs in"
    ],
    read_only: [
      cast: :boolean,
      type: "boolean",
      default: false,
      must: "true or false",
      doc: "whether the sessions are read-only: then token objects cannot be changed"
    ],
    timeout: [
      cast: :timeout,
      type: "timeout",
      default: 5_000,
      must: "milliseconds, at least 1, or :infinity",
      doc: "how long a call may take that does not say so itself, waiting included, in ms"
    ],
    queue_limit: [
      cast: {:integer, 1, 1_000_000},
      type: "1..1_000_000",
      default: 10_000,
      must: "an integer from 1 to 1000000",
      doc: "how many calls may wait for a session; the next one is answered `:busy`"
    ],
    init_args: [
      cast: :text,
      type: "String.t()",
      must: "a string without NUL bytes",
      doc: "the reserved string of `C_Initialize`, for libraries such as NSS"
    ],
    env: [
      cast: :env,
      secret: true,
      type: "%{String.t() => String.t()} | [{String.t(), String.t()}]",
      default: %{},
      must: "a map of names and values, such as %{\"SOFTHSM2_CONF\" => path}",
      doc:
        "what is in C's environment while `C_Initialize` runs, where libraries look for their configuration and `System.put_env/2` " <>
          "does not reach; then it is as before. One library has one `env:`"
    ],
    reconnect: [
      cast: {:pauses, @reconnect},
      type: "[min: pos_integer, max: pos_integer]",
      default: @reconnect,
      must: "a keyword list of min: and max:, positive integers, min not above max",
      doc: "shortest and longest pause between two tries to reach a lost token, in milliseconds"
    ],
    watch: [
      cast: {:pauses, @watch},
      type: "[min: pos_integer, max: pos_integer]",
      default: @watch,
      must: "a keyword list of min: and max:, positive integers, min not above max",
      doc:
        "shortest and longest pause between two looks at the slots, in milliseconds, while somebody is " <>
          "subscribed or the token is absent. It doubles while nothing changes. A library that has told " <>
          "of a change by C_WaitForSlotEvent is asked for that at the shortest, and its slots at ten " <>
          "times the longest"
    ],
    locking: [
      cast: {:one_of, [:os, :serialized]},
      type: ":os | :serialized",
      default: :os,
      must: ":os or :serialized",
      doc:
        "`:os`: the library takes calls of several threads and locks by itself; `:serialized`: it " <>
          "is initialised without locks and gets one call at a time, for libraries that hang or " <>
          "crash otherwise (OpenSC before 0.24 when a card is pulled)"
    ],
    interface: [
      cast: :interface,
      type: "{major :: 2..3, minor :: 0..255}",
      must: "a version such as {3, 0}",
      doc:
        "the version of the PKCS #11 interface to use, where the library offers several; by " <>
          "default the newest of 3.2, 3.0 and 2.40. One for a library in a VM"
    ],
    isolation: [
      cast: {:one_of, [:none, :process]},
      type: ":none | :process",
      default: :none,
      must: ":none or :process",
      doc:
        "where the library runs: `:none` in this VM, `:process` in a process of its own, whose crash is an error " <>
          "`:library_crashed` and no end of the VM (guide: Isolation)"
    ],
    memory: [
      cast: {:integer, 32 * 1024 * 1024, 0xFFFFFFFFFFFF},
      type: "pos_integer",
      must: "bytes, at least 32 MiB",
      doc:
        "how much memory the process of the library may have, in bytes, beside the stacks of the threads that serve its " <>
          "sessions; with `isolation: :process`"
    ],
    kill_after: [
      cast: :milliseconds,
      type: "pos_integer",
      must: "milliseconds, at least 1",
      doc:
        "how long the library may return from nothing, once no session of it can serve, before its process is killed " <>
          "and started again, in milliseconds; with `isolation: :process`. Without it one that hangs is left alone"
    ]
  ]

  @call [
    timeout: [
      cast: :timeout,
      type: "timeout",
      must: "milliseconds, at least 1, or :infinity",
      doc: "how long the call may take, in milliseconds, in place of the instance's `timeout:`"
    ],
    pin: [
      cast: :pin,
      secret: true,
      type: @pin,
      must: Pin.expected(),
      doc: "the PIN for a key that wants one at each use (context-specific login)"
    ],
    password: [
      cast: :password,
      secret: true,
      type: @pin,
      must: "what pin: may be, and no keypad",
      doc: "the password of an encrypted file, given in any form that `pin:` may have"
    ],
    how: [
      cast: {:one_of, [:auto, :create, :unwrap]},
      type: ":auto | :create | :unwrap",
      default: :auto,
      must: ":auto, :create or :unwrap",
      doc:
        "`:create` gives the token the value of the key, `:unwrap` wraps it for a key that the token makes " <>
          "for that, `:auto` does so where the token takes no value"
    ],
    metadata: [
      cast: :map,
      type: "map",
      default: %{},
      must: "a map",
      doc: "what the call's telemetry events carry along"
    ],
    format: [
      cast: {:one_of, [:raw, :der]},
      type: ":raw | :der",
      default: :raw,
      must: ":raw or :der",
      doc: "the form of an ECDSA signature: r and s in a row as in the standard, or DER"
    ],
    associated_data: [
      cast: :iodata,
      secret: true,
      type: "iodata",
      must: "iodata",
      doc: "what is authenticated together with the wrapped key"
    ],
    signature: [
      cast: :iodata,
      secret: true,
      type: "iodata",
      must: "iodata",
      doc: "the signature, given before the data"
    ],
    signature_first: [
      cast: :boolean,
      type: "boolean",
      default: false,
      must: "true or false",
      doc: "whether the token gets the signature before the data"
    ],
    digest: [
      cast: :any,
      type: "Cryptoki.Mechanism.spec()",
      doc: "also computes this digest of the plaintext"
    ],
    sign: [
      cast: :any,
      type: "{Cryptoki.key(), Cryptoki.Mechanism.spec()}",
      doc: "also signs the plaintext"
    ],
    verify: [
      cast: :any,
      type: "{Cryptoki.key(), Cryptoki.Mechanism.spec(), signature :: iodata}",
      doc: "also verifies a signature of the plaintext"
    ],
    encryption_key: [
      cast: :any,
      type: "Cryptoki.key()",
      doc: "the key of a saved encryption or decryption"
    ],
    authentication_key: [
      cast: :any,
      type: "Cryptoki.key()",
      doc: "the key of a saved signature or verification"
    ]
  ]
  @unlock [
    force: [
      cast: :boolean,
      type: "boolean",
      default: false,
      must: "true or false",
      doc: "whether a refused PIN is tried again, and the last try that the token allows used"
    ]
  ]

  @defaults Map.new(@call ++ @unlock, fn {name, row} -> {name, row[:default]} end)

  @token [
    label: :token,
    serial: :serial,
    manufacturer: :manufacturer,
    model: :model,
    slot: :slot_id
  ]

  @type start_option :: unquote(Table.type(@start))
  @type call_option :: unquote(Table.type(@call))

  @typedoc "The start options, checked and complete; `token` is a URI that names a place only."
  @type start :: %{
          name: atom,
          library: Path.t(),
          token: URI.t(),
          pin: Pin.t(),
          sessions: 1..1024,
          user: :user | :so | {:named, String.t()},
          read_only: boolean,
          timeout: timeout,
          queue_limit: 1..1_000_000,
          init_args: String.t() | nil,
          env: Environment.t(),
          reconnect: %{min: pos_integer, max: pos_integer},
          watch: %{min: pos_integer, max: pos_integer},
          locking: :os | :serialized,
          interface: {2..3, 0..255} | nil,
          isolation: :none | :process,
          memory: pos_integer | nil,
          kill_after: pos_integer | nil
        }

  @doc "The type of a start option and of one of a call, quoted."
  @spec type(:start | :call) :: Macro.t()
  def type(:start), do: unquote(Macro.escape(Table.type(@start)))
  def type(:call), do: unquote(Macro.escape(Table.type(@call)))

  @doc "The start options, checked, with their defaults. No PIN is in it; it may be given to it again."
  @spec start!([start_option] | map) :: start
  def start!(options) do
    options
    |> Table.cast!(@start, "start option", &cast/2)
    |> FromURI.supply!()
    |> Map.update!(:library, &(&1 || library!()))
    |> Map.update!(:token, &token!/1)
    |> Map.update!(:pin, &(&1 || Pin.wrap(nil)))
    |> isolated!()
  end

  defp isolated!(%{isolation: :process} = options), do: options

  defp isolated!(options) do
    for name <- [:memory, :kill_after], options[name] != nil do
      raise ArgumentError, "#{name}: is for isolation: :process, a library in this VM has none"
    end

    options
  end

  @doc "The options of a call that takes `allowed`, checked, with their defaults."
  @spec call!([call_option] | map, [atom]) :: map
  def call!(options, allowed)
  # Most calls have none.
  def call!([], allowed), do: Map.take(@defaults, allowed)

  def call!(options, allowed),
    do: Table.cast!(options, Keyword.take(@call ++ @unlock, allowed), "option", &cast/2)

  @doc "Whether the slot, as the control thread describes it, holds the wanted token."
  @spec matches_token?(URI.t(), map) :: boolean
  def matches_token?(wanted, %{token: %{} = token} = slot),
    do: URI.matches_slot?(wanted, slot) and URI.matches_token?(wanted, token)

  # None, or one that does not say what it is.
  def matches_token?(_wanted, %{token: _none}), do: false

  @doc "The start options as Markdown."
  @spec docs() :: String.t()
  def docs, do: Table.docs(@start)

  @doc "The options of a call that takes `allowed`, as Markdown."
  @spec docs([atom]) :: String.t()
  def docs(allowed), do: Table.docs(Keyword.take(@call, allowed))

  @doc "Raises `ArgumentError` for an option that is none of `known`."
  @spec known!([{term, term}] | map, [atom], String.t()) :: :ok
  defdelegate known!(options, known, what), to: Table

  # The kinds that only these tables have.

  defp cast(:password, :protected_path), do: false
  defp cast(:password, source), do: cast(:pin, source)

  defp cast(:interface, {major, minor} = version),
    do: major in 2..3 and minor in 0..255 and {:ok, version}

  defp cast(:interface, _other), do: false

  defp cast(:user, {:named, name}),
    do: with({:ok, name} <- cast(:path, name), do: {:ok, {:named, name}})

  defp cast(:user, user), do: user in [:user, :so] and {:ok, user}

  defp cast(:text, text) when is_binary(text) or is_list(text) do
    text = to_string(text)
    not String.contains?(text, <<0>>) and {:ok, text}
  rescue
    _not_text -> false
  end

  defp cast(:env, variables), do: Environment.cast(variables)

  defp cast(:path, path), do: with({:ok, ""} <- cast(:text, path), do: false)

  defp cast(:uri, %URI{} = uri), do: {:ok, uri}

  defp cast(:uri, text) do
    with {:ok, text} <- cast(:text, text),
         {:error, error} <- URI.parse(text),
         do: {:error, error.detail}
  end

  defp cast(:token, %URI{} = uri) do
    if String.contains?(to_string(uri), "?"),
      do: {:error, "what stands behind the ? of a PKCS #11 URI belongs in uri:"},
      else: FromURI.place(uri)
  end

  defp cast(:token, text) when is_binary(text) or (is_list(text) and is_integer(hd(text))),
    do: with({:ok, uri} <- cast(:uri, text), do: cast(:token, uri))

  defp cast(:token, parts) do
    with {:ok, parts} <- Table.cast(:pairs, parts) do
      :ok = known!(parts, Keyword.keys(@token), "part of token:")
      {:ok, URI.new(for {name, value} <- parts, do: {@token[name], part!(name, value)})}
    end
  end

  defp cast(kind, value), do: Table.cast(kind, value)

  defp part!(:slot, id) do
    case cast({:integer, 0, 0xFFFFFFFFFFFFFFFF}, id) do
      {:ok, id} -> id
      false -> raise ArgumentError, "token: slot: must be the id of a slot, got: #{inspect(id)}"
    end
  end

  defp part!(name, text) do
    with {:ok, text} <- cast(:text, URI.unpadded(text)), true <- String.valid?(text) do
      text
    else
      _wrong -> raise ArgumentError, "token: #{name}: must be UTF-8 text, got: #{inspect(text)}"
    end
  end

  # What must be known in the end

  defp library! do
    case System.get_env("CRYPTOKI_LIBRARY", "") do
      "" ->
        raise ArgumentError,
              "no library given: set library: to the path of the vendor's PKCS #11 library, " <>
                "uri: to a URI with module-path, or the environment variable CRYPTOKI_LIBRARY"

      path ->
        path
    end
  end

  # Only a URI that asks for no property of a slot or token fits what has none.
  defp token!(uri) do
    if uri == nil or (URI.matches_slot?(uri, %{}) and URI.matches_token?(uri, %{})) do
      raise ArgumentError,
            "no token given: set token: to [label: \"...\"], [serial: \"...\"], [slot: 0] " <>
              "or a PKCS #11 URI such as \"pkcs11:token=...\""
    end

    uri
  end
end
