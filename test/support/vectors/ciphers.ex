defmodule Cryptoki.Test.Vectors.Ciphers do
  @moduledoc false
  # Plans for ciphers and MACs, whose tests have a key each, and for RSA encryption.

  alias Cryptoki.Test.Token
  alias Cryptoki.Test.Vectors.{Probe, Signatures, Ways}

  @spec gcm(map, map) :: map | {:not_run, String.t()}
  def gcm(place, _group) do
    mechanism = fn t ->
      {:aes_gcm, iv: t["iv"], aad: t["aad"], tag_bits: bit_size(t["tag"])}
    end

    aead(place, :aes_gcm, :aes, mechanism, mechanism, fn _test -> [] end)
  end

  @spec ccm(map, map) :: map | {:not_run, String.t()}
  def ccm(place, _group) do
    mechanism = fn t ->
      {:aes_ccm, nonce: t["iv"], aad: t["aad"], mac_len: byte_size(t["tag"])}
    end

    # A stream does not know its length: it has to be told.
    length = fn t -> [data_len: byte_size(t["ct"])] end

    in_pieces = fn t ->
      {name, arguments} = mechanism.(t)
      {name, arguments ++ length.(t)}
    end

    aead(place, :aes_ccm, :aes, mechanism, in_pieces, length)
  end

  @spec chacha20_poly1305(map, map) :: map | {:not_run, String.t()}
  def chacha20_poly1305(place, _group) do
    mechanism = fn t -> {:chacha20_poly1305, nonce: t["iv"], aad: t["aad"]} end
    more = fn _test -> [] end

    aead(place, :chacha20_poly1305, :chacha20, mechanism, mechanism, more)
  end

  defp aead(place, name, key_type, mechanism, in_pieces, more) do
    with :ok <- Probe.mechanisms(place, [{name, [:encrypt, :decrypt]}]) do
      by_message? = Token.has?(place.token, name, :message_decrypt)

      %{
        key: secret(key_type, encrypt: true, decrypt: true),
        ways:
          Ways.cipher(mechanism, in_pieces) ++
            if(by_message?, do: Ways.messages(name, more), else: [])
      }
    end
  end

  @spec cbc(map, map) :: map | {:not_run, String.t()}
  def cbc(place, _group) do
    mechanism = fn t -> {:aes_cbc_pad, iv: t["iv"]} end

    with :ok <- Probe.mechanisms(place, aes_cbc_pad: [:encrypt, :decrypt]) do
      %{
        key: secret(:aes, encrypt: true, decrypt: true),
        ways: Ways.cipher(mechanism, mechanism)
      }
    end
  end

  @spec cmac(map, map) :: map | {:not_run, String.t()}
  def cmac(place, group), do: mac(place, group, :aes_cmac, :aes, 128)

  @spec hmac(map, map) :: map | {:not_run, String.t()}
  def hmac(place, %{"file" => "hmac_" <> hash} = group) do
    name = String.to_atom(if hash == "sha1", do: "sha_1_hmac", else: "#{hash}_hmac")
    size = hash |> String.split("_") |> List.last() |> String.replace("sha", "")
    bits = if size == "1", do: 160, else: String.to_integer(size)
    mac(place, group, name, :generic_secret, bits)
  end

  # A MAC that is cut short has a mechanism of its own.
  defp mac(place, %{"tagSize" => tag_bits}, name, key_type, bits) do
    {needs, mechanism} =
      if tag_bits == bits do
        {name, name}
      else
        general = :"#{name}_general"
        {general, {general, mac_len: div(tag_bits, 8)}}
      end

    with :ok <- Probe.mechanisms(place, [{needs, [:sign, :verify]}]) do
      ways =
        Ways.verify(place.token, fn _test -> mechanism end) ++
          Ways.sign(fn _test -> mechanism end)

      %{key: secret(key_type, sign: true, verify: true), ways: Enum.map(ways, &with_tag/1)}
    end
  end

  defp with_tag({name, which, ask, expected}) do
    named = &Map.put(&1, "sig", &1["tag"])

    {name, which, fn hsm, key, t -> ask.(hsm, key, named.(t)) end,
     fn t -> expected.(named.(t)) end}
  end

  @doc "The template of a test's secret key."
  @spec secret(atom, keyword) :: (map -> keyword)
  def secret(key_type, may) do
    fn t ->
      [
        class: :secret_key,
        key_type: key_type,
        value: t["key"],
        sensitive: false,
        extractable: true
      ] ++ may
    end
  end

  ## RSA encryption

  @spec oaep(map, map) :: map | {:not_run, String.t()}
  def oaep(place, %{"sha" => sha, "mgfSha" => mgf_sha, "privateKey" => private}) do
    {hash, mgf} = {Signatures.hash(sha), Signatures.hash(mgf_sha)}

    if Cryptoki.Names.code(:mgf, :"mgf1_#{mgf}") == :error do
      {:not_run, "no mask generation with #{mgf_sha}"}
    else
      hash = if hash == :sha1, do: :sha_1, else: hash

      mechanism = fn t ->
        {:rsa_pkcs_oaep, hash: hash, mgf: :"mgf1_#{mgf}", label: t["label"]}
      end

      rsa(place, private, mechanism)
    end
  end

  @spec rsa_pkcs1(map, map) :: map | {:not_run, String.t()}
  def rsa_pkcs1(place, %{"privateKey" => private}),
    do: rsa(place, private, fn _test -> :rsa_pkcs end)

  # RSA takes its data in one piece (PKCS #11 v3.2, section 6.1).
  defp rsa(_place, private, mechanism) do
    decrypt = fn hsm, key, t -> Cryptoki.decrypt(hsm, key, mechanism.(t), t["ct"]) end
    %{key: rsa_private(private), ways: [{:decrypt, :all, decrypt, fn t -> {:ok, t["msg"]} end}]}
  end

  @rsa [
    modulus: "modulus",
    public_exponent: "publicExponent",
    private_exponent: "privateExponent",
    prime_1: "prime1",
    prime_2: "prime2",
    exponent_1: "exponent1",
    exponent_2: "exponent2",
    coefficient: "coefficient"
  ]

  defp rsa_private(private) do
    numbers = for {attribute, name} <- @rsa, do: {attribute, Signatures.number(private[name])}
    [class: :private_key, key_type: :rsa, decrypt: true] ++ numbers
  end
end
