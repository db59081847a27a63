defmodule Cryptoki.KeyIdentity do
  @moduledoc false
  # Which key a selector names on a token, in a form that is the same for the same key on tokens of any kind: the
  # public key, proven to be that of the private one; the check value of a secret key. Names and numbers say nothing.

  alias Cryptoki.{
    CheckValue,
    Error,
    HSM,
    Key,
    Keys,
    Objects,
    Options,
    PublicHalf,
    PublicKey,
    Target
  }

  @typedoc "`names` is what stands for the key in a call to this token."
  @type outcome ::
          {:ok, identity :: tuple, names :: term} | {:missing | :error, Error.t()}

  @doc "The identity of what is named, for a use as `Cryptoki.Selector` has them, or by what a verb answers."
  @spec of(Cryptoki.hsm(), term, term, keyword) :: outcome
  def of(hsm, {:answer, verb}, selector, opts) do
    with {:ok, answer} <- apply(Objects, verb, [hsm, selector, opts]),
         do: {:ok, {verb, hash(answer)}, selector},
         else: (error -> outcome(error))
  end

  def of(hsm, use, selector, opts) do
    wanted = if use == :wanted, do: selector, else: Keys.wanted!(selector, use)

    with {:ok, target} <- HSM.target(hsm, Options.call!(opts, [:timeout])),
         {:ok, handle} <- Keys.resolve(target, wanted, :fresh),
         {:ok, key} <- Keys.describe(target, handle),
         {:ok, identity} <- identity(hsm, target, key, opts) do
      {:ok, identity, if(use == :wanted, do: {:key, key}, else: key)}
    else
      error -> outcome(error)
    end
  end

  defp outcome({:error, %Error{reason: :key_not_found} = error}), do: {:missing, error}
  defp outcome({:error, error}), do: {:error, error}

  @doc "The objects that a selector finds, each with its names and its identity, or why it has none."
  @spec all(Cryptoki.hsm(), term, keyword) ::
          {:ok, [{Key.t(), {:ok, tuple} | {:error, Error.t()}}]} | {:error, Error.t()}
  def all(hsm, selector, opts) do
    with {:ok, target} <- HSM.target(hsm, Options.call!(opts, [:timeout])),
         {:ok, keys} <- Objects.find(hsm, selector, opts),
         do: {:ok, for(key <- keys, do: {key, identity(hsm, target, key, opts)})}
  end

  @spec identity(Cryptoki.hsm(), Target.t(), Key.t(), keyword) ::
          {:ok, tuple} | {:error, Error.t()}
  defp identity(_hsm, target, %Key{class: :private_key} = key, _opts) do
    case PublicHalf.anew(target, {:key, key}) do
      {:ok, {:proven, public}} -> {:ok, {:public_key, hash(public)}}
      {:ok, {:unproven, _keys, why}} -> unproven(why)
      {:error, _error} = error -> error
    end
  end

  defp identity(_hsm, target, %Key{class: :public_key} = key, _opts) do
    with {:ok, public} <- PublicKey.fetch(target, object: {:key, key}),
         do: {:ok, {:public_key, hash(public)}}
  end

  defp identity(hsm, _target, %Key{class: :secret_key} = key, opts) do
    with {:ok, value} <- CheckValue.check_value(hsm, key, opts),
         do: {:ok, {:check_value, key.key_type, value}}
  end

  defp identity(hsm, _target, %Key{class: :certificate} = key, opts) do
    with {:ok, der} <- Objects.certificate(hsm, key, opts),
         do: {:ok, {:certificate, hash(der)}}
  end

  defp identity(_hsm, _target, %Key{} = key, _opts),
    do: {:ok, {:names, key.class, key.label, key.id}}

  defp unproven(why),
    do: {:error, Error.new(:unsupported, "which key it is cannot be proven: #{why}")}

  defp hash(term), do: :crypto.hash(:sha256, :erlang.term_to_binary(term))
end
