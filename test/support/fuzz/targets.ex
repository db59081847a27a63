defmodule Cryptoki.Test.Fuzz.Targets do
  @moduledoc false
  # What everything that decodes has to keep to, whatever it is given. Each target takes one input and
  # raises when a rule is broken; test/fuzz holds the inputs that the changes start from.

  alias Cryptoki.{Attribute, Ecdsa, Error, Mechanism, Native, Selector}
  alias Cryptoki.PublicKey.Decode

  alias Cryptoki.Attribute.Curve
  alias Cryptoki.Test.Fuzz.Strangers

  @doc "The targets, each with what its inputs are."
  @spec all :: [{atom, :bytes | :der | :term}]
  def all do
    [uri: :bytes, der: :bytes, attributes: :bytes, terms: :term, native: :term] ++
      Strangers.all()
  end

  @doc "Runs a target on one input."
  @spec run(atom, term) :: :ok
  # A URI is refused with a sentence, or is the same again when it is written and read; nothing shows
  # a PIN.
  def run(:uri, bytes) do
    case Cryptoki.URI.parse(bytes) do
      {:ok, uri} ->
        {:ok, ^uri} = Cryptoki.URI.parse(to_string(uri))
        true = Cryptoki.URI.equivalent?(uri, uri)
        if uri.pin_value not in [nil, ""], do: hidden!(uri)

      {:error, %Error{reason: :invalid_argument} = error} ->
        true = String.valid?(Exception.message(error))
    end

    :ok
  end

  # What tokens and strangers hand in as DER is a value or an error.
  def run(:der, <<size, der::binary>>) do
    case Ecdsa.from_der(der, rem(size, 70) + 1) do
      {:ok, raw} -> true = byte_size(raw) == 2 * (rem(size, 70) + 1)
      {:error, %Error{reason: :signature_invalid}} -> :ok
    end

    for attributes <- [
          %{class: :certificate, value: der},
          %{public_key_info: der},
          %{
            key_type: :ec,
            ec_params: Curve.encode(:secp256r1) |> elem(1),
            curve: :secp256r1,
            ec_point: der
          },
          %{key_type: :ec_montgomery, ec_params: der, curve: der, ec_point: <<size::256>>}
        ] do
      case Decode.attributes(attributes) do
        {:ok, _key} -> :ok
        :error -> :ok
      end
    end

    for curve <- [nil, :secp256r1, :x25519, :ed448] do
      case Attribute.ec_point(der, curve) do
        {:ok, point} -> true = byte_size(point) <= byte_size(der)
        :error -> :ok
      end
    end

    :ok
  end

  def run(:der, ""), do: :ok

  # The value of an attribute, of any type, as a token may give it: never an exception, and a value
  # that was understood can be sent, and then reads the same.
  def run(:attributes, <<code::32, bytes::binary>>) do
    for answer <- [
          [{code, bytes}],
          [{code, {:template, [{code, bytes}, {rem(code, 0x700), bytes}]}}],
          [{0x100, bytes}, {rem(code, 0x700), bytes}, {0x61D, bytes}]
        ] do
      true = is_map(Attribute.decode(answer))
    end

    [{name, value}] = Map.to_list(Attribute.decode([{code, bytes}]))

    with [{^code, sent}] when is_binary(sent) <- Attribute.encode!([{name, value}]) do
      ^value = Attribute.decode([{code, sent}])[name]
    end

    :ok
  end

  def run(:attributes, _short), do: :ok

  # What callers write: an encoded form, or an ArgumentError that quotes no binary.
  def run(:terms, {kind, term}) do
    argument_error(term, fn ->
      case kind do
        :mechanism -> Mechanism.encode!(term, plaintext_size: 10)
        :template -> Attribute.encode!(term)
        :selector -> Selector.normalize!(term, :private_key)
        _no_such_place -> :ok
      end
    end)
  end

  def run(:terms, _other), do: :ok

  # What the native side decodes: a session takes it and the token refuses, or it is refused before.
  # The mechanism is a vendor's number, which no token knows: with a real one it would follow the
  # pointers of a parameter that is none.
  def run(:native, {parameter, template}) do
    mechanism = {0x8000_0001, parameter}

    for operation <- [
          {:digest, mechanism, "data"},
          {:generate_key, mechanism, template},
          {:find, template, 1}
        ] do
      native(operation)
    end

    :ok
  end

  def run(:native, _other), do: :ok

  def run(target, bytes), do: Strangers.run(target, bytes)

  defp native(operation) do
    ref = make_ref()

    case Native.submit(ref, :persistent_term.get({__MODULE__, :instance}), operation) do
      {:ok, _request} ->
        receive do
          {^ref, answer, _times} -> refused_or_found(answer)
        end

      {:answered, answer, _times} ->
        refused_or_found(answer)

      {:error, {:own, reason, _detail}} when reason != :panic ->
        :ok
    end
  rescue
    # A term that is no operation, which only a mistake of our own Elixir side makes.
    ArgumentError -> :ok
  end

  defp refused_or_found({:error, {:rv, _code, _function, _class}}), do: :ok
  defp refused_or_found({:error, {:own, reason, _detail}}) when reason != :panic, do: :ok
  defp refused_or_found({:ok, found}) when is_list(found), do: :ok

  @doc "What the target `:native` runs on, an instance, and what verifies tokens."
  @spec on(GenServer.server()) :: :ok
  def on(hsm) do
    {:ok, target} = Cryptoki.HSM.target(hsm)
    :persistent_term.put({__MODULE__, :instance}, target.queue)
    Strangers.on(hsm)
  end

  defp hidden!(uri) do
    pin = "7391pin7391"
    if inspect(%{uri | pin_value: pin}) =~ pin, do: raise("inspect shows the PIN of a URI")
  end

  defp argument_error(term, fun) do
    fun.()
    :ok
  rescue
    error in [ArgumentError, Error] ->
      message = Exception.message(error)
      true = String.valid?(message) and byte_size(message) < 4000
      if secret = secret(term), do: false = message =~ inspect(secret)
      :ok
  end

  # A binary that no message may have taken from anywhere else.
  defp secret({_name, arguments}), do: secret(arguments)
  defp secret([{_name, bytes} | _]) when is_binary(bytes) and byte_size(bytes) > 8, do: bytes
  defp secret(_), do: nil
end
