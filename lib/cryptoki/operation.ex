defmodule Cryptoki.Operation do
  @moduledoc """
  A multi-part operation: begun with `Cryptoki.start/5` on a session, fed piece by piece, finished.

      iex> Cryptoki.with_session(MyApp.HSM, fn session ->
      ...>   {:ok, op} = Cryptoki.start(session, :digest, :sha256)
      ...>   :ok = Cryptoki.Operation.update(op, "abc")
      ...>   {:ok, digest} = Cryptoki.Operation.finish(op)
      ...>   Base.encode16(digest, case: :lower)
      ...> end)
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

  An operation belongs to its session: a session does one at a time of each kind, and what is not
  finished when the session ends is cancelled. One that is over is `:operation_not_initialized`,
  also when another has begun after it. A step that fails ends the operation, except a message
  that fails: the next one may be well.
  """

  alias Cryptoki.{Bytes, Chunks, Ecdsa, Error, HSM, Keys, Message, Options}
  alias Cryptoki.{Session, Steps, Target}
  alias Cryptoki.Mechanism.{Ciphertext, IV}

  @enforce_keys [:session, :kind, :mechanism]
  defstruct [
    :session,
    :kind,
    :number,
    :mechanism,
    :expected,
    :iv,
    :ciphertext,
    :passed,
    form: :raw,
    options: %{}
  ]

  @messages ~w[message_sign message_verify message_encrypt message_decrypt]a
  # Its session is on another node: so is the operation.
  defguardp is_elsewhere(op) when op.session.there != nil

  @savable ~w[sign verify encrypt decrypt digest]a

  @type kind ::
          :sign
          | :verify
          | :encrypt
          | :decrypt
          | :digest
          | :message_sign
          | :message_verify
          | :message_encrypt
          | :message_decrypt

  @typedoc "Its fields are private."
  @type t :: %__MODULE__{}

  @doc """
  Feeds iodata of any length; `{:ok, bytes}` for `:encrypt` and `:decrypt`, as many as the library
  gives back so far, `:ok` for the others. A digest also takes `{:key, selector}`: the bytes of a
  secret key, which need not be readable.

  Errors: `:session_lost` when the session or the token went away, then the operation has to be
  begun again; `:key_indigestible` for a key. PKCS #11 v3.2, sections 5.8, 5.10, 5.12, 5.13 and 5.15
  (C_...Update, C_DigestKey).

      :ok = Cryptoki.Operation.update(op, ["some ", "data"])
      :ok = Cryptoki.Operation.update(digest, {:key, label: "shared secret"})
  """
  @spec update(t, iodata | {:key, Cryptoki.key()}) ::
          :ok | {:ok, binary} | {:error, Error.t()}
  def update(%__MODULE__{} = op, data) when is_elsewhere(op), do: there(op, :update, [data])

  def update(%__MODULE__{kind: kind}, _data) when kind in @messages,
    do: raise(ArgumentError, "a message-based operation takes messages: message/4")

  def update(%__MODULE__{kind: :digest} = op, {:key, selector}) do
    wanted = Keys.wanted!(selector, :digest)

    with {:ok, target} <- Steps.target(op),
         do:
           Keys.run(target, :digest_key, [wanted], fn [key], nil ->
             {:digest_key, Steps.begun(op), key}
           end)
  end

  def update(%__MODULE__{} = op, {:key, _selector}),
    do: raise(ArgumentError, "keys can be digested, nothing else: this is #{inspect(op.kind)}")

  def update(%__MODULE__{} = op, data) do
    pieces = data |> Bytes.binary!("data") |> Chunks.cut()

    with {:ok, out} <-
           Chunks.send_all(pieces, &Steps.passed(op, &1, {:update, Steps.begun(op), &1})),
         do: if(op.kind in [:encrypt, :decrypt], do: {:ok, IO.iodata_to_binary(out)}, else: :ok)
  end

  @doc """
  One message of a message-based operation (PKCS #11 3.0), of which there may be any number between
  `Cryptoki.start/5` and `finish/2`:

  | kind | `extra` | answer |
  |---|---|---|
  | `:message_encrypt` | associated data | `{:ok, %{ciphertext: c, iv: iv, tag: tag}}` |
  | `:message_decrypt` | associated data | `{:ok, plaintext}` |
  | `:message_sign` | | `{:ok, signature}` |
  | `:message_verify` | the signature | `:ok` |

  `parameters` are those of the message; `nil` when the mechanism has none, a binary for their bytes,
  `{:struct, fields}` for those of a vendor (then the answer has `written:`, what the token wrote
  into fields `{:inout, bytes}`, in place of IV and tag). For encryption:

  | mechanism | encrypting | decrypting |
  |---|---|---|
  | `:aes_gcm` | `iv:`, `tag_bits:` (128) | `iv:`, `tag:`, `tag_bits:` (128) |
  | `:aes_ccm` | `iv:`, `tag_bits:` (128), `data_len:` of a stream | `iv:`, `tag:`, `tag_bits:` (128), `data_len:` |
  | `:chacha20_poly1305`, `:salsa20_poly1305` | `iv:` | `iv:`, `tag:` |

  The tag of a message to decrypt has to be as long as `tag_bits:` says: a shorter one, which its sender could
  guess, is `:mechanism_param_invalid`, and so are IVs of a length that there is not.

  The token makes an IV itself with `iv: :token`, or `iv: {:generate, size}`, in bytes, or `iv: {:generate, size: 12,
  fixed: "id", by: :generate_counter}`: `fixed` comes first and stays, `by` is `:generate` (the
  token's choice), `:generate_counter`, `:generate_counter_xor` or `:generate_random`.

  `data` is iodata, or `{:stream, enumerable}` of iodata for a message in parts.

  Errors: `:aead_decrypt_failed`, `:signature_invalid`, `:function_not_supported`,
  `:mechanism_param_invalid`. PKCS #11 v3.2, sections 5.9, 5.11, 5.14 and 5.16 (C_EncryptMessage ...).

      Cryptoki.with_session(hsm, fn session ->
        {:ok, op} = Cryptoki.start(session, :message_encrypt, [label: "archive"], :aes_gcm)
        {:ok, %{ciphertext: c, iv: iv, tag: tag}} =
          Cryptoki.Operation.message(op, [iv: {:generate, 12}], "header", "text")
        :ok = Cryptoki.Operation.finish(op)
      end)
  """
  @spec message(t, keyword | map | binary | nil | {:struct, list}, iodata, data) ::
          :ok | {:ok, binary | map} | {:error, Error.t()}
        when data: iodata | {:stream, Enumerable.t()}
  def message(op, parameters, extra \\ "", data)

  def message(%__MODULE__{} = op, parameters, extra, data) when is_elsewhere(op),
    do: there(op, :message, [parameters, extra, data])

  def message(%__MODULE__{kind: kind} = op, parameters, extra, data) when kind in @messages,
    do: Message.run(op, parameters, extra, data)

  def message(%__MODULE__{kind: kind}, _parameters, _extra, _data),
    do: raise(ArgumentError, "an operation of kind #{inspect(kind)} takes no messages")

  @doc """
  Ends the operation: the signature, the digest or the last bytes; `:verify` takes the signature,
  unless it was given at the start, and answers `:ok`, as message-based operations do. An encryption with
  `iv: :token` answers `{:ok, {iv, last}}`, see `Cryptoki.encrypt/5`.

  Errors: `:signature_invalid`, and what the token says of the data as a whole. PKCS #11 v3.2,
  sections 5.8 to 5.16 (C_...Final).

      {:ok, signature} = Cryptoki.Operation.finish(op)
      :ok = Cryptoki.Operation.finish(verification, signature)
  """
  @spec finish(t, binary | nil) ::
          :ok | {:ok, binary | {iv :: binary, binary}} | {:error, Error.t()}
  def finish(op, signature \\ nil)

  def finish(%__MODULE__{} = op, signature) when is_elsewhere(op),
    do: there(op, :finish, [signature])

  def finish(%__MODULE__{kind: :verify} = op, signature) when is_binary(signature) do
    with {:ok, signature} <- Steps.raw(signature, op.form),
         do: Steps.run(op, {:final, Steps.begun(op), signature})
  end

  def finish(%__MODULE__{kind: kind} = op, nil) when kind in @messages,
    do: Steps.run(op, {:message_final, Steps.begun(op)})

  def finish(%__MODULE__{kind: :encrypt} = op, nil) do
    with {:ok, result} <- Steps.run(op, {:final, Steps.begun(op), nil}),
         :none <- IV.answer(op.iv, result, total(op, 1), total(op, 2)),
         do: {:error, IV.none()}
  end

  def finish(%__MODULE__{kind: :decrypt} = op, nil) do
    with {:error, _too_short} = error <- Ciphertext.check(op.ciphertext, total(op, 1)) do
      _ = cancel(op)
      error
    else
      :ok -> Steps.run(op, {:final, Steps.begun(op), nil})
    end
  end

  def finish(%__MODULE__{kind: kind} = op, nil) when kind != :verify do
    with {:ok, result} <- Steps.run(op, {:final, Steps.begun(op), nil}),
         {:ok, result} <- Steps.in_form(op, result, :C_SignFinal),
         do: {:ok, if(op.form == :der, do: Ecdsa.to_der(result), else: result)}
  end

  def finish(%__MODULE__{kind: :verify}, _signature),
    do: raise(ArgumentError, "a verification is finished with the signature, a binary")

  def finish(%__MODULE__{kind: kind}, _signature),
    do:
      raise(ArgumentError, "an operation of kind #{inspect(kind)} is finished without signature")

  @doc """
  Gives the operation up; the session is free for another of its kind.

  PKCS #11 v3.2, section 5.6.5 (C_SessionCancel); libraries without it get the session reopened.

      :ok = Cryptoki.Operation.cancel(op)
  """
  @spec cancel(t) :: :ok | {:error, Error.t()}
  def cancel(%__MODULE__{} = op) when is_elsewhere(op), do: there(op, :cancel, [])
  def cancel(%__MODULE__{} = op), do: Steps.cancel(op)

  @doc """
  What the operation has come to, in the token's own format: `restore/4` goes on from there, on any
  session of the same token, also later. The operation itself goes on as well.

  It may hold key material or plaintext: treat it as a secret. Of a session with several operations
  it is the state of all.

  Errors: `:state_unsaveable`, `:function_not_supported`. PKCS #11 v3.2, section 5.6.6
  (C_GetOperationState).

      {:ok, state} = Cryptoki.Operation.save(op)
  """
  @spec save(t) :: {:ok, binary} | {:error, Error.t()}
  def save(%__MODULE__{} = op) when is_elsewhere(op), do: there(op, :save, [])
  def save(%__MODULE__{} = op), do: Steps.run(op, {:save_state, Steps.begun(op)})

  @doc """
  Makes an operation of what `save/1` gave, on a session that is in none.

  Some tokens want the key again: `encryption_key:` for `:encrypt` and `:decrypt`,
  `authentication_key:` for `:sign` and `:verify`. Signatures of ECDSA come raw.

  Errors: `:saved_state_invalid`, `:key_needed`, `:key_not_needed`, `:key_changed`. PKCS #11 v3.2,
  section 5.6.7 (C_SetOperationState).

      {:ok, op} = Cryptoki.Operation.restore(session, :digest, state)
      {:ok, op} = Cryptoki.Operation.restore(session, :sign, state, authentication_key: [label: "mac"])
  """
  @spec restore(Session.t(), kind, binary, Cryptoki.opts()) ::
          {:ok, t} | {:error, Error.t()}
  def restore(session, kind, state, opts \\ [])

  def restore(%Session{there: host} = session, kind, state, opts) when host != nil,
    do: HSM.there(session, {__MODULE__, :restore, [session, kind, state, opts]})

  def restore(%Session{} = session, kind, state, opts)
      when kind in @savable and is_binary(state) do
    allowed = [:timeout, :metadata, :encryption_key, :authentication_key]
    options = Options.call!(opts, allowed)
    encryption = options.encryption_key && Keys.wanted!(options.encryption_key, :any)
    authentication = options.authentication_key && Keys.wanted!(options.authentication_key, :any)
    options = Map.take(options, [:timeout, :metadata])
    number = System.unique_integer([:positive])
    op = %__MODULE__{session: session, kind: kind, number: number, mechanism: nil}
    op = %{op | options: options}
    wanted = Enum.reject([encryption, authentication], &is_nil/1)

    with {:ok, target} <- Steps.target(op),
         :ok <-
           Keys.run(target, :restore_state, wanted, fn handles, nil ->
             {one, rest} = if encryption, do: List.pop_at(handles, 0), else: {nil, handles}
             {:restore_state, Steps.begun(op), state, one, List.first(rest)}
           end),
         do: {:ok, op}
  end

  def restore(%Session{}, _kind, _state, _opts) do
    raise ArgumentError, "restore/4 takes one of #{inspect(@savable)} and the binary of save/1"
  end

  defp there(op, function, arguments),
    do: HSM.there(op.session, {__MODULE__, function, [op | arguments]})

  # A restored operation does not know what it has been given.
  defp total(%{passed: nil}, _which), do: 0
  defp total(%{passed: passed}, which), do: :counters.get(passed, which)

  defimpl Inspect do
    def inspect(op, _opts) do
      hsm = Kernel.inspect(Target.called(op.session.target))
      "#Cryptoki.Operation<#{op.kind} #{Kernel.inspect(op.mechanism)} on #{hsm}>"
    end
  end
end
