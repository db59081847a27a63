defmodule Cryptoki.SSL do
  require Cryptoki.HSM

  alias Cryptoki.{CallOptions, Certificates, Error, HSM, Keys, Options, SignatureAlgorithm}
  alias Cryptoki.{Prehash, Traits}
  alias Cryptoki.SignatureAlgorithm.PostQuantum
  alias Cryptoki.SSL.{Distribution, SignFun}
  alias Cryptoki.X509.OnToken

  @moduledoc """
  TLS with a private key that stays on the token: servers and clients of OTP's `:ssl`, and what is built
  on it (Bandit, Cowboy, Mint, `:httpc` ...), TLS 1.2 and 1.3.

      {:ok, certs_keys} = Cryptoki.SSL.certs_keys(MyApp.HSM, [label: "www"], File.read!("chain.pem"))
      {:ok, socket} = :ssl.listen(443, certs_keys: [certs_keys])

  Keys: RSA (PKCS #1 and PSS), ECDSA on P-256, P-384 and P-521, Ed25519 and Ed448; the last two with TLS
  1.3 only, which is what `:ssl` does with them, and Ed448 only with `signature_algs:` that do not have
  Ed25519, see below; ML-DSA and SLH-DSA with TLS 1.3, where `:ssl` has them (OTP 29). Needs OTP 27 or newer,
  whose `:ssl` brought `sign_fun`.
  """

  import Cryptoki.Bang, only: [bang: 1]

  require Logger

  @release 27
  @call [:timeout, :pin, :metadata]

  @no_pss "TLS signs with RSA keys by PSS, and the token has neither CKM_RSA_PKCS_PSS nor CKM_RSA_X_509 for " <>
            "this key; use an ECDSA key"

  @ed25519 {1, 3, 101, 112}
  @ed448 {1, 3, 101, 113}

  # Of each hash the mechanisms that take data, and what those that take a digest want to know.
  @sha2 for hash <- ~w[sha224 sha256 sha384 sha512]a, do: {hash, hash, hash}
  @hashes for {hash, name, own} <- [{:sha, :sha1, :sha_1} | @sha2],
              into: %{},
              do:
                {hash,
                 %{
                   rsa: :"#{name}_rsa_pkcs",
                   pss: :"#{name}_rsa_pkcs_pss",
                   ecdsa: :"ecdsa_#{name}",
                   hash: own,
                   mgf: :"mgf1_#{name}"
                 }}

  @type hsm :: Cryptoki.hsm()
  @type key :: Cryptoki.key()
  @type opts :: keyword | map
  @typedoc """
  Where certificates come from: DER, PEM with one or more, or what names one on the token, as for
  `Cryptoki.certificate/3`; or a list of these, the certificate of the key first. `:token`, the default, is what
  `Cryptoki.X509.chain/3` finds of the key on the token.
  """
  @type chain :: binary | key | [binary | key] | :token
  @typedoc "An entry of the option `certs_keys` of `:ssl`."
  @type certs_keys :: %{cert: [binary], key: %{algorithm: atom, sign_fun: function}}

  @doc """
  An entry for the option `certs_keys` of `:ssl`: the certificates, and a key that signs on the token.

  The first certificate is that of the key, the others are those above it, without the root. That it is
  is proven as in `Cryptoki.public_key/3`. The key is found anew by each
  signature, so that the entry outlives reconnects. A signature that fails ends the handshake; why is a
  line of the level `error` in the log, and in the telemetry of the call.

  `key` of the entry also works with `:public_key.sign/4`, for data and for `{:digest, digest}`.
  `timeout:`, `pin:` and `metadata:` are those of each signature, see `Cryptoki.sign/5`.

  An RSA key signs once here: `:ssl` wants PSS of it, also for TLS 1.2, which is made of raw RSA where the
  token has that only.

  Two kinds of certificates want options of `:ssl` besides `certs_keys`, which hold for all of its entries:

    * for PSS with one hash (RFC 4055): `signature_algs: [:rsa_pss_pss_sha256]`, or the one that it says.
      `:ssl` does not look at that, and would sign with the hash that the other side likes best; such a
      signature is refused here
    * of Ed448: `signature_algs: [:eddsa_ed448, ...]` without `:eddsa_ed25519`. `:ssl` takes the first of
      both that the other side lists, which is Ed25519 as a rule, whichever the key is of

  Errors: `:unsupported` before OTP 27, for other keys, for parameters of PSS that TLS has no signature
  for, and for an RSA key on a token without PSS and raw RSA, `:key_not_found`, `:invalid_argument` for
  what is no certificate, or is not that of the key, and those of `Cryptoki.certificate/3`. PKCS #11 v3.2,
  section 5.13 (C_Sign).

      iex> {:ok, certs_keys} = Cryptoki.SSL.certs_keys(MyApp.HSM, [label: "invoice"], label: "invoice")
      iex> certs_keys.key.algorithm
      :rsa
      iex> public_key = Cryptoki.public_key!(MyApp.HSM, label: "invoice")
      iex> signature = :public_key.sign("text", :sha256, certs_keys.key, [])
      iex> :public_key.verify("text", :sha256, signature, public_key)
      true
  """
  @spec certs_keys(hsm, key, chain, opts) :: {:ok, certs_keys} | {:error, Error.t()}
  def certs_keys(hsm, key, certificate_chain \\ :token, opts \\ []) do
    # For the mistakes in them, which are told at once.
    {[], opts} = CallOptions.split!(opts, [])
    :ok = OnToken.source!(certificate_chain, "certificate_chain")
    :ok = Certificates.selector!(key, :sign, "key")

    with :ok <- release(),
         {:ok, chain} <- OnToken.fetch(hsm, key, certificate_chain, "certificate_chain"),
         {:ok, public} <- Certificates.public_key(hd(chain), "certificate_chain"),
         {:ok, algorithm, kind} <- kind(public),
         :ok <- Certificates.same_key(hsm, key, public),
         :ok <- signs(kind, hsm, key, opts) do
      sign = SignFun.new(__MODULE__, [hsm, key, kind, opts])
      {:ok, %{cert: chain, key: %{algorithm: algorithm, sign_fun: sign}}}
    end
  end

  bang(certs_keys(hsm, key, certificate_chain :: chain, opts) :: certs_keys)

  @doc """
  Options of `:ssl` for the distribution of Erlang with a key of the token: what stands in the file of the flag
  `-ssl_dist_optfile`, in which nodes that are started with `-proto_dist inet_tls` have theirs.

      %% dist.conf
      'Elixir.Cryptoki.SSL':'distribution!'(
          'Elixir.MyApp.HSM',
          \#{label => <<"node">>},
          \#{certfile => <<"/etc/acme/node.pem">>, cacertfile => <<"/etc/acme/ca.pem">>}).

  A node reads it before any application is there, so that nothing is asked of the token here: `name` is that
  of an instance which the application starts, and the certificates come from a file. Connections are made as
  soon as the instance is ready; before that a handshake ends with a line in the log, as in `certs_keys/4`. The same
  when the key is not that of the first certificate: it is found by each signature.

  Both sides show their certificate and want one that leads to `cacertfile:`; a client also looks whether the
  certificate is for the host of the node. What there is:

  #{Options.Table.docs(Distribution.options())}

  Errors: `:unsupported` before OTP 27 and for other keys, as `certs_keys/4`, and `:invalid_argument` for a file
  that cannot be read or has no certificates. PKCS #11 v3.2, section 5.13 (C_Sign).

      iex> {:ok, der} = Cryptoki.X509.self_signed(MyApp.HSM, [label: "contract"], subject: "/CN=node")
      iex> pem = Path.join(System.tmp_dir!(), "cryptoki-node.pem")
      iex> File.write!(pem, Cryptoki.X509.to_pem(der))
      iex> {:ok, options} = Cryptoki.SSL.distribution(MyApp.HSM, [label: "contract"], certfile: pem, cacertfile: pem)
      iex> File.rm!(pem)
      iex> {Keyword.keys(options), options[:client][:verify]}
      {[:server, :client], :verify_peer}
  """
  @spec distribution(name :: atom, key, opts) :: {:ok, keyword} | {:error, Error.t()}
  def distribution(name, key, opts) do
    {own, opts} = CallOptions.split!(opts, Distribution.options())
    :ok = Distribution.name!(name)
    :ok = Certificates.selector!(key, :sign, "key")

    with :ok <- release(),
         {:ok, chain} <- Distribution.certificates(own[:certfile], "certfile"),
         {:ok, _trusted} <- Distribution.certificates(own[:cacertfile], "cacertfile"),
         {:ok, public} <- Certificates.public_key(hd(chain), "certfile"),
         {:ok, algorithm, kind} <- kind(public) do
      sign = SignFun.new(__MODULE__, [name, key, kind, opts])
      entry = %{cert: chain, key: %{algorithm: algorithm, sign_fun: sign}}
      {:ok, Distribution.sides(entry, own)}
    end
  end

  bang(distribution(name :: atom, key, opts) :: keyword)

  defp release do
    case String.to_integer(System.otp_release()) do
      release when release >= @release ->
        :ok

      release ->
        text =
          "keys that sign by a function came with OTP #{@release}, and this is OTP #{release}"

        {:error, Error.new(:unsupported, text)}
    end
  end

  # What a public key is to :ssl, and what a signature wants to know of it.
  defp kind({:RSAPublicKey, modulus, _exponent}), do: {:ok, :rsa, {:rsa, modulus}}

  defp kind({{:RSAPublicKey, modulus, _}, {:pss, hash}} = public) do
    with {:ok, %{hash: only}} <- SignatureAlgorithm.choose(public, []),
         do: {:ok, :rsa_pss_pss, {:rsa_pss, modulus, if(hash != :any, do: only)}}
  end

  defp kind({{:ECPoint, _}, {:namedCurve, @ed25519}}), do: {:ok, :eddsa, :eddsa}
  defp kind({{:ECPoint, _}, {:namedCurve, @ed448}}), do: {:ok, :eddsa, {:eddsa, prehash: false}}
  defp kind({{:ECPoint, _point}, _parameters}), do: {:ok, :ecdsa, :ecdsa}

  defp kind(other) do
    with {:ok, set, _bytes} <- PostQuantum.parts(other),
         true <- PostQuantum.called(set) in schemes() do
      mechanism = PostQuantum.mechanism(set)
      {:ok, if(mechanism == :ml_dsa, do: :mldsa, else: :slhdsa), mechanism}
    else
      _not_known -> {:error, Error.new(:unsupported, ":ssl has no TLS with such a key")}
    end
  end

  # It is no application of ours.
  defp schemes do
    if Code.ensure_loaded?(:ssl),
      do: apply(:ssl, :signature_algs, [:all, :"tlsv1.3"]),
      else: []
  end

  # With an RSA key `:ssl` signs by PSS, also in TLS 1.2: a token that cannot would end every handshake.
  @doc false
  # On the node of the token.
  def asks_for_pin(hsm, wanted, options) do
    with {:ok, target} <- HSM.target(hsm, options),
         do: Traits.always_authenticate?(target, wanted)
  end

  # A key that wants its PIN at each use is not asked.
  defp signs({:rsa, _modulus}, hsm, key, call), do: signs_pss(:sha256, hsm, key, call)
  defp signs({:rsa_pss, _, hash}, hsm, key, call), do: signs_pss(hash || :sha256, hsm, key, call)
  defp signs(_kind, _hsm, _key, _call), do: :ok

  defp signs_pss(hash, hsm, key, call) do
    options = Options.call!(call, @call)

    with false <- HSM.at(hsm, __MODULE__.asks_for_pin(hsm, Keys.wanted!(key, :sign), options)),
         digest = :crypto.hash(hash, :crypto.strong_rand_bytes(32)),
         {:ok, _signature} <-
           Cryptoki.sign(hsm, key, {:rsa_pkcs_pss, hash: hash}, digest, call) do
      :ok
    else
      true -> :ok
      {:error, %Error{reason: :mechanism_invalid}} -> {:error, Error.new(:unsupported, @no_pss)}
      {:error, _error} = error -> error
    end
  end

  ## Signatures

  @doc false
  # In the process of a connection: what is raised here ends its handshake. `:ssl` tells why at its level
  # `info` only, which nobody has, so it is told here.
  @spec sign!(term, atom, list, hsm, key, kind :: term, opts) :: binary
  def sign!(data, hash, options, hsm, key, kind, call) do
    {mechanism, data} = mechanism(kind, data, hash, options)
    call = if kind == :ecdsa, do: [format: :der] ++ call, else: call
    Cryptoki.sign!(hsm, key, mechanism, data, call)
  rescue
    error ->
      Logger.error("cryptoki: a signature for :ssl failed: " <> Exception.message(error))
      reraise error, __STACKTRACE__
  end

  # What the certificate allows is what others believe (RFC 8446, section 4.2.3).
  defp mechanism({:rsa_pss, modulus, only}, data, hash, options) do
    cond do
      only not in [nil, hash] ->
        not_allowed!(only, hash)

      pss?(options, hash, only) ->
        pss(data, hash, modulus, options)

      true ->
        raise Error.new(:unsupported, "the certificate is for PSS, with the salt that it says")
    end
  end

  defp mechanism({:rsa, modulus}, data, hash, options) do
    if options[:rsa_padding] == :rsa_pkcs1_pss_padding,
      do: pss(data, hash, modulus, options),
      else: pkcs1(data, hash)
  end

  defp mechanism(:ecdsa, {:digest, digest}, _hash, _options), do: {:ecdsa, digest}
  defp mechanism(:ecdsa, data, hash, _options), do: {hash!(hash).ecdsa, data}
  # No digest: these hash by themselves, and refuse what is none of their data.
  defp mechanism(mechanism, data, _hash, _options) when is_binary(data), do: {mechanism, data}

  defp mechanism(_mechanism, {:digest, _digest}, _hash, _options),
    do: raise(Error.new(:unsupported, "keys that hash by themselves sign data, not digests"))

  defp pss?(options, hash, only) do
    salt = options[:rsa_pss_saltlen] || -1
    least = if only, do: :crypto.hash_info(only).size, else: 0

    options[:rsa_padding] == :rsa_pkcs1_pss_padding and
      (options[:rsa_mgf1_md] || hash) == hash and (salt < 0 or salt >= least)
  end

  @spec not_allowed!(atom, atom) :: no_return
  defp not_allowed!(only, hash) do
    raise Error.new(
            :unsupported,
            "the certificate allows PSS with #{only} only, and #{inspect(hash)} was asked for; give :ssl " <>
              "signature_algs: [:rsa_pss_pss_#{only}], besides those of other keys"
          )
  end

  # What TLS 1.0 and 1.1 sign has no name of a hash before it.
  defp pkcs1({:digest, digest}, :md5sha), do: {:rsa_pkcs, digest}

  defp pkcs1({:digest, digest}, hash) when is_map_key(@hashes, hash),
    do: {:rsa_pkcs, Prehash.RSA.digest_info(hash, digest)}

  defp pkcs1(data, hash), do: {hash!(hash).rsa, data}

  defp pss(data, hash, modulus, options) do
    names = hash!(hash)
    mgf = hash!(options[:rsa_mgf1_md] || hash).mgf
    arguments = [mgf: mgf] ++ salt(options[:rsa_pss_saltlen] || -1, hash, modulus)

    case data do
      {:digest, digest} -> {{:rsa_pkcs_pss, [hash: names.hash] ++ arguments}, digest}
      data -> {{names.pss, arguments}, data}
    end
  end

  # As crypto has it: -1 is the length of the hash, which is that of mechanisms too, and -2 the most
  # that there is room for.
  defp salt(-1, _hash, _modulus), do: []

  defp salt(-2, hash, modulus) do
    bits = modulus |> Integer.digits(2) |> length()
    [salt_len: div(bits + 6, 8) - :crypto.hash_info(hash).size - 2]
  end

  defp salt(bytes, _hash, _modulus), do: [salt_len: bytes]

  defp hash!(hash) when is_map_key(@hashes, hash), do: @hashes[hash]

  defp hash!(hash),
    do:
      raise(Error.new(:unsupported, "there is no signature with the hash #{inspect(hash)} here"))
end
