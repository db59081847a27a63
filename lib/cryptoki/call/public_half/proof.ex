defmodule Cryptoki.PublicHalf.Proof do
  @moduledoc false
  # What only a private key can have made, once, for as many candidates as there are: a signature over
  # bytes by chance, or of a key that may not sign what it agrees on with another key (ECDH). No PIN is
  # spent on it, and no key that counts its signatures signs.

  alias Cryptoki.{Attribute, Call, Error, Keys, Mechanism, SignatureForm, Target}
  alias Cryptoki.PublicHalf.Scheme

  # So that it can be taken for nothing else.
  @text "Which public key is that of this private key of a PKCS #11 token? "

  @type t ::
          {:signed, Mechanism.spec(), data :: binary, signature :: binary}
          | {:agreed, curve :: atom, secret :: binary, binary}
          | {:none, why :: String.t()}

  @doc "The proof of the private key behind a handle, with these attributes of it."
  @spec make(Target.t(), Keys.handle(), map) :: t | {:error, Error.t()}
  def make(_target, _handle, %{always_authenticate: true}),
    do: {:none, "it wants its PIN at each use, which is not spent on a proof"}

  def make(target, handle, private) do
    with {:none, why} <- sign(target, handle, private, Scheme.all(private)),
         do: agree(target, handle, private, why)
  end

  ## A signature

  @signs "it may not sign"

  defp sign(_target, _handle, %{sign: false}, _schemes), do: {:none, @signs}
  defp sign(_target, _handle, _private, []), do: {:none, "keys of its kind sign nothing here"}

  defp sign(target, handle, private, [scheme | rest]) do
    data = Scheme.prepared(scheme, @text <> :crypto.strong_rand_bytes(32))
    named = Mechanism.name_or_code(scheme)

    with {:ok, signature} <-
           Call.run(target, {:sign, Mechanism.encode!(scheme), handle, data, nil}),
         {:ok, signature} <-
           SignatureForm.repair(signature, SignatureForm.of(private), named, :C_Sign) do
      {:signed, scheme, data, signature}
    else
      {:error, error} ->
        cond do
          not refused?(error) -> {:error, error}
          rest == [] -> {:none, "its signature cannot be had: #{Exception.message(error)}"}
          true -> sign(target, handle, private, rest)
        end
    end
  end

  # What the token cannot or will not do with the key, in contrast to what it cannot do just now.
  @refusals ~w[mechanism_invalid mechanism_param_invalid key_function_not_permitted data_len_range
       key_type_inconsistent key_size_range key_handle_invalid function_not_supported data_invalid
       template_inconsistent template_incomplete attribute_value_invalid attribute_type_invalid
       action_prohibited curve_not_supported domain_params_invalid function_rejected]a

  @doc "Whether an error is such a refusal."
  @spec refused?(Error.t()) :: boolean
  def refused?(%Error{reason: reason}), do: reason in @refusals

  ## What two keys agree on

  defp agree(target, handle, %{curve: curve, derive: derive} = private, _why)
       when derive != false and is_atom(curve) and private.key_type in [:ec, :ec_montgomery] do
    case ephemeral(curve) do
      {public, secret} -> derive(target, handle, curve, public, secret)
      nil -> {:none, "what it agrees on cannot be computed here"}
    end
  end

  defp agree(_target, _handle, _private, why), do: {:none, why}

  defp ephemeral(curve) do
    :crypto.generate_key(:ecdh, curve)
  rescue
    _no_such_curve -> nil
  end

  defp derive(target, handle, curve, public, secret) do
    mechanism = Mechanism.encode!({:ecdh1_derive, kdf: :null, public: public})
    kind = [class: :secret_key, key_type: :generic_secret, token: false, private: false]
    readable = [sensitive: false, extractable: true, value_len: length(curve, public)]

    with {:ok, derived} <-
           Call.run(
             target,
             {:derive_key, mechanism, handle, Attribute.encode!(kind ++ readable)}
           ),
         read = Keys.read(target, derived, [:value]),
         _ = Call.run(target, {:destroy, derived}),
         {:ok, %{value: <<_, _::binary>> = value}} <- read do
      {:agreed, curve, secret, value}
    else
      {:ok, _not_readable} -> {:none, "what it agrees on cannot be read"}
      {:error, error} -> if refused?(error), do: no_agreement(error), else: {:error, error}
    end
  end

  defp no_agreement(error),
    do: {:none, "it neither signs nor agrees here: #{Exception.message(error)}"}

  defp length(curve, public) when curve in [:x25519, :x448], do: byte_size(public)
  defp length(_curve, <<4, both::binary>>), do: div(byte_size(both), 2)

  ## Whose it is

  @doc "Whether the proof is one for this public key, which is behind the handle if there is one."
  @spec confirms(t, Target.t(), term, Keys.handle() | nil) :: :yes | :no | {:unknown, String.t()}
  def confirms({:none, why}, _target, _key, _handle), do: {:unknown, why}

  def confirms({:agreed, curve, secret, value}, _target, key, _handle) do
    with {{:ECPoint, point}, _parameters} <- key,
         true <- :crypto.compute_key(:ecdh, point, secret, curve) == value,
         do: :yes,
         else: (_another -> :no)
  rescue
    _no_point -> :no
  end

  def confirms({:signed, scheme, data, signature} = proof, target, key, handle) do
    if Scheme.signed?(scheme, data, signature, key), do: :yes, else: :no
  rescue
    # OTP does not know such keys, or has no such curve: then the token may.
    _not_here -> by_token(proof, target, handle)
  end

  defp by_token(_proof, _target, nil),
    do: {:unknown, "its signature cannot be verified here, and the token has no such public key"}

  defp by_token(proof, target, handle) do
    with {:error, error} <- verified(proof, target, handle),
         do: {:unknown, "its signature cannot be verified: #{Exception.message(error)}"}
  end

  @doc "Whether the token verifies the signature with the public key behind the handle."
  @spec verified(t, Target.t(), Keys.handle()) :: :yes | :no | {:error, Error.t()}
  def verified({:signed, scheme, data, signature}, target, handle) do
    case Call.run(target, {:verify, Mechanism.encode!(scheme), handle, data, signature, nil}) do
      :ok ->
        :yes

      {:error, %Error{reason: no}} when no in [:signature_invalid, :signature_len_range] ->
        :no

      {:error, _error} = error ->
        error
    end
  end
end
