defmodule Cryptoki.X509.OnToken do
  @moduledoc false
  # The certificates that lie on a token: all of them, that of a key, and those above it.

  alias Cryptoki.{Certificates, Each, Error, Key, PublicKey, SignatureAlgorithm}
  alias Cryptoki.Certificates.ByToken
  alias Cryptoki.X509.{Certificate, Chain, Fields}

  @typedoc "Where certificates come from; `:token` is all that there is above a key."
  @type source :: Certificates.source() | :token

  @doc "The objects that are certificates of X.509, each with its DER; what is none is left out."
  @spec list(Cryptoki.hsm(), keyword | map, keyword) ::
          {:ok, [{Key.t(), binary}]} | {:error, Error.t()}
  def list(hsm, selector, call) do
    wanted = selector |> Map.new() |> Map.put(:class, :certificate) |> Map.to_list()

    with {:ok, objects} <- Cryptoki.find(hsm, wanted, call),
         {:ok, found} <- Each.of(objects, &certificate(hsm, &1, call)),
         do: {:ok, Enum.concat(found)}
  end

  # One or none: a token may keep certificates elsewhere, and others may take one away meanwhile.
  defp certificate(hsm, object, call) do
    with {:ok, der} <- Cryptoki.certificate(hsm, object, call),
         {:fields, {:ok, _fields}} <- {:fields, Fields.read(der)} do
      {:ok, [{object, der}]}
    else
      {:fields, _none} -> {:ok, []}
      {:error, %Error{reason: reason}} when reason in [:unsupported, :key_not_found] -> {:ok, []}
      {:error, _error} = error -> error
    end
  end

  @doc "The certificate of a key and those above it, without a root."
  @spec chain(Cryptoki.hsm(), Cryptoki.key(), keyword) ::
          {:ok, [binary, ...]} | {:error, Error.t()}
  def chain(hsm, key, call) do
    with {:ok, public} <- PublicKey.to_sign(hsm, key, Keyword.take(call, [:timeout, :metadata])),
         {:ok, list} <- list(hsm, [], call),
         # Of several with one name those that hold, and the latest.
         pool = list |> Enum.map(&elem(&1, 1)) |> Enum.uniq() |> Enum.sort_by(&age/1),
         {:ok, own} <- own(pool, SignatureAlgorithm.bare(public)) do
      elsewhere = ByToken.verifier(hsm, call)
      above = Chain.above(own, pool, elsewhere)
      {:ok, [own | Enum.reject(above, &Chain.root?(&1, elsewhere))]}
    end
  end

  defp own(pool, public) do
    case Enum.filter(pool, &of?(&1, public)) do
      [] ->
        {:error, Error.new(:key_not_found, "there is no certificate of this key on the token")}

      [own, other | _] ->
        if age(own) == age(other),
          do:
            {:error,
             Error.new(
               :key_ambiguous,
               "several certificates of this key begin at the same time; name one of them"
             )},
          else: {:ok, own}

      [own] ->
        {:ok, own}
    end
  end

  defp of?(der, public) do
    case Certificates.public_key(der, "certificate") do
      {:ok, key} -> SignatureAlgorithm.bare(key) == public
      {:error, _error} -> false
    end
  end

  defp age(der) do
    now = DateTime.utc_now()

    with {:ok, fields} <- Fields.read(der),
         {:ok, {from, to}} <- Certificate.validity(fields.validity) do
      holds? = DateTime.compare(from, now) != :gt and DateTime.compare(now, to) != :gt
      {not holds?, -DateTime.to_unix(from)}
    else
      {:error, _error} -> {true, 0}
    end
  end

  @doc "As `Certificates.source!/2` and `fetch/3`, with what there is above a key for `:token`."
  @spec source!(term, String.t()) :: :ok
  def source!(:token, _argument), do: :ok
  def source!(source, argument), do: Certificates.source!(source, argument)

  @spec fetch(Cryptoki.hsm(), Cryptoki.key(), source, String.t()) ::
          {:ok, [binary, ...]} | {:error, Error.t()}
  def fetch(hsm, key, :token, _argument), do: chain(hsm, key, [])
  def fetch(hsm, _key, source, argument), do: Certificates.fetch(hsm, source, argument)
end
