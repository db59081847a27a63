defmodule Cryptoki.PublicHalf do
  @moduledoc false
  # The public half of a private key, with a proof: that two objects have one id says nothing (PKCS #11
  # v3.2, section 4.6.3). The proof is what the private key shows of it (the modulus of RSA, an EC_POINT),
  # else what only it can make (`Cryptoki.PublicHalf.Proof`). Candidates are the public keys and the
  # certificates with its id, with its label, and then all of them. Once found it is known.

  alias Cryptoki.{Attribute, Call, Error, Keys, Target, Unread}
  alias Cryptoki.PublicKey.Decode
  alias Cryptoki.PublicHalf.Proof

  @typedoc """
  Proven, or those that have its id or label when nothing can be proven, with the reason.
  """
  @type found :: {:proven, term} | {:unproven, [term], why :: String.t()}

  # Of the objects that share nothing with the key no more are looked at.
  @most 1000

  @private [:class, :key_type, :id, :label, :sign, :derive, :always_authenticate]

  @doc "The public half of the private key that is wanted; `given` is a candidate from elsewhere."
  @spec fetch(Target.t(), Keys.wanted(), term) :: {:ok, found} | {:error, Error.t()}
  def fetch(target, wanted, given \\ nil),
    do: Keys.once(target, wanted, :public_half, &find(target, &1, given))

  @doc "The same as it is now, whatever is known: a token may have given the number of a key to another."
  @spec anew(Target.t(), Keys.wanted()) :: {:ok, found} | {:error, Error.t()}
  def anew(target, wanted) do
    with {:ok, handle} <- Keys.resolve(target, wanted, :fresh),
         {:ok, found} <- find(target, handle, nil) do
      :ok = Keys.learn(target, wanted, :public_half, found)
      {:ok, found}
    else
      {:now, found} -> {:ok, found}
      {:error, _error} = error -> error
    end
  end

  @doc "Whether a public key is that of the private key; `:unknown` when nothing can be proven."
  @spec of(Target.t(), Keys.wanted(), term) :: :yes | :no | :unknown | {:error, Error.t()}
  def of(target, wanted, key) do
    case fetch(target, wanted, key) do
      {:ok, {:proven, half}} -> if half == key, do: :yes, else: :no
      {:ok, {:unproven, [], _why}} -> :unknown
      {:ok, {:unproven, keys, _why}} -> if key in keys, do: :unknown, else: :no
      # Something could be proven, and was not.
      {:error, %Error{reason: :unsupported, code: nil}} -> :no
      {:error, _error} = error -> error
    end
  end

  defp find(target, handle, given) do
    with {:ok, private} <- private(target, handle) do
      case Decode.attributes(private) do
        {:ok, key} ->
          {:ok, {:proven, key}}

        :error ->
          search(%{target: target, handle: handle, private: private, proof: nil}, given)
      end
    end
  end

  # Never CKA_VALUE, which is the private key.
  defp private(target, handle) do
    with {:ok, read} <- Keys.read(target, handle, @private),
         {:ok, shown} <- Keys.read(target, handle, shown(read.key_type)) do
      {:ok, Attribute.readable(Map.merge(read, shown))}
    end
  end

  defp shown(:rsa), do: [:modulus, :public_exponent, :public_key_info]
  defp shown(:dsa), do: [:prime, :subprime, :base, :public_key_info]

  defp shown(type) when type in [:ml_dsa, :slh_dsa],
    do: [:key_type, :parameter_set, :public_key_info]

  defp shown(_curve), do: [:ec_params, :curve, :ec_point, :public_key_info]

  ## Candidates

  defp search(search, given) do
    given = if given, do: [{given, nil}], else: []
    start = %{search: search, named: [], unknown: nil, seen: MapSet.new()}

    with {:go, state} <- try_all(given, start, false),
         {:go, state} <- look(places(search.private), state) do
      ended(state)
    else
      {:yes, key} -> {:ok, {:proven, key}}
      {:error, _error} = error -> error
    end
  end

  defp ended(%{unknown: why} = state) when why != nil,
    do: {:now, {:unproven, Enum.uniq(Enum.reverse(state.named)), why}}

  defp ended(state) do
    what = "a #{state.search.private[:key_type] || :private_key}"

    detail =
      "no public key can be made of #{what}: it shows nothing of its public half, and the token " <>
        "has no public key or certificate that is proven to be that"

    {:error, Error.new(:unsupported, detail)}
  end

  # {whether it has something in common with the key, template}
  defp places(private) do
    names = private |> Map.take([:id, :label]) |> Enum.sort()
    names = Enum.uniq([names | for(name <- names, do: [name])]) -- [[]]
    named = for names <- names, class <- [:public_key, :certificate], do: {true, class, names}
    type = Map.to_list(Map.take(private, [:key_type]))
    named ++ [{false, :public_key, type}, {false, :certificate, []}]
  end

  defp look([], state), do: {:go, state}
  # Without a proof there is nothing to tell strangers by.
  defp look([{false, _class, _names} | _rest], %{unknown: why} = state) when why != nil,
    do: {:go, state}

  defp look([{named?, class, names} | rest], %{search: %{target: target}} = state) do
    template = Attribute.encode!([class: class] ++ names)

    with {:ok, handles} <- Call.run(target, {:find, template, @most}),
         fresh = Enum.reject(handles, &(&1 in state.seen)),
         state = %{state | seen: MapSet.union(state.seen, MapSet.new(fresh))},
         {:go, state} <- each(fresh, class, state, named?),
         do: look(rest, state)
  end

  defp each([], _class, state, _named?), do: {:go, state}

  defp each([handle | rest], class, state, named?) do
    %{search: %{target: target, private: private}} = state

    with {:ok, candidates} <- candidate(target, handle, class, private),
         {:go, state} <- try_all(candidates, state, named?),
         do: each(rest, class, state, named?)
  end

  defp candidate(target, handle, class, private) do
    case Keys.read(target, handle, [:class | public(class, private[:key_type])]) do
      {:ok, %{class: ^class} = read} ->
        case read |> Attribute.readable() |> Decode.attributes() do
          {:ok, key} -> {:ok, for(key <- [key], fits?(private, key), do: {key, handle})}
          :error -> {:ok, []}
        end

      {:ok, _something_else} ->
        {:ok, []}

      # It went meanwhile, or nothing is known of a stranger that way; what is the matter with all is told by the next call.
      {:error, error} ->
        if Keys.gone?(target, handle, error) or Unread.one?(error),
          do: {:ok, []},
          else: {:error, error}
    end
  end

  defp public(:certificate, _type), do: [:value]
  defp public(:public_key, :rsa), do: [:key_type, :modulus, :public_exponent]
  defp public(:public_key, :dsa), do: [:key_type, :prime, :subprime, :base, :value]

  defp public(:public_key, type) when type in [:ml_dsa, :slh_dsa],
    do: [:key_type, :public_key_info]

  defp public(:public_key, _curve), do: [:key_type, :ec_params, :curve, :ec_point]

  defp fits?(%{key_type: :rsa}, key), do: match?({:RSAPublicKey, _, _}, key)
  defp fits?(%{key_type: :dsa}, key), do: match?({_y, {:"Dss-Parms", _, _, _}}, key)

  defp fits?(%{curve: curve, ec_params: params}, {{:ECPoint, _}, parameters}),
    do: {:ok, parameters} == Decode.parameters(if(is_atom(curve), do: curve), params)

  defp fits?(%{curve: _curve}, _another), do: false
  defp fits?(_unknown, _key), do: true

  ## Whether one is it

  defp try_all([], state, _named?), do: {:go, state}

  defp try_all([{key, handle} | rest], state, named?) do
    case confirmed(state, key, handle) do
      {:yes, _state} ->
        {:yes, key}

      {:no, state} ->
        try_all(rest, state, named?)

      {{:unknown, why}, state} ->
        named = if named?, do: [key | state.named], else: state.named
        try_all(rest, %{state | unknown: why, named: named}, named?)

      {:error, _error} = error ->
        error
    end
  end

  # Its modulus is shown, and only the exponent is not.
  defp confirmed(%{search: %{private: %{modulus: modulus}}} = state, key, _handle) do
    same? =
      match?({:RSAPublicKey, _, _}, key) and elem(key, 1) == :binary.decode_unsigned(modulus)

    {if(same?, do: :yes, else: :no), state}
  end

  defp confirmed(%{search: %{proof: nil} = search} = state, key, handle) do
    case Proof.make(search.target, search.handle, search.private) do
      {:error, _error} = error -> error
      proof -> confirmed(%{state | search: %{search | proof: proof}}, key, handle)
    end
  end

  defp confirmed(%{search: search} = state, key, handle),
    do: {Proof.confirms(search.proof, search.target, key, handle), state}
end
