defmodule Cryptoki.JWS.Algorithm do
  @moduledoc false
  # The algorithms of JOSE (RFC 7518, RFC 8037, RFC 8812, RFC 9864, RFC 9964): the key each is for and the
  # mechanism it is on a token. PS ones have a salt as long as the hash, which is the mechanisms'
  # default.

  require Cryptoki.HSM

  alias Cryptoki.{Attribute, Error, HSM, Keys, Mechanism, Options, Target}
  alias Cryptoki.Mechanism.Hash
  alias Cryptoki.PublicKey.Info

  @edwards %{ed25519: :eddsa, ed448: {:eddsa, prehash: false}}

  @algorithms %{
    "RS256" => {:rsa, :sha256_rsa_pkcs},
    "RS384" => {:rsa, :sha384_rsa_pkcs},
    "RS512" => {:rsa, :sha512_rsa_pkcs},
    "PS256" => {:rsa, :sha256_rsa_pkcs_pss},
    "PS384" => {:rsa, :sha384_rsa_pkcs_pss},
    "PS512" => {:rsa, :sha512_rsa_pkcs_pss},
    "ES256" => {:secp256r1, :ecdsa_sha256},
    "ES384" => {:secp384r1, :ecdsa_sha384},
    "ES512" => {:secp521r1, :ecdsa_sha512},
    "ES256K" => {:secp256k1, :ecdsa_sha256},
    "EdDSA" => {:edwards, @edwards},
    "Ed25519" => {:ed25519, @edwards.ed25519},
    "Ed448" => {:ed448, @edwards.ed448},
    "ML-DSA-44" => {:ml_dsa_44, :ml_dsa},
    "ML-DSA-65" => {:ml_dsa_65, :ml_dsa},
    "ML-DSA-87" => {:ml_dsa_87, :ml_dsa},
    "HS256" => {:secret, :sha256_hmac},
    "HS384" => {:secret, :sha384_hmac},
    "HS512" => {:secret, :sha512_hmac}
  }

  # What a key signs with when nobody says, by its curve or its parameter set.
  @natural for(
             {name, {curve, _}} <- @algorithms,
             curve not in [:rsa, :edwards, :secret, :ed25519, :ed448],
             into: %{ed25519: "EdDSA", ed448: "EdDSA"},
             do: {curve, name}
           )

  @attributes [:class, :key_type, :curve, :parameter_set, :modulus, :value_len]
  # RFC 7518, section 3.3.
  @least_modulus 2048

  @doc "The names, for messages and docs."
  @spec names() :: [String.t()]
  def names, do: @algorithms |> Map.keys() |> Enum.sort()

  @doc "The name of an algorithm in a message; a stranger may have made it long."
  @spec quoted(String.t()) :: String.t()
  def quoted(name), do: inspect(name, printable_limit: 60)

  @doc "The mechanism of one that is verified with a public key; anybody may have named it."
  @spec public(String.t()) :: {:ok, Mechanism.spec()} | {:error, Error.t()}
  def public(name) do
    case @algorithms[name] do
      nil ->
        no(:signature_invalid, "there is no algorithm #{quoted(name)} here")

      {:secret, _hmac} ->
        no(:signature_invalid, "#{name} is for secret keys, these are public ones")

      {_key, mechanisms} when is_map(mechanisms) ->
        {:ok, :eddsa}

      {_key, mechanism} ->
        {:ok, mechanism}
    end
  end

  @doc "Whether an algorithm goes with a kind of key: `:rsa`, a curve, a parameter set."
  @spec goes_with?(String.t(), atom) :: boolean
  def goes_with?(name, kind) do
    case @algorithms[name] do
      {:secret, _hmac} -> false
      {:edwards, mechanisms} -> is_map_key(mechanisms, kind)
      {wanted, _mechanism} -> wanted == kind
      nil -> false
    end
  end

  @call [:timeout, :pin, :metadata]

  @doc "What `choose/3` says of the key that a selector names for a verb, with the options of calls."
  @spec for_key(Cryptoki.hsm(), Cryptoki.key(), :sign | :verify, String.t() | nil, keyword) ::
          {:ok, {String.t(), Mechanism.spec()}} | {:error, Error.t()}
  def for_key(hsm, key, verb, name, call),
    do: HSM.at(hsm, __MODULE__.for_key_here(hsm, key, verb, name, call))

  @doc "The same on the node of the token."
  def for_key_here(hsm, key, verb, name, call) do
    wanted = Keys.wanted!(key, verb)

    with {:ok, target} <- HSM.target(hsm, Options.call!(call, @call)),
         do: choose(target, wanted, name)
  end

  @doc "What a header or a signature is to blame for, whoever found out: it may be anybody's."
  @spec blame(answer | {:error, Error.t()}) :: answer | {:error, Error.t()} when answer: term
  def blame({:error, %Error{reason: reason, code: code} = error})
      when reason == :signature_len_range or
             (code == nil and reason in [:key_type_inconsistent, :unsupported]),
      do: {:error, %{error | reason: :signature_invalid}}

  def blame(answer), do: answer

  @doc """
  The algorithm and mechanism for the key that `selector` names, `:sign` or `:verify`: the algorithm
  asked for, when it goes with the key, or for `nil` the one that its curve or parameter set stands for.
  """
  @spec choose(Target.t(), Keys.wanted(), String.t() | nil) ::
          {:ok, {String.t(), Mechanism.spec()}} | {:error, Error.t()}
  def choose(target, wanted, name) do
    with {:ok, read} <- Keys.attributes(target, wanted, @attributes),
         key = Attribute.readable(read),
         {:ok, name} <- named(name, key),
         {wanted, mechanism} = @algorithms[name],
         :ok <- fits(wanted, key, name),
         :ok <- long_enough(wanted, key, name),
         do: {:ok, {name, mechanism(mechanism, key)}}
  end

  defp named(name, _key) when is_map_key(@algorithms, name), do: {:ok, name}

  defp named(nil, %{curve: curve}) when is_map_key(@natural, curve),
    do: {:ok, @natural[curve]}

  defp named(nil, %{parameter_set: set}) when is_map_key(@natural, set),
    do: {:ok, @natural[set]}

  defp named(nil, key),
    do:
      no(
        :invalid_argument,
        "alg: has to say which algorithm: #{shown(key)} goes with several or none"
      )

  defp named(name, _key), do: no(:unsupported, "there is no algorithm #{quoted(name)} here")

  defp fits(:secret, %{class: :secret_key}, _name), do: :ok
  defp fits(:rsa, %{key_type: :rsa}, _name), do: :ok
  defp fits(:edwards, %{curve: curve}, _name) when is_map_key(@edwards, curve), do: :ok
  defp fits(curve, %{curve: curve}, _name), do: :ok

  defp fits(set, %{key_type: :ml_dsa, parameter_set: set}, _name), do: :ok

  defp fits(wanted, key, name),
    do: no(:key_type_inconsistent, "#{name} is for #{words(wanted)}, this is #{shown(key)}")

  defp long_enough(:rsa, %{modulus: <<_, _::binary>> = modulus}, name) do
    bits = modulus |> :binary.decode_unsigned() |> Info.bit_length()
    enough(bits, @least_modulus, name)
  end

  # SoftHSM says 0 of a key that was unwrapped: no key has no bytes.
  defp long_enough(:secret, %{value_len: bytes}, name) when is_integer(bytes) and bytes > 0 do
    {:secret, hmac} = @algorithms[name]
    enough(8 * bytes, 8 * Hash.size(Mechanism.hash(hmac)), name)
  end

  defp long_enough(_wanted, _key, _name), do: :ok

  defp enough(bits, least, _name) when bits >= least, do: :ok

  defp enough(bits, least, name),
    do: no(:key_size_range, "#{name} wants a key of #{least} bits at least, this has #{bits}")

  defp mechanism(by_curve, %{curve: curve}) when is_map(by_curve), do: by_curve[curve]
  defp mechanism(mechanism, _key), do: mechanism

  defp words(:secret), do: "secret keys"
  defp words(:edwards), do: "keys of Ed25519 and Ed448"
  defp words(:rsa), do: "RSA keys"
  defp words(curve), do: "keys of #{curve}"

  defp shown(%{curve: curve}) when is_atom(curve), do: "one of #{curve}"
  defp shown(%{parameter_set: set}) when is_atom(set), do: "one of #{set}"
  defp shown(%{key_type: type}) when is_atom(type), do: "one of type #{type}"
  defp shown(_not_readable), do: "one of a type that the token does not say, or that has no name"

  defp no(reason, detail), do: {:error, Error.new(reason, detail)}
end
