defmodule Cryptoki.Prehash do
  @moduledoc false
  # Signatures of a token that does not hash what it signs, or not so much of it: the digest is made here,
  # which is no secret of the token's. It says so by CKR_MECHANISM_INVALID or CKR_DATA_LEN_RANGE, before
  # anything was signed; its list of mechanisms may say anything. What it has refused for a key is not
  # asked of it again.
  #
  # | mechanism | in its place |
  # |---|---|
  # | a hash and PKCS #1 | the DigestInfo (RFC 8017, section 9.2) and CKM_RSA_PKCS |
  # | a hash and PSS | the digest and CKM_RSA_PKCS_PSS |
  # | PSS | to sign, the encoded message (RFC 8017, section 9.1.1) and CKM_RSA_X_509, as libp11 does |
  # | a hash and ECDSA or DSA | the digest and CKM_ECDSA, CKM_DSA |

  alias Cryptoki.{Chunks, Error, Instances, Keys, Names, Target, Traits}
  alias Cryptoki.Prehash.RSA

  hashes = [:sha224, :sha256, :sha384, :sha512, :sha3_224, :sha3_256, :sha3_384, :sha3_512]
  hashes = [{:sha1, :sha} | Enum.map(hashes, &{&1, &1})]

  # mechanism => {what comes in its place, hash}
  @combined for {name, hash} <- hashes,
                {mechanism, plain} <- [
                  {:"#{name}_rsa_pkcs", :rsa_pkcs},
                  {:"#{name}_rsa_pkcs_pss", :rsa_pkcs_pss},
                  {:"ecdsa_#{name}", :ecdsa},
                  {:"dsa_#{name}", :dsa}
                ],
                match?({:ok, _code}, Names.code(:mechanism, mechanism)),
                into: %{},
                do: {mechanism, {plain, hash}}

  @mechanism_invalid 0x70
  @data_len_range 0x21
  @functions ~w[C_SignInit C_Sign C_SignUpdate C_VerifyInit C_Verify C_VerifyUpdate
                C_VerifySignatureInit C_VerifySignature C_VerifySignatureUpdate]a

  @typedoc "Runs a call with another mechanism and other data than its own."
  @type attempt :: (Keys.mechanism(), binary -> :ok | {:ok, term} | {:error, Error.t()})

  @doc "What comes in the place of a mechanism that hashes and signs, where the token has no such."
  @spec plain(atom) :: atom | nil
  def plain(combined), do: with({plain, _hash} <- @combined[combined], do: plain)

  @doc "Whether the token is known not to hash for this key: it has ECDSA alone, or has refused before."
  @spec known?(Target.t(), map) :: boolean
  def known?(target, call) do
    ways(call) != [] and
      (call.named in missing(target) or
         Keys.learned(target, call.wanted, {:refused, call.named}) == {:ok, true})
  end

  defp missing(target) do
    case Instances.facts(target) do
      {:ok, %{missing_ecdsa: missing}} -> missing
      {:error, _no_token} -> []
    end
  end

  @doc "Whether an error means that something can come in the place of this call."
  @spec instead?(map, Error.t()) :: boolean
  def instead?(call, %Error{code: code, function: function}),
    do: code in codes(call.named) and function in @functions and ways(call) != []

  # A digest of another length than that of the hash is a mistake, not a limit.
  defp codes(combined) when is_map_key(@combined, combined),
    do: [@mechanism_invalid, @data_len_range]

  defp codes(_plain), do: [@mechanism_invalid]

  @doc "Runs a call on data that is there as a whole, in one way or another."
  @spec run(Target.t(), map, attempt) :: :ok | {:ok, term} | {:error, Error.t()}
  def run(target, call, attempt) do
    if known?(target, call) do
      digest = digest(call, call.data)

      with :none <- try_ways(ways(call), target, call, digest, nil, attempt),
           do: attempt.(call.mechanism, call.data)
    else
      with {:error, error} <- attempt.(call.mechanism, call.data) do
        if instead?(call, error),
          do: on_digest(target, call, digest(call, call.data), error, attempt),
          else: {:error, error}
      end
    end
  end

  @doc "Runs a call on the digest of its data; `error` is why, and the answer when nothing else works."
  @spec on_digest(Target.t(), map, binary, Error.t() | nil, attempt) ::
          :ok | {:ok, term} | {:error, Error.t()}
  def on_digest(target, call, digest, error, attempt) do
    with :none <- try_ways(ways(call), target, call, digest, error, attempt),
         do: {:error, Error.new(:unsupported, "the token does not sign so with these arguments")}
  end

  defp try_ways([], _target, _call, _digest, nil, _attempt), do: :none
  defp try_ways([], _target, _call, _digest, error, _attempt), do: {:error, error}

  defp try_ways([way | rest], target, call, digest, error, attempt) do
    with {:ok, mechanism, data} <- way(way, target, call, digest),
         {:error, refused} <- attempt.(mechanism, data) do
      if instead?(call, refused),
        do: try_ways(rest, target, call, digest, error || refused, attempt),
        else: {:error, refused}
    else
      :error -> try_ways(rest, target, call, digest, error, attempt)
      done -> learned(target, call, error, done)
    end
  end

  defp learned(_target, _call, nil, done), do: done

  defp learned(target, call, _error, done) do
    Keys.learn(target, call.wanted, {:refused, call.named}, true)
    done
  end

  @doc "The digest of data by the hash of the call; data that is one already is that."
  @spec digest(map, iodata | {:stream, Enumerable.t()}) :: binary
  def digest(%{named: named}, data) when is_map_key(@combined, named) do
    {_plain, hash} = @combined[named]
    Chunks.digest(hash, data)
  end

  def digest(_call, digest) when is_binary(digest), do: digest

  @doc """
  Hands the pieces of a stream to `update`; when it refuses the first one, nothing was taken, and the
  digest of all is made here: `{:digest, digest, error}`.
  """
  @spec feed(map, Enumerable.t(), (iodata -> :ok | {:error, Error.t()})) ::
          {:ok, iodata} | {:digest, binary, Error.t()} | {:error, Error.t()}
  def feed(%{named: named} = call, enumerable, update) when is_map_key(@combined, named) do
    {_plain, hash} = @combined[named]

    enumerable
    |> Chunks.regroup()
    |> Enum.reduce_while(:first, fn
      piece, {:here, state, error} ->
        {:cont, {:here, :crypto.hash_update(state, piece), error}}

      piece, which ->
        case update.(piece) do
          :ok ->
            {:cont, :token}

          {:error, error} ->
            if which == :first and instead?(call, error),
              do:
                {:cont, {:here, hash |> :crypto.hash_init() |> :crypto.hash_update(piece), error}},
              else: {:halt, {:error, error}}
        end
    end)
    |> case do
      {:here, state, error} -> {:digest, :crypto.hash_final(state), error}
      {:error, _error} = error -> error
      _all_taken -> {:ok, ""}
    end
  end

  def feed(_call, enumerable, update), do: Chunks.feed(enumerable, update)

  ## What comes in the place of what

  defp ways(%{data: {:stream, _chunks}, named: :rsa_pkcs_pss}), do: []

  defp ways(%{kind: kind, named: named}) when kind in [:sign, :verify] do
    case {@combined[named], named, kind} do
      {{:rsa_pkcs_pss, _hash}, _named, :sign} -> [:plain, :raw]
      {{_plain, _hash}, _named, _kind} -> [:plain]
      {nil, :rsa_pkcs_pss, :sign} -> [:raw]
      _other -> []
    end
  end

  defp ways(_call), do: []

  defp way(:plain, _target, %{named: named, mechanism: {{_code, parameter}, _keys}}, digest) do
    {plain, hash} = @combined[named]
    code = Names.code!(:mechanism, plain)

    case plain do
      :rsa_pkcs -> {:ok, {{code, nil}, []}, RSA.digest_info(hash, digest)}
      :rsa_pkcs_pss -> {:ok, {{code, parameter}, []}, digest}
      _dsa -> {:ok, {{code, nil}, []}, digest}
    end
  end

  defp way(:raw, target, %{mechanism: {{_code, parameter}, _keys}} = call, digest) do
    with {:rsa, modulus, _exponent} <- Traits.form(target, call.wanted),
         {:ok, encoded} <- RSA.encode_pss(digest, parameter, modulus),
         do: {:ok, {{Names.code!(:mechanism, :rsa_x_509), nil}, []}, encoded},
         else: (_not_here -> :error)
  end
end
