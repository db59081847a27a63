defmodule Cryptoki.Operations do
  @moduledoc false
  # The cryptographic verbs. Everything that can be wrong with a call itself is found out first and
  # raises `ArgumentError`; then the keys are resolved and the operation runs as one request, or for
  # `{:stream, enumerable}` as a multi-part operation on a session of its own.

  require Cryptoki.HSM

  alias Cryptoki.{
    Bytes,
    Call,
    Chunks,
    ContextPin,
    DataLimit,
    Ecdsa,
    Error,
    Fitting,
    HSM,
    Keys,
    Mechanism
  }

  alias Cryptoki.{
    Names,
    Operation,
    Options,
    OwnIV,
    Prehash,
    Random,
    Salt,
    Session,
    SignatureForm,
    Steps,
    Target,
    Traits
  }

  alias Cryptoki.Mechanism.IV

  @keyed [:timeout, :pin, :metadata]
  @signing [:format | @keyed]
  @random_limit 16 * 1024 * 1024
  @keyless [:timeout, :metadata]
  @messages ~w[message_sign message_verify message_encrypt message_decrypt]a
  @kinds ~w[sign verify encrypt decrypt digest]a ++ @messages
  # They take what somebody else has sent.
  @received ~w[decrypt verify verify_recover message_decrypt message_verify]a
  # They sign with a structure.
  @otp [:hotp, :securid, :acti]

  @doc "The options of each verb."
  @spec options(atom) :: [atom]
  def options(:sign), do: @signing
  def options(:verify), do: [:signature_first | @signing]
  def options(:encrypt), do: [:digest, :sign | @keyed]
  def options(:decrypt), do: [:digest, :verify | @keyed]
  def options(verb) when verb in [:sign_recover, :verify_recover | @messages], do: @keyed
  def options(_verb), do: @keyless

  @doc "The options of a multi-part operation."
  @spec start_options(atom) :: [atom]
  def start_options(:verify), do: [:signature | @signing]
  def start_options(kind) when kind in [:encrypt, :decrypt], do: @keyed
  def start_options(kind), do: options(kind)

  ## Signatures

  def sign(hsm, key, mechanism, data, opts) do
    call = call!(:sign, key, mechanism, data, opts)

    with {:ok, target} <- target(hsm, call),
         {:ok, signature} <- run(hsm, target, call, at_once(call, nil)),
         {:ok, signature} <- in_form(target, call, signature, :C_Sign) do
      {:ok, signature(call, signature)}
    end
  end

  # The traits of the key were read before it signed.
  defp in_form(target, call, signature, function) when is_binary(signature) do
    form = expected(target, call)

    with {:ok, signature} <- SignatureForm.repair(signature, form, call.named, function),
         :ok <- Salt.check(target, call, form, signature),
         do: {:ok, signature}
  end

  defp in_form(_target, _call, parameters, _function), do: {:ok, parameters}

  defp expected(target, call),
    do: SignatureForm.tag(call.named) || Traits.form(target, call.wanted)

  defp name(%{named: named}) when named in @otp, do: :sign_otp
  defp name(_call), do: :sign

  defp signature(%{format: :der}, raw), do: Ecdsa.to_der(raw)

  defp signature(%{named: named}, parameters) when named in @otp,
    do: for({code, bytes} <- parameters, into: %{}, do: {Names.name(:otp_parameter, code), bytes})

  defp signature(_call, raw), do: raw

  def verify(hsm, key, mechanism, data, signature, opts) do
    call = call!(:verify, key, mechanism, data, opts)
    signature = Bytes.binary!(signature, "a signature")

    with {:ok, raw} <- raw(hsm, call, signature) do
      first = if call.options.signature_first, do: raw
      call = %{call | options: Map.put(call.options, :signature, first)}
      raw = if first, do: nil, else: raw

      if is_binary(call.data),
        do: run(hsm, call, at_once(call, raw)),
        else: stream(hsm, call, raw)
    end
  end

  # The operation in one call, of data that is there as a whole.
  defp at_once(%{kind: :sign} = call, nil), do: &{name(call), &2, &1, call.data, &3}

  defp at_once(%{kind: :verify, options: %{signature: nil}} = call, signature),
    do: &{:verify, &2, &1, call.data, signature, &3}

  defp at_once(%{kind: :verify, options: %{signature: signature}} = call, nil),
    do: &{:verify_signature, &2, &1, call.data, signature, &3}

  def valid?(hsm, key, mechanism, data, signature, opts) do
    verified = HSM.at(hsm, __MODULE__.verify(hsm, key, mechanism, data, signature, opts))

    case verified do
      :ok -> true
      {:error, %Error{reason: no}} when no in [:signature_invalid, :signature_len_range] -> false
      {:error, error} -> raise error
    end
  end

  def sign_recover(hsm, key, mechanism, data, opts) do
    call = call!(:sign_recover, key, mechanism, data, opts)

    with {:ok, target} <- target(hsm, call),
         {:ok, signature} <- run(hsm, target, call, &{:sign_recover, &2, &1, call.data, &3}),
         do: in_form(target, call, signature, :C_SignRecover)
  end

  def verify_recover(hsm, key, mechanism, signature, opts) do
    call = call!(:verify_recover, key, mechanism, signature, opts)
    run(hsm, call, &{:verify_recover, &2, &1, call.data, &3})
  end

  ## Digests, random numbers

  def digest(hsm, mechanism, data, opts) do
    call = call!(:digest, nil, mechanism, data, opts)
    run(hsm, call, fn nil, mechanism, _pin -> {:digest, mechanism, call.data} end)
  end

  def random(hsm, count, opts) do
    options = Options.call!(opts, @keyless)

    unless count in 0..@random_limit do
      raise ArgumentError,
            "random/3 takes a number of bytes from 0 to #{@random_limit}, got: #{inspect(count)}"
    end

    with {:ok, target} <- HSM.target(hsm, options), do: Random.bytes(target, count)
  end

  def seed_random(hsm, seed, opts) do
    options = Options.call!(opts, @keyless)
    seed = Bytes.binary!(seed, "a seed")

    with {:ok, target} <- HSM.target(hsm, options), do: Random.seed(target, seed)
  end

  ## Multi-part operations

  def start(%Session{} = session, kind, key, mechanism, opts) when kind in @kinds do
    if kind == :digest and key != nil, do: raise(ArgumentError, "a digest has no key")
    start(session, call!(kind, key, mechanism, "", opts, start_options(kind)))
  end

  def start(%Session{}, kind, _key, _mechanism, _opts) do
    raise ArgumentError,
          "an operation is one of #{Enum.map_join(@kinds, ", ", &inspect/1)}, got: #{inspect(kind)}"
  end

  def start(_hsm, _kind, _key, _mechanism, _opts) do
    raise ArgumentError, "start/5 needs the session that with_session/3 gives to its function"
  end

  @doc "Begins what `call!/6` has checked."
  @spec start(Session.t(), map) :: {:ok, Operation.t()} | {:error, Error.t()}
  def start(session, call) do
    with {:ok, form} <- form(session, call),
         {:ok, target} <- target(session, call),
         number = System.unique_integer([:positive]),
         {:ok, kind} <- init(target, call, form, number) do
      {:ok,
       %Operation{
         session: session,
         kind: kind,
         number: number,
         mechanism: call.named,
         form: form,
         expected: if(kind in [:sign, :message_sign], do: expected(target, call)),
         iv: call.iv,
         ciphertext: call.ciphertext,
         passed: if(kind in [:encrypt, :decrypt], do: :counters.new(2, [])),
         options: Map.take(call.options, [:timeout, :metadata])
       }}
    end
  end

  # C_VerifySignatureInit (3.2): the signature comes before the data.
  defp init(target, %{kind: :verify, options: %{signature: signature}} = call, form, number)
       when signature != nil do
    begun = {:verify_signature, number}

    with {:ok, signature} <- Steps.raw(signature, form),
         :ok <- begin(target, call, &{:verify_signature_init, begun, &2, &1, signature, &3}),
         do: {:ok, :verify_signature}
  end

  # Which of the forms it was is seen at the end, where it is too late for another one.
  defp init(target, %{iv: %IV{given: :token}} = call, _form, number) do
    init = fn mechanism ->
      call = %{call | mechanism: mechanism}
      init = &{:init, {:encrypt, number}, &2, &1, &3}
      with :ok <- begin(target, call, init), do: {:ok, :own_iv}
    end

    with {:ok, _begun} <- OwnIV.run(target, call, init, &{:ok, &1}), do: {:ok, :encrypt}
  end

  defp init(target, %{kind: kind} = call, _form, number) do
    begun = {kind, number}

    case begin(target, call, &{:init, begun, &2, &1, &3}) do
      :ok -> {:ok, kind}
      # The token has written into the parameter of an encryption.
      {:ok, :own_iv} -> if call.iv, do: replaced(target, begun), else: {:ok, kind}
      {:error, _error} = error -> error
    end
  end

  defp replaced(target, begun) do
    _ = Call.run(target, {:cancel, begun})
    {:error, IV.replaced()}
  end

  @doc "Runs an operation with the handle of its key, as the token takes it, and with the PIN for this use."
  @spec begin(Target.t(), map, (term, term, term -> tuple)) ::
          :ok | {:ok, term} | {:error, Error.t()}
  def begin(target, call, op) do
    ContextPin.run(target, call, fn pin ->
      Fitting.run(target, call.kind, List.wrap(call.wanted), call.mechanism, fn handles,
                                                                                mechanism ->
        op.(List.first(handles), mechanism, pin)
      end)
    end)
  end

  # The same with one PIN, of a call that may have to be run on the digest of its data.
  defp begin_whole(target, %{kind: kind, data: data} = call, op)
       when kind in [:sign, :verify] and is_binary(data) do
    ContextPin.run(target, call, &Prehash.run(target, call, attempt(target, call, op, &1)))
  end

  defp begin_whole(target, call, op), do: begin(target, call, op)

  # Data is the fourth of each, see at_once/2.
  defp attempt(target, call, op, pin) do
    fn mechanism, data ->
      Fitting.run(target, call.kind, List.wrap(call.wanted), mechanism, fn handles, mechanism ->
        handles |> List.first() |> op.(mechanism, pin) |> put_elem(3, data)
      end)
    end
  end

  # A stream is read by the calling process between the updates: what it raises passes through here
  # and leaves the session without an operation.
  @doc "Runs it in parts, of a stream."
  @spec stream(term, map, binary | nil) :: :ok | {:ok, term} | {:error, Error.t()}
  def stream(hsm, call, signature \\ nil)
  def stream(_hsm, %{refusal: %Error{} = error}, _signature), do: {:error, error}

  def stream(hsm, %{data: {:stream, enumerable}} = call, signature) do
    HSM.with_session(hsm, call.options, fn session ->
      with {:ok, target} <- target(session, call) do
        # The signature has its final form already.
        call = %{call | format: :raw}

        case not Prehash.known?(target, call) && start(session, call) do
          {:ok, op} ->
            try do
              update = &Operation.update(op, &1)
              call |> Prehash.feed(enumerable, update) |> fed(session, call, op, signature)
            catch
              kind, reason ->
                Operation.cancel(op)
                :erlang.raise(kind, reason, __STACKTRACE__)
            end

          false ->
            on_digest(session, call, Prehash.digest(call, call.data), nil, signature)

          {:error, error} ->
            if Prehash.instead?(call, error),
              do: on_digest(session, call, Prehash.digest(call, call.data), error, signature),
              else: {:error, error}
        end
      end
    end)
  end

  defp fed({:ok, out}, _session, _call, op, signature), do: finish(op, out, signature)
  defp fed({:error, _error} = error, _session, _call, _op, _signature), do: error

  defp fed({:digest, digest, error}, session, call, _op, signature),
    do: on_digest(session, call, digest, error, signature)

  defp on_digest(session, call, digest, error, signature) do
    with {:ok, target} <- target(session, call) do
      call = %{call | data: digest}

      ContextPin.run(target, call, fn pin ->
        attempt = attempt(target, call, at_once(call, signature), pin)
        Prehash.on_digest(target, call, digest, error, attempt)
      end)
    end
  end

  defp finish(%{kind: kind} = op, out, nil) when kind in [:encrypt, :decrypt] do
    case Operation.finish(op) do
      {:ok, {iv, last}} -> {:ok, {iv, IO.iodata_to_binary([out, last])}}
      {:ok, last} -> {:ok, IO.iodata_to_binary([out, last])}
      {:error, _error} = error -> error
    end
  end

  defp finish(op, _out, signature), do: Operation.finish(op, signature)

  ## What all have in common

  @doc "A call whose arguments have been checked; raises for whatever is wrong with it."
  @spec call!(atom, term, term, term, keyword | map, [atom] | nil) :: map
  def call!(kind, key, mechanism, data, opts, allowed \\ nil) do
    options = Options.call!(opts, allowed || options(kind))
    data = Chunks.data!(data)
    context = context(kind, data)
    {encoded, refusal} = encoded(kind, mechanism, context)
    named = Mechanism.name_or_code(mechanism)

    if options[:format] == :der and not Mechanism.ecdsa?(mechanism) do
      raise ArgumentError, "format: :der is for ECDSA, not for #{inspect(named)}"
    end

    %{
      kind: kind,
      options: options,
      format: options[:format] || :raw,
      wanted: if(kind != :digest, do: Keys.wanted!(key, use_of_key(kind))),
      mechanism: encoded,
      refusal: refusal,
      ciphertext: if(kind == :decrypt, do: Mechanism.ciphertext(mechanism)),
      encode: &mechanism!(kind, mechanism, [iv: &1] ++ context),
      iv: if(kind == :encrypt, do: Mechanism.iv(mechanism)),
      named: named,
      limit: DataLimit.of(kind, named, mechanism),
      data: data
    }
  end

  @doc "The mechanism; what is wrong with what came with the data is an error of the call, not of the program."
  @spec encoded(atom, term, keyword) :: {Keys.mechanism(), nil} | {nil, Error.t()}
  def encoded(kind, mechanism, context) do
    {mechanism!(kind, mechanism, context), nil}
  rescue
    error in Error -> {nil, error}
  end

  # The parameters come with each message.
  defp mechanism!(kind, mechanism, _context) when kind in @messages and not is_tuple(mechanism),
    do: {Mechanism.encode!({mechanism, ""}), []}

  defp mechanism!(_kind, mechanism, context), do: Keys.mechanism!(mechanism, context)

  defp use_of_key(:message_sign), do: :sign
  defp use_of_key(:message_verify), do: :verify
  defp use_of_key(:message_encrypt), do: :encrypt
  defp use_of_key(:message_decrypt), do: :decrypt
  defp use_of_key(kind), do: kind

  # What the encoding of a mechanism has to know.
  defp context(:encrypt, data), do: [direction: :out, iv: :over] ++ size(:encrypt, data)
  defp context(kind, data) when kind in @received, do: [direction: :in] ++ size(kind, data)
  defp context(kind, data), do: size(kind, data)

  defp size(_kind, {:stream, _enumerable}), do: []
  defp size(:decrypt, data), do: [ciphertext_size: byte_size(data)]
  defp size(_kind, data), do: [plaintext_size: byte_size(data)]

  @doc "Runs it: `op` makes the operation of a handle, a mechanism and a PIN; a stream goes by parts."
  @spec run(term, map, (term, term, term -> tuple)) :: :ok | {:ok, term} | {:error, Error.t()}
  def run(hsm, call, op) do
    with {:ok, target} <- target(hsm, call), do: run(hsm, target, call, op)
  end

  defp run(hsm, _target, %{data: {:stream, _enumerable}} = call, _op), do: stream(hsm, call)

  defp run(_hsm, target, call, op) do
    with {:error, error} <- begin_whole(target, call, op),
         do: {:error, DataLimit.explained(target, call, error)}
  end

  @doc "What it works on; an error when something is wrong with what came with its data."
  @spec target(term, map) :: {:ok, Target.t()} | {:error, Error.t()}
  def target(_hsm, %{refusal: %Error{} = error}), do: {:error, error}

  def target(hsm, call) do
    with {:ok, target} <- HSM.target(hsm, call.options),
         do: {:ok, %{target | mechanism: call.named}}
  end

  # How the multi-part operation has to treat the signature.
  defp form(session, %{kind: :verify, format: :der} = call) do
    with {:ok, size} <- number_size(session, call), do: {:ok, {:der, size}}
  end

  defp form(_session, %{kind: :sign, format: :der}), do: {:ok, :der}
  defp form(_session, _call), do: {:ok, :raw}

  defp raw(hsm, %{format: :der} = call, der) do
    with {:ok, size} <- number_size(hsm, call), do: Ecdsa.from_der(der, size)
  end

  defp raw(_hsm, _call, signature), do: {:ok, signature}

  defp number_size(hsm, call),
    do: with({:ok, target} <- target(hsm, call), do: Traits.number_size(target, call.wanted))

  @doc "Data as something to enumerate."
  @spec enumerable({:stream, Enumerable.t()} | binary) :: Enumerable.t()
  def enumerable({:stream, enumerable}), do: enumerable
  def enumerable(data), do: [data]
end
