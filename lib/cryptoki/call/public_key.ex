defmodule Cryptoki.PublicKey do
  @moduledoc false
  # Public keys as `:public_key` has them: from the public key object, else the public half of the
  # private key (`Cryptoki.PublicHalf`), else from a certificate.

  require Cryptoki.HSM

  alias Cryptoki.{Attribute, Error, HSM, Key, Keys, Options, PublicHalf, Selector, Target}
  alias Cryptoki.PublicKey.Decode
  alias Cryptoki.SignatureAlgorithm.PostQuantum

  # Of what may be anything: CKA_VALUE of other classes is a secret.
  @attributes [
    :class,
    :key_type,
    :modulus,
    :public_exponent,
    :ec_params,
    :curve,
    :ec_point,
    :prime,
    :subprime,
    :base,
    :public_key_info
  ]
  @public_value [:public_key, :certificate]

  @type otp_key :: :public_key.public_key() | PostQuantum.key()
  @type search :: [{:half | :sole_half | :object, Keys.wanted()}]

  @doc "Where to look, in this order; raises `ArgumentError` for a selector that is none."
  @spec search!(Selector.selector()) :: search
  def search!(selector) do
    case class(selector) do
      # What signs under this name comes first.
      nil ->
        objects = for class <- @public_value, do: {:object, Keys.wanted!(selector, class)}
        [{:sole_half, Keys.wanted!(selector, :private_key)} | objects]

      :private_key ->
        [half: Keys.wanted!(selector, :private_key)]

      _other ->
        [object: Keys.wanted!(selector, :public_key)]
    end
  end

  defp class(%Key{class: class}), do: class

  defp class(selector) do
    case Selector.normalize!(selector, :any) do
      {:search, _template, nil} -> nil
      {:search, _template, [class]} -> class
    end
  end

  @doc "The public key, from the first place that has it."
  @spec fetch(Target.t(), search) :: {:ok, otp_key} | {:error, Error.t()}
  def fetch(target, search), do: fetch(target, search, nil)

  defp fetch(_target, [], error), do: error

  defp fetch(target, [{how, wanted} | rest], error) do
    case read(how, target, wanted) do
      {:ok, key} ->
        {:ok, key}

      # Keys without a public part that can be read: somebody else may have it.
      {:error, %Error{reason: reason}} = next when reason in [:key_not_found, :unsupported] ->
        fetch(target, rest, worse(error, next))

      {:error, %Error{reason: :key_ambiguous}} = next when how == :sole_half ->
        fetch(target, rest, next)

      {:error, _error} = error ->
        error
    end
  end

  defp worse({:error, %Error{reason: :key_not_found}}, next), do: next
  defp worse(nil, next), do: next
  defp worse(told, _next), do: told

  defp read(:object, target, wanted) do
    with {:ok, attributes} <- Keys.attributes(target, wanted, @attributes),
         {:ok, attributes} <- with_value(target, wanted, attributes),
         :error <- Decode.attributes(Attribute.readable(attributes)) do
      unsupported("no public key can be made of #{kind(attributes)}")
    end
  end

  defp read(_half, target, wanted) do
    case PublicHalf.fetch(target, wanted) do
      {:ok, {:proven, key}} -> {:ok, key}
      {:ok, {:unproven, _keys, why}} -> unproven(why)
      {:error, _error} = error -> error
    end
  end

  defp with_value(target, wanted, %{class: class} = attributes) when class in @public_value do
    with {:ok, value} <- Keys.attributes(target, wanted, [:value]),
         do: {:ok, Map.merge(attributes, value)}
  end

  defp with_value(_target, _wanted, attributes), do: {:ok, attributes}

  defp kind(attributes) do
    case Attribute.readable(attributes) do
      %{key_type: type} -> "a #{type}"
      %{class: class} -> "a #{class}"
      _nothing -> "it"
    end
  end

  @doc """
  The public half of a key for something that it signs and that is verified with it then: a key that
  nothing can be proven of is taken by id and label, when there is one.
  """
  @spec to_sign(Cryptoki.hsm(), Selector.selector(), keyword) ::
          {:ok, otp_key} | {:error, Error.t()}
  def to_sign(hsm, selector, opts),
    do: HSM.at(hsm, __MODULE__.to_sign_here(hsm, selector, opts))

  @doc "The same on the node of the token."
  def to_sign_here(hsm, selector, opts) do
    options = Options.call!(opts, [:timeout, :metadata])
    search = search!(selector)
    half = Enum.find_value(search, fn {how, wanted} -> how != :object && wanted end)

    with {:ok, target} <- HSM.target(hsm, options) do
      case half && PublicHalf.fetch(target, half) do
        nil -> fetch(target, search)
        {:ok, {:proven, key}} -> {:ok, key}
        {:ok, {:unproven, [key], _why}} -> {:ok, key}
        {:ok, {:unproven, _none_or_several, why}} -> unproven(why)
        {:error, _error} = error -> error
      end
    end
  end

  defp unproven(why),
    do: unsupported("which public key is that of the private key cannot be proven: #{why}")

  defp unsupported(detail), do: {:error, Error.new(:unsupported, detail)}
end
