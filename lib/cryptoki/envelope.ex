defmodule Cryptoki.Envelope do
  alias Cryptoki.{Bytes, CallOptions, Chunks, Error}
  alias Cryptoki.Envelope.{Box, Cache, Keys, Pieces}
  alias Cryptoki.Options.Table

  @moduledoc """
  Data of any length, encrypted here with a key of its own, which the token has sealed.

      {:ok, box} = Cryptoki.Envelope.seal(MyApp.HSM, [label: "kek"], "a text", aad: "row 7")
      {:ok, "a text"} = Cryptoki.Envelope.open(MyApp.HSM, [label: "kek"], box, aad: "row 7")

  A token is asked once for each box, whatever its length: it seals the 32 bytes of a **data key**, and its own key, the
  **KEK**, never leaves it. The KEK is an AES key that encrypts (`Cryptoki.generate_key(hsm, :aes_key_gen, value_len: 32, label: "kek",
  token: true)`), by AES-GCM.

  `aad:` is what the box belongs to and what stands beside it in the clear (a table and a primary key, a tenant): with
  another one it does not open. Nobody can tell from a box how it goes with others, but how long its text is.

  Data key and text are in the memory of this VM, for as long as the call takes and until the garbage of the process is
  collected. With a random IV of 96 bits for each data key one KEK is good for 2^32 boxes (NIST SP 800-38D, section 8.3): rotate it
  before. Where a token makes its IVs itself, it does.

  ## A cache

  What is read often costs a call to the token each time. A cache keeps data keys that the token has opened, for a time and
  a number of uses:

      children = [{Cryptoki.Envelope, name: MyApp.DataKeys, ttl: 60_000, uses: 1_000}]
      Cryptoki.Envelope.open(MyApp.HSM, [label: "kek"], box, aad: "row 7", cache: MyApp.DataKeys)

  #{Table.docs(Cache.options())}

  A key is found by who asks in the same words: the same instance, the same KEKs, the same box. As long as it is known, a box
  opens also when the token is gone, locked, or has the KEK no more; `forget/1` ends that at once. Keys stand in a
  table of this VM encrypted under a key that it has for itself, so that nothing prints them; who runs code in this VM reads
  them all the same. They leave the table at the latest after one and a half times `ttl:`.

  ## The bytes

  | bytes | |
  |---|---|
  | 4 | `CKE` and 1, the version |
  | 1, n | how long the IV is, and the IV |
  | 48 | the data key, 32 bytes, and the tag of 16: AES-GCM with the KEK, and the first 4 bytes as additional data |
  | the others | chunks: 65 536 bytes of the text, of the last one what is left, each with its tag of 16 |

  A chunk is sealed with AES-256-GCM by the data key, `aad:` as additional data, and a nonce of 12 bytes: its number from 0 in
  11 of them, and 1 for the last chunk, 0 for the others. So a box that is cut, or has chunks swapped, repeated or
  left out, does not open. An empty text is one empty chunk.
  """

  import Cryptoki.Bang, only: [bang: 1]

  @type hsm :: Cryptoki.hsm()
  @type key :: Cryptoki.key()
  @type opts :: keyword | map
  @type error :: {:error, Error.t()}
  @typedoc "One KEK, or several, of which one is right."
  @type keks :: key | [key, ...]

  @call [:timeout, :metadata]
  @own [
    aad: [
      cast: :iodata,
      secret: true,
      default: "",
      must: "iodata",
      type: "iodata",
      doc: "what is authenticated together with the text, and does not stand in the box"
    ]
  ]

  @doc """
  Starts a cache of data keys, under a supervisor that has `{Cryptoki.Envelope, name: MyApp.DataKeys}` among its children.
  Raises `ArgumentError` for other options than those above.

      iex> {:ok, _pid} = Cryptoki.Envelope.start_link(name: MyApp.SomeKeys, ttl: 1_000)
      iex> box = Cryptoki.Envelope.seal!(MyApp.HSM, [label: "archive"], "a text")
      iex> for _ <- 1..2, do: Cryptoki.Envelope.open!(MyApp.HSM, [label: "archive"], box, cache: MyApp.SomeKeys)
      ["a text", "a text"]
  """
  @spec start_link(opts) :: GenServer.on_start()
  def start_link(options), do: Cache.start_link(options)

  @doc false
  def child_spec(options),
    do: %{id: {__MODULE__, options[:name]}, start: {__MODULE__, :start_link, [options]}}

  @doc """
  Empties a cache: each box asks the token again, also one that is being opened meanwhile.

      iex> {:ok, _pid} = Cryptoki.Envelope.start_link(name: MyApp.OtherKeys)
      iex> Cryptoki.Envelope.forget(MyApp.OtherKeys)
      :ok
  """
  @spec forget(cache :: atom) :: :ok
  def forget(cache), do: cache |> Cache.there!() |> Cache.forget()

  @doc """
  Seals data: iodata, or `{:stream, enumerable}` of iodata. The answer to a stream is a lazy one of binaries, which makes a
  data key each time that it is consumed, holds no more than two chunks of the text, and raises `Cryptoki.Error`.

    * `aad:` (`iodata`): what is authenticated together with the text, and does not stand in the box
    * `timeout:` and `metadata:` of the call to the token

  Errors: those of `Cryptoki.encrypt/5`. PKCS #11 v3.2, section 6.13.6 (AES-GCM).

      iex> {:ok, box} = Cryptoki.Envelope.seal(MyApp.HSM, [label: "archive"], "a text", aad: "row 7")
      iex> Cryptoki.Envelope.open(MyApp.HSM, [label: "archive"], box, aad: "row 7")
      {:ok, "a text"}
      iex> {:error, error} = Cryptoki.Envelope.open(MyApp.HSM, [label: "archive"], box, aad: "row 8")
      iex> error.reason
      :encrypted_data_invalid
  """
  @spec seal(hsm, key, Cryptoki.data(), opts) :: {:ok, binary | Enumerable.t()} | error
  def seal(hsm, kek, data, opts \\ []) do
    {own, call} = CallOptions.split!(opts, @own, @call)
    wanted = Keys.one!(kek)

    case Chunks.data!(data) do
      {:stream, chunks} ->
        {:ok, Pieces.sealed(chunks, fn -> Keys.new(hsm, wanted, call) end, own[:aad])}

      text ->
        with {:ok, key, sealed_key} <- Keys.new(hsm, wanted, call),
             do:
               {:ok,
                IO.iodata_to_binary([Box.header(sealed_key) | Box.seal(text, key, own[:aad])])}
    end
  end

  bang(seal(hsm, kek :: key, data :: Cryptoki.data(), opts) :: binary | Enumerable.t())

  @doc """
  The data in a box. Several KEKs are tried in their order: give the one that seals now first, and those of before behind it.

  Of `{:stream, enumerable}` the answer is a lazy stream of binaries that raises `Cryptoki.Error`. What it gives is authentic,
  chunk by chunk; that it is all, only its end says: a file that is cut gives its beginning, and then the error.

  Options are those of `seal/4`, and `cache:`, the name of a cache (above). Errors: `:invalid_argument` for what is no box, `:encrypted_data_invalid` for one that does not
  open with any of the KEKs, was changed or cut, or has another `aad:`; those of `Cryptoki.decrypt/5`. PKCS #11 v3.2, section 6.13.6
  (AES-GCM).

      iex> {:ok, stream} = Cryptoki.Envelope.seal(MyApp.HSM, [label: "archive"], {:stream, ["some ", "text"]})
      iex> {:ok, text} = Cryptoki.Envelope.open(MyApp.HSM, [label: "archive"], {:stream, stream})
      iex> Enum.join(text)
      "some text"
  """
  @spec open(hsm, keks, Cryptoki.data(), opts) :: {:ok, binary | Enumerable.t()} | error
  def open(hsm, keks, box, opts \\ []) do
    {own, call} = CallOptions.split!(opts, @own ++ Cache.option(), @call)
    wanted = Keys.several!(keks)
    cache = own[:cache] && Cache.there!(own[:cache])
    opened = &opened(cache, hsm, wanted, &1, call)

    case Chunks.data!(box) do
      {:stream, chunks} ->
        {:ok, Pieces.opened(chunks, opened, own[:aad])}

      box ->
        with {:ok, sealed_key, rest} <- whole(box),
             {:ok, key} <- opened.(sealed_key),
             do: Box.open(rest, key, own[:aad])
    end
  end

  defp opened(nil, hsm, wanted, sealed_key, call), do: Keys.open(hsm, wanted, sealed_key, call)

  defp opened(cache, hsm, wanted, sealed_key, call) do
    asked = {hsm, wanted, sealed_key}
    Cache.through(cache, asked, fn -> Keys.open(hsm, wanted, sealed_key, call) end)
  end

  bang(open(hsm, keks, box :: Cryptoki.data(), opts) :: binary | Enumerable.t())

  @doc """
  The same box for the first of several KEKs: the data key is sealed anew, and the text stays as it is, so that `aad:` is not
  needed. After a rotation, of a file or a column in its own time; until then `open/4` takes both.

  Errors: those of `open/4`.

      iex> new = Cryptoki.generate_key!(MyApp.HSM, :aes_key_gen, value_len: 32)
      iex> box = Cryptoki.Envelope.seal!(MyApp.HSM, [label: "archive"], "a text")
      iex> {:ok, box} = Cryptoki.Envelope.rewrap(MyApp.HSM, [new, [label: "archive"]], box)
      iex> Cryptoki.Envelope.open(MyApp.HSM, new, box)
      {:ok, "a text"}
  """
  @spec rewrap(hsm, [key, ...], box :: iodata, opts) :: {:ok, binary} | error
  def rewrap(hsm, keks, box, opts \\ []) do
    {[], call} = CallOptions.split!(opts, [], @call)
    [new | _old] = wanted = Keys.several!(keks)
    box = Bytes.binary!(box, "a box")

    with {:ok, sealed_key, rest} <- whole(box),
         {:ok, key} <- Keys.open(hsm, wanted, sealed_key, call),
         {:ok, sealed_key} <- Keys.seal(hsm, new, key, call),
         do: {:ok, Box.header(sealed_key) <> rest}
  end

  bang(rewrap(hsm, keks :: [key, ...], box :: iodata, opts) :: binary)

  defp whole(box), do: with(:more <- Box.read(box), do: Box.no_envelope())
end
