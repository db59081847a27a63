defmodule Cryptoki.Operations do
  @moduledoc false
  # The cryptographic verbs. Everything that can be wrong with a call itself is found out first and
  # raises `ArgumentError`; then the keys are resolved and the operation runs as one request, or for
  # `{:stream, enumerable}` as a multi-part operation on a session of its own.

  alias Cryptoki.{Attribute, Ecdsa, Error, Instances, Keys, Mechanism, Operation, Options}
  alias Cryptoki.{Pin, Request, Session, Target}
  alias Cryptoki.Mechanism.Hash

  @keyed [:timeout, :pin, :metadata]
  @signing [:format | @keyed]
  @keyless [:timeout, :metadata]
  @piece 64 * 1024
  @vague [:general_error, :function_failed, :device_error, :arguments_bad, :data_invalid]

  @doc "The options of each verb."
  @spec options(atom) :: [atom]
  def options(verb) when verb in [:sign, :verify, :start], do: @signing

  def options(verb) when verb in [:encrypt, :decrypt, :sign_recover, :verify_recover], do: @keyed
  def options(_verb), do: @keyless

  ## Signatures

  def sign(hsm, key, mechanism, data, opts) do
    call = call!(:sign, key, mechanism, data, opts)

    with {:ok, call} <- for_token(hsm, call),
         {:ok, signature} <- run(hsm, call, &{:sign, &2, &1, call.data, &3}) do
      {:ok, if(call.format == :der, do: Ecdsa.to_der(signature), else: signature)}
    end
  end

  def verify(hsm, key, mechanism, data, signature, opts) do
    call = call!(:verify, key, mechanism, data, opts)
    signature = binary!(signature, "a signature")

    with {:ok, call} <- for_token(hsm, call),
         {:ok, raw} <- raw(hsm, call, signature) do
      case call.data do
        {:stream, _enumerable} -> stream(hsm, call, raw)
        data -> run(hsm, call, &{:verify, &2, &1, data, raw, &3})
      end
    end
  end

  def valid?(hsm, key, mechanism, data, signature, opts) do
    case verify(hsm, key, mechanism, data, signature, opts) do
      :ok -> true
      {:error, %Error{reason: no}} when no in [:signature_invalid, :signature_len_range] -> false
      {:error, error} -> raise error
    end
  end

  def sign_recover(hsm, key, mechanism, data, opts) do
    call = call!(:sign_recover, key, mechanism, data, opts)
    run(hsm, call, &{:sign_recover, &2, &1, call.data, &3})
  end

  def verify_recover(hsm, key, mechanism, signature, opts) do
    call = call!(:verify_recover, key, mechanism, signature, opts)
    run(hsm, call, &{:verify_recover, &2, &1, call.data, &3})
  end

  # Many tokens have ECDSA without a hash only; the digest is no secret of theirs.
  defp for_token(hsm, %{named: named} = call) do
    with true <- Mechanism.ecdsa?(named),
         {:ok, target} <- Target.fetch(hsm, call.options),
         %{missing_ecdsa: missing} <- Instances.get(target.instance, :facts),
         true <- named in missing do
      {mechanism, digest} = Ecdsa.on_digest(named, call.data)
      {:ok, %{call | mechanism: {mechanism, []}, data: digest}}
    else
      {:error, _error} = error -> error
      _as_it_is -> {:ok, call}
    end
  end

  ## Encryption, digests, random numbers

  def encrypt(hsm, key, mechanism, data, opts) do
    call = call!(:encrypt, key, mechanism, data, opts)
    run(hsm, call, &{:encrypt, &2, &1, call.data, &3})
  end

  def decrypt(hsm, key, mechanism, data, opts) do
    call = call!(:decrypt, key, mechanism, data, opts)
    run(hsm, call, &{:decrypt, &2, &1, call.data, &3})
  end

  def digest(hsm, mechanism, data, opts) do
    call = call!(:digest, nil, mechanism, data, opts)
    run(hsm, call, fn nil, mechanism, _pin -> {:digest, mechanism, call.data} end)
  end

  def random(hsm, count, opts) do
    options = Options.call!(opts, @keyless)

    unless is_integer(count) and count >= 0 do
      raise ArgumentError, "random/3 takes a number of bytes, got: #{inspect(count)}"
    end

    with {:ok, target} <- Target.fetch(hsm, options), do: Request.run(target, {:random, count})
  end

  def seed_random(hsm, seed, opts) do
    options = Options.call!(opts, @keyless)
    seed = binary!(seed, "a seed")

    with {:ok, target} <- Target.fetch(hsm, options),
         do: Request.run(target, {:seed_random, seed})
  end

  ## Keys that come and go

  def wrap_key(hsm, wrapping, mechanism, key, opts) do
    call = call!(:wrap, wrapping, mechanism, "", opts)
    keys = [call.wanted, Keys.wanted!(key, :decrypt)]

    with {:ok, target} <- target(hsm, call) do
      Keys.run(target, :wrap_key, keys, call.mechanism, fn [wrapping, key], mechanism ->
        {:wrap_key, mechanism, wrapping, key}
      end)
    end
  end

  def unwrap_key(hsm, unwrapping, mechanism, blob, template, opts) do
    call = call!(:unwrap, unwrapping, mechanism, blob, opts)
    template = Attribute.encode!(template)

    made(hsm, :unwrap_key, call, fn [unwrapping], mechanism ->
      {:unwrap_key, mechanism, unwrapping, call.data, template}
    end)
  end

  def derive_key(hsm, base, mechanism, template, opts) do
    call = call!(:derive, base, mechanism, "", opts)
    template = Attribute.encode!(template)

    made(hsm, :derive_key, call, fn [base], mechanism ->
      {:derive_key, mechanism, base, template}
    end)
  end

  defp made(hsm, operation, call, op) do
    with {:ok, target} <- target(hsm, call),
         {:ok, handle} <- Keys.run(target, operation, [call.wanted], call.mechanism, op),
         do: Keys.made(target, handle)
  end

  ## Multi-part operations

  def start(%Session{} = session, kind, key, mechanism, opts)
      when kind in [:sign, :verify, :encrypt, :decrypt, :digest] do
    if kind == :digest and key != nil, do: raise(ArgumentError, "a digest has no key")
    start(session, call!(kind, key, mechanism, "", opts))
  end

  def start(%Session{}, kind, _key, _mechanism, _opts) do
    raise ArgumentError,
          "an operation is :sign, :verify, :encrypt, :decrypt or :digest, got: #{inspect(kind)}"
  end

  def start(_hsm, _kind, _key, _mechanism, _opts) do
    raise ArgumentError, "start/5 needs the session that with_session/3 gives to its function"
  end

  defp start(session, call) do
    with {:ok, form} <- form(session, call),
         {:ok, target} <- target(session, call),
         :ok <- init(target, call) do
      {:ok, %Operation{session: session, kind: call.kind, mechanism: call.named, form: form}}
    end
  end

  defp init(target, call) do
    with {:ok, pin} <- context_pin(call) do
      Keys.run(target, call.kind, List.wrap(call.wanted), call.mechanism, fn handles, mechanism ->
        {:init, call.kind, mechanism, List.first(handles), pin}
      end)
    end
  end

  # A stream is read by the calling process between the updates: what it raises passes through here
  # and leaves the session without an operation.
  defp stream(hsm, %{data: {:stream, enumerable}} = call, signature \\ nil) do
    Session.run(hsm, call.options, fn session ->
      # The signature has its final form already.
      with {:ok, op} <- start(session, %{call | format: :raw}) do
        try do
          with {:ok, out} <- feed(op, enumerable), do: finish(op, out, signature)
        catch
          kind, reason ->
            Operation.cancel(op)
            :erlang.raise(kind, reason, __STACKTRACE__)
        end
      end
    end)
  end

  defp feed(op, enumerable) do
    enumerable
    |> Stream.concat([:end])
    |> Enum.reduce_while({:ok, [], [], 0}, fn
      :end, {:ok, out, held, _size} ->
        step(op, out, held, 0)

      chunk, {:ok, out, held, size} ->
        step(op, out, [held, chunk], size + IO.iodata_length(chunk))
    end)
    |> case do
      {:ok, out, _held, _size} -> {:ok, out}
      {:error, _error} = error -> error
    end
  end

  # Small chunks are collected; `Operation.update/2` cuts large ones.
  defp step(_op, out, held, size) when size in 1..(@piece - 1),
    do: {:cont, {:ok, out, held, size}}

  defp step(op, out, held, _size) do
    case Operation.update(op, held) do
      :ok -> {:cont, {:ok, out, [], 0}}
      {:ok, bytes} -> {:cont, {:ok, [out, bytes], [], 0}}
      {:error, _error} = error -> {:halt, error}
    end
  end

  defp finish(%{kind: kind} = op, out, nil) when kind in [:encrypt, :decrypt] do
    with {:ok, last} <- Operation.finish(op), do: {:ok, IO.iodata_to_binary([out, last])}
  end

  defp finish(op, _out, signature), do: Operation.finish(op, signature)

  ## What all have in common

  # Raises for whatever is wrong with the call itself.
  defp call!(kind, key, mechanism, data, opts) do
    options = Options.call!(opts, options(kind))
    data = data!(data)
    mechanism_and_keys = Keys.mechanism!(mechanism, size(kind, data))

    if options[:format] == :der and not Mechanism.ecdsa?(mechanism) do
      raise ArgumentError, "format: :der is for ECDSA, not for #{inspect(named(mechanism))}"
    end

    %{
      kind: kind,
      options: options,
      format: options[:format] || :raw,
      wanted: key && Keys.wanted!(key, kind),
      mechanism: mechanism_and_keys,
      named: named(mechanism),
      limit: limit(kind, mechanism),
      data: data
    }
  end

  defp size(_kind, {:stream, _enumerable}), do: []
  defp size(:decrypt, data), do: [ciphertext_size: byte_size(data)]
  defp size(_kind, data), do: [plaintext_size: byte_size(data)]

  defp named(mechanism), do: Mechanism.name_or_code(mechanism)

  defp run(hsm, %{data: {:stream, _enumerable}} = call, _op), do: stream(hsm, call)

  defp run(hsm, call, op) do
    with {:ok, target} <- target(hsm, call),
         {:ok, pin} <- context_pin(call) do
      keys = List.wrap(call.wanted)

      with {:error, error} <-
             Keys.run(target, call.kind, keys, call.mechanism, &op.(List.first(&1), &2, pin)),
           do: {:error, too_long(target, call, error)}
    end
  end

  # Libraries have many names for data too long for an RSA key: the sizes tell.
  defp too_long(target, %{limit: limit} = call, %Error{reason: reason} = error)
       when limit != nil and reason in @vague do
    size = byte_size(call.data)

    with {:ok, handle} <- Keys.resolve(target, call.wanted, :cached),
         {:ok, %{modulus: <<_, _::binary>> = modulus}} <- Keys.read(target, handle, [:modulus]),
         most when size > most <- byte_size(modulus) - limit do
      detail = "#{size} bytes, this key and mechanism take at most #{max(most, 0)}"
      Error.new(:data_len_range, detail, function: error.function)
    else
      _something_else -> error
    end
  end

  defp too_long(_target, _call, error), do: error

  # What RSA adds to data, in bytes.
  defp limit(kind, mechanism) when kind in [:sign, :encrypt, :sign_recover] do
    case Mechanism.name_or_code(mechanism) do
      :rsa_pkcs -> 11
      :rsa_x_509 -> 0
      :rsa_pkcs_oaep -> 2 * (Hash.size(Mechanism.hash(mechanism) || :sha_1) || 0) + 2
      _other -> nil
    end
  end

  defp limit(_kind, _mechanism), do: nil

  defp target(hsm, call) do
    with {:ok, target} <- Target.fetch(hsm, call.options),
         do: {:ok, %{target | mechanism: call.named}}
  end

  # The context-specific login (PKCS #11 v3.2, section 5.6.8), fetched in the process that calls.
  defp context_pin(%{options: %{pin: %Pin{} = pin}}) do
    case Pin.fetch(pin) do
      {:ok, :protected_path} -> {:ok, :protected}
      {:ok, :none} -> {:ok, nil}
      pin_or_error -> pin_or_error
    end
  end

  defp context_pin(_call), do: {:ok, nil}

  # How the multi-part operation has to treat the signature.
  defp form(session, %{kind: :verify, format: :der} = call) do
    with {:ok, size} <- coordinate_size(session, call), do: {:ok, {:der, size}}
  end

  defp form(_session, %{kind: :sign, format: :der}), do: {:ok, :der}
  defp form(_session, _call), do: {:ok, :raw}

  defp raw(hsm, %{format: :der} = call, der) do
    with {:ok, size} <- coordinate_size(hsm, call), do: Ecdsa.from_der(der, size)
  end

  defp raw(_hsm, _call, signature), do: {:ok, signature}

  # DER drops leading zeros, the token wants them back: the public point knows how long r and s are.
  defp coordinate_size(hsm, call) do
    with {:ok, target} <- target(hsm, call),
         {:ok, answer} <-
           Keys.run(target, :attributes, [call.wanted], fn [handle], nil ->
             {:attributes, handle, Attribute.types!([:curve, :ec_point])}
           end) do
      %{curve: curve, ec_point: point} = Attribute.decode(answer, [:curve, :ec_point])
      curve = if is_atom(curve), do: curve

      with true <- is_binary(point), {:ok, point} <- Attribute.ec_point(point, curve) do
        {:ok, div(byte_size(point), 2)}
      else
        _no_point ->
          detail = "format: :der needs the EC_POINT of the public key, which cannot be read"
          {:error, Error.new(:unsupported, detail)}
      end
    end
  end

  defp data!({:stream, enumerable} = stream) do
    if Enumerable.impl_for(enumerable),
      do: stream,
      else: raise(ArgumentError, "{:stream, enumerable} needs something that can be enumerated")
  end

  defp data!(data), do: binary!(data, "data")

  # Never shown: it is data.
  defp binary!(data, _what) when is_binary(data), do: data

  defp binary!(data, what) when is_list(data) do
    IO.iodata_to_binary(data)
  rescue
    ArgumentError ->
      reraise ArgumentError, [message: "#{what} must be iodata, got a list of something else"], []
  end

  defp binary!(_data, what), do: raise(ArgumentError, "#{what} must be iodata")
end
