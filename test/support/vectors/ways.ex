defmodule Cryptoki.Test.Vectors.Ways do
  @moduledoc false
  # How a vector is asked: the verbs in one call, as a stream, as start, update and finish, and by message.
  #
  # A way is `{name, which, ask, expected}`: `which` tests it is for (`:all`, `:valid` where there is
  # nothing that could be refused, as in encrypting, or `fn test -> boolean`), `ask.(hsm, key, test)` is the library's answer and
  # `expected.(test)` the published one.

  alias Cryptoki.{Error, Operation}
  alias Cryptoki.Test.Token

  @type answer :: :ok | {:ok, term} | {:error, Error.t()}
  @type way ::
          {atom, :all | :valid | (map -> boolean), (term, term, map -> answer), (map -> answer)}

  @doc "Verifying with a mechanism, of a test's `msg` and `sig` unless it says otherwise."
  @spec verify(Token.t(), (map -> term), keyword) :: [way]
  def verify(token, mechanism, options \\ []) do
    opts = Keyword.take(options, [:format])
    pieces? = Keyword.get(options, :pieces, true)
    steps? = pieces? and Keyword.get(options, :steps, true)

    [
      way(:one_call, fn hsm, key, t ->
        Cryptoki.verify(hsm, key, mechanism.(t), t["msg"], t["sig"], opts)
      end),
      pieces? &&
        way(:stream, fn hsm, key, t ->
          Cryptoki.verify(hsm, key, mechanism.(t), {:stream, pieces(t["msg"])}, t["sig"], opts)
        end),
      steps? &&
        way(:steps, fn hsm, key, t ->
          steps(hsm, :verify, key, mechanism.(t), t["msg"], t["sig"], opts)
        end),
      steps? && newest?(token) && Keyword.get(options, :signature_first, true) &&
        way(:signature_first, fn hsm, key, t ->
          opts = [signature_first: true] ++ opts
          Cryptoki.verify(hsm, key, mechanism.(t), t["msg"], t["sig"], opts)
        end)
    ]
    |> Enum.filter(& &1)
  end

  @doc "A way that answers `:ok` when all is well."
  @spec way(atom, (term, term, map -> answer)) :: way
  def way(name, ask), do: {name, :all, ask, fn _test -> :ok end}

  @doc "Signing, where a signature is the only one there is."
  @spec sign((map -> term), boolean) :: [way]
  def sign(mechanism, pieces? \\ true) do
    expected = fn t -> {:ok, t["sig"]} end

    one_call = fn hsm, key, t -> Cryptoki.sign(hsm, key, mechanism.(t), t["msg"]) end

    stream = fn hsm, key, t ->
      Cryptoki.sign(hsm, key, mechanism.(t), {:stream, pieces(t["msg"])})
    end

    steps = fn hsm, key, t -> steps(hsm, :sign, key, mechanism.(t), t["msg"], nil, []) end

    [{:sign, :valid, one_call, expected}] ++
      if pieces?,
        do: [{:sign_stream, :valid, stream, expected}, {:sign_steps, :valid, steps, expected}],
        else: []
  end

  @doc "Encrypting `msg` and decrypting `ct`, which the test may have in two parts."
  @spec cipher((map -> term), (map -> term)) :: [way]
  def cipher(mechanism, in_pieces) do
    encrypted = fn t -> {:ok, sealed(t)} end
    text = fn t -> {:ok, t["msg"]} end

    [
      {:encrypt, :valid,
       fn hsm, key, t -> Cryptoki.encrypt(hsm, key, mechanism.(t), t["msg"]) end, encrypted},
      {:encrypt_stream, :valid,
       fn hsm, key, t ->
         Cryptoki.encrypt(hsm, key, in_pieces.(t), {:stream, pieces(t["msg"])})
       end, encrypted},
      {:encrypt_lazily, :valid,
       fn hsm, key, t ->
         lazily(fn -> Cryptoki.encrypt_stream(hsm, key, in_pieces.(t), pieces(t["msg"])) end)
       end, encrypted},
      {:encrypt_steps, :valid,
       fn hsm, key, t -> steps(hsm, :encrypt, key, in_pieces.(t), t["msg"], nil, []) end,
       encrypted},
      {:decrypt, :all, fn hsm, key, t -> Cryptoki.decrypt(hsm, key, mechanism.(t), sealed(t)) end,
       text},
      {:decrypt_stream, :all,
       fn hsm, key, t ->
         Cryptoki.decrypt(hsm, key, in_pieces.(t), {:stream, pieces(sealed(t))})
       end, text},
      {:decrypt_lazily, :all,
       fn hsm, key, t ->
         lazily(fn -> Cryptoki.decrypt_stream(hsm, key, in_pieces.(t), pieces(sealed(t))) end)
       end, text},
      {:decrypt_steps, :all,
       fn hsm, key, t -> steps(hsm, :decrypt, key, in_pieces.(t), sealed(t), nil, []) end, text}
    ]
  end

  @doc "The same by message, in one call and in parts."
  @spec messages(atom, (map -> keyword)) :: [way]
  def messages(mechanism, more) do
    encrypted = fn t -> {:ok, {t["ct"], t["tag"]}} end
    text = fn t -> {:ok, t["msg"]} end

    encrypt = fn hsm, key, t, data ->
      parameters = [iv: t["iv"], tag_bits: bit_size(t["tag"])] ++ more.(t)

      with {:ok, answer} <- message(hsm, :message_encrypt, key, mechanism, parameters, t, data),
           do: {:ok, {answer.ciphertext, answer.tag}}
    end

    decrypt = fn hsm, key, t, data ->
      # How long the tag has to be is the receiver's to say.
      size = if mechanism == :chacha20_poly1305, do: [], else: [tag_bits: bit_size(t["tag"])]
      parameters = [iv: t["iv"], tag: t["tag"]] ++ size ++ more.(t)
      message(hsm, :message_decrypt, key, mechanism, parameters, t, data)
    end

    stream = &{:stream, pieces(&1)}

    [
      {:message_encrypt, :valid, fn h, k, t -> encrypt.(h, k, t, t["msg"]) end, encrypted},
      {:message_encrypt_parts, :valid, fn h, k, t -> encrypt.(h, k, t, stream.(t["msg"])) end,
       encrypted},
      {:message_decrypt, :all, fn h, k, t -> decrypt.(h, k, t, t["ct"]) end, text},
      {:message_decrypt_parts, :all, fn h, k, t -> decrypt.(h, k, t, stream.(t["ct"])) end, text}
    ]
  end

  defp message(hsm, kind, key, mechanism, parameters, test, data) do
    Cryptoki.with_session(hsm, fn session ->
      with {:ok, op} <- Cryptoki.start(session, kind, key, mechanism) do
        answer = Operation.message(op, parameters, test["aad"], data)
        # A message that failed leaves the operation as it was.
        _ = Operation.finish(op)
        answer
      end
    end)
  end

  # A Stream has no other way to say what went wrong.
  defp lazily(stream) do
    {:ok, stream.() |> Enum.to_list() |> IO.iodata_to_binary()}
  rescue
    error in Error -> {:error, error}
  end

  @doc "start, update, finish."
  @spec steps(term, atom, term, term, binary, binary | nil, keyword) :: answer
  def steps(hsm, kind, key, mechanism, data, signature, opts) do
    Cryptoki.with_session(hsm, fn session ->
      with {:ok, op} <- Cryptoki.start(session, kind, key, mechanism, opts),
           {:ok, out} <- updates(op, at_least_one(pieces(data))),
           do: finish(op, out, signature)
    end)
  end

  # A multi-part operation has one update at least (PKCS #11 v3.2, section 5.13.1).
  defp at_least_one([]), do: [""]
  defp at_least_one(pieces), do: pieces

  defp updates(op, pieces) do
    Enum.reduce_while(pieces, {:ok, ""}, fn piece, {:ok, out} ->
      case Operation.update(op, piece) do
        :ok -> {:cont, {:ok, out}}
        {:ok, more} -> {:cont, {:ok, out <> more}}
        {:error, _error} = error -> {:halt, error}
      end
    end)
  end

  defp finish(%{kind: :verify} = op, _out, signature), do: Operation.finish(op, signature)

  defp finish(op, out, nil),
    do: with({:ok, last} <- Operation.finish(op), do: {:ok, out <> last})

  @doc "The ciphertext with its tag."
  @spec sealed(map) :: binary
  def sealed(test), do: test["ct"] <> Map.get(test, "tag", "")

  @doc "Data in pieces of uneven sizes, with an empty one among them."
  @spec pieces(binary) :: [binary]
  def pieces(data), do: pieces(data, [1, 15, 0, 16, 7, 33, 64, 1000])

  defp pieces("", _sizes), do: []

  defp pieces(data, [size | sizes]) when byte_size(data) > size do
    {piece, rest} = :erlang.split_binary(data, size)
    [piece | pieces(rest, sizes ++ [size])]
  end

  defp pieces(data, _sizes), do: [data]

  @doc "Whether the token has the functions of PKCS #11 3.2."
  @spec newest?(Token.t()) :: boolean
  def newest?(token), do: Token.has?(token, :ml_kem)
end
