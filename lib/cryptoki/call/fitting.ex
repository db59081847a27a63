defmodule Cryptoki.Fitting do
  @moduledoc false
  # Operations of a key with a mechanism, which have to go together. Not every library looks: SoftHSM ends
  # the process at DSA with an RSA key, at ECDSA with one of Edwards.

  alias Cryptoki.{Error, Keys, Names, Target, Traits}
  alias Cryptoki.Mechanism.KeyType

  # What public keys have no attribute for. That a private one verifies or encrypts some tokens allow.
  @of_private ~w[sign sign_recover decrypt message_sign message_decrypt unwrap_key
                 unwrap_key_authenticated decapsulate_key]a

  # Objects that are no keys. Some things are derived from data as well.
  @no_keys ~w[data certificate hw_feature domain_parameters mechanism profile validation trust]a
  @of_data [:derive_key]

  @wrapping ~w[wrap_key wrap_key_authenticated]a
  @unwrapping ~w[unwrap_key unwrap_key_authenticated]a

  @doc "`Keys.run/5` of an operation whose first key is the one that the mechanism works with."
  @spec run(Target.t(), atom, [Keys.wanted()], Keys.mechanism(), function) :: Wait.answer()
  def run(target, operation, [key | _more] = wanted, {{code, _parameter}, _keys} = mechanism, op) do
    Keys.run(target, operation, wanted, mechanism, fn [handle | _more] = handles, mechanism ->
      with :ok <- check(operation, code, Traits.kind(target, key, handle)),
           do: op.(handles, mechanism)
    end)
  end

  def run(target, operation, [], mechanism, op),
    do: Keys.run(target, operation, [], mechanism, op)

  @doc "Whether they go together, by class and type of the key, nil for what is not known."
  @spec check(atom, non_neg_integer, {class :: term, type :: term}) :: :ok | {:error, Error.t()}
  def check(operation, code, {class, type}) do
    cond do
      class in @no_keys and operation not in @of_data ->
        no(:key_handle_invalid, "the object is #{Names.in_words(class)}")

      not KeyType.fits?(code, type) ->
        shown = inspect(Names.name(:mechanism, code))
        no(inconsistent(operation), "#{shown} with a key of type #{inspect(type)}")

      # A token that does not say the type says the class.
      not KeyType.of_class?(code, class) ->
        shown = inspect(Names.name(:mechanism, code))
        no(inconsistent(operation), "#{shown} with an object that is #{Names.in_words(class)}")

      class == :public_key and operation in @of_private ->
        no(:key_function_not_permitted, "the key is a public one")

      true ->
        :ok
    end
  end

  defp inconsistent(operation) when operation in @wrapping, do: :wrapping_key_type_inconsistent

  defp inconsistent(operation) when operation in @unwrapping,
    do: :unwrapping_key_type_inconsistent

  defp inconsistent(_operation), do: :key_type_inconsistent

  defp no(reason, detail), do: {:error, Error.new(reason, detail, executed: false)}
end
