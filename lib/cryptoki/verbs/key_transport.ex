defmodule Cryptoki.KeyTransport do
  @moduledoc false
  # The verbs that make keys of other keys: wrapping, deriving, encapsulating.

  alias Cryptoki.{Attribute, Beside, Bytes, Fitting, Keys, Mechanism, Operations, Options}
  alias Cryptoki.Mechanism.{Ciphertext, IV}

  @options [:timeout, :metadata]
  @wrapping [:associated_data | @options]

  def wrap_key(hsm, wrapping, mechanism, key, opts) do
    context = [plaintext_size: 0, direction: :out, iv: :over]
    call = call!(:wrap, wrapping, mechanism, opts, @wrapping, context)
    keys = [call.wanted, Keys.wanted!(key, :decrypt)]

    case call.options.associated_data do
      nil ->
        wrap(hsm, call, :wrap_key, keys, fn [wrapping, key], mechanism ->
          {:wrap_key, mechanism, wrapping, key}
        end)

      data ->
        wrap(hsm, call, :wrap_key_authenticated, keys, fn [wrapping, key], mechanism ->
          {:wrap_key_authenticated, mechanism, wrapping, key, data}
        end)
    end
  end

  # How long the key is, and with it what stands behind it, is not known: an IV can only be in the parameter.
  defp wrap(hsm, %{iv: iv} = call, operation, keys, op) do
    iv = iv && %{iv | tag: nil}

    with {:ok, result} <- run(hsm, call, operation, keys, op),
         :none <- IV.answer(iv, result, 0),
         do: {:error, IV.none()}
  end

  def unwrap_key(hsm, unwrapping, mechanism, blob, template, opts) do
    blob = Bytes.binary!(blob, "a wrapped key")

    context = [ciphertext_size: byte_size(blob), direction: :in]
    call = call!(:unwrap, unwrapping, mechanism, opts, @wrapping, context)
    rule = Mechanism.ciphertext(mechanism)
    call = refused(call, Ciphertext.check(rule, byte_size(blob), :wrapped_key_len_range))
    template = Attribute.encode!(template)

    case call.options.associated_data do
      nil ->
        made(hsm, call, :unwrap_key, fn [unwrapping], mechanism ->
          {:unwrap_key, mechanism, unwrapping, blob, template}
        end)

      data ->
        made(hsm, call, :unwrap_key_authenticated, fn [unwrapping], mechanism ->
          {:unwrap_key_authenticated, mechanism, unwrapping, blob, data, template}
        end)
    end
  end

  defp refused(%{refusal: nil} = call, {:error, error}), do: %{call | refusal: error}
  defp refused(call, _result), do: call

  def derive_key(hsm, base, mechanism, template, opts) do
    call = call!(:derive, base, mechanism, opts, @options)
    template = Attribute.encode!(template)

    case Mechanism.answer(mechanism) do
      nil ->
        made(hsm, call, :derive_key, fn [base], mechanism ->
          {:derive_key, mechanism, base, template}
        end)

      answer ->
        derive_beside(hsm, call, template, answer)
    end
  end

  defp derive_beside(hsm, call, template, answer) do
    op = fn [base], mechanism -> {:derive_beside, mechanism, base, template} end

    with {:ok, target} <- Operations.target(hsm, call),
         {:ok, made} <- Fitting.run(target, :derive_key, [call.wanted], call.mechanism, op),
         do: Beside.result(answer, made, target)
  end

  def encapsulate_key(hsm, public, mechanism, template, opts) do
    call = call!(:encapsulate, public, mechanism, opts, @options)
    template = Attribute.encode!(template)
    op = fn [key], mechanism -> {:encapsulate_key, mechanism, key, template} end

    with {:ok, target} <- Operations.target(hsm, call),
         {:ok, {ciphertext, handle}} <-
           Fitting.run(target, :encapsulate_key, [call.wanted], call.mechanism, op),
         {:ok, key} <- Keys.made(target, handle),
         do: {:ok, {ciphertext, key}}
  end

  def decapsulate_key(hsm, private, mechanism, ciphertext, template, opts) do
    call = call!(:decapsulate, private, mechanism, opts, @options, direction: :in)
    ciphertext = Bytes.binary!(ciphertext, "an encapsulated key")
    template = Attribute.encode!(template)

    made(hsm, call, :decapsulate_key, fn [key], mechanism ->
      {:decapsulate_key, mechanism, key, ciphertext, template}
    end)
  end

  defp call!(verb, key, mechanism, opts, options, context \\ [plaintext_size: 0]) do
    options = Options.call!(opts, options)
    {encoded, refusal} = Operations.encoded(verb, mechanism, context)

    %{
      options: options,
      wanted: Keys.wanted!(key, verb),
      mechanism: encoded,
      refusal: refusal,
      iv: Mechanism.iv(mechanism),
      named: Mechanism.name_or_code(mechanism)
    }
  end

  defp run(hsm, call, operation, keys, op) do
    with {:ok, target} <- Operations.target(hsm, call),
         do: Fitting.run(target, operation, keys, call.mechanism, op)
  end

  defp made(hsm, call, operation, op) do
    with {:ok, target} <- Operations.target(hsm, call),
         {:ok, handle} <- Fitting.run(target, operation, [call.wanted], call.mechanism, op),
         do: Keys.made(target, handle)
  end
end
