defmodule Cryptoki.Test.Vectors.Keys do
  @moduledoc false
  # Plans for what makes keys: wrapping, agreement, derivation, ML-KEM. The key that comes of it is read
  # and compared.

  alias Cryptoki.Attribute.Curve
  alias Cryptoki.Test.Token
  alias Cryptoki.Test.Vectors.{Ciphers, Probe}

  @readable [class: :secret_key, key_type: :generic_secret, sensitive: false, extractable: true]

  ## AES key wrap

  @spec kw(map, map) :: map | {:not_run, String.t()}
  def kw(place, _group), do: key_wrap(place, [:aes_key_wrap])

  # The tokens name the same thing differently (PKCS #11 v3.2, section 6.16.3).
  @spec kwp(map, map) :: map | {:not_run, String.t()}
  def kwp(place, _group), do: key_wrap(place, [:aes_key_wrap_kwp, :aes_key_wrap_pad])

  defp key_wrap(place, names) do
    name = Enum.find(names, hd(names), &Token.has?(place.token, &1))

    with :ok <- Probe.mechanisms(place, [{name, [:wrap, :unwrap]}]) do
      wrap = fn hsm, kek, t ->
        with {:ok, key} <- Cryptoki.create(hsm, [value: t["msg"], sign: true] ++ @readable) do
          with_key(hsm, key, fn -> Cryptoki.wrap_key(hsm, kek, name, key) end)
        end
      end

      unwrap = fn hsm, kek, t ->
        hsm |> Cryptoki.unwrap_key(kek, name, t["ct"], [sign: true] ++ @readable) |> value(hsm)
      end

      %{
        key: Ciphers.secret(:aes, wrap: true, unwrap: true, encrypt: true, decrypt: true),
        ways:
          [
            {:wrap, &can_be_wrapped/1, wrap, fn t -> {:ok, t["ct"]} end},
            {:unwrap, :all, unwrap, fn t -> {:ok, t["msg"]} end}
          ] ++ if(Token.has?(place.token, name, :encrypt), do: as_cipher(name), else: [])
      }
    end
  end

  # Or cannot, which is what these are about.
  defp can_be_wrapped(test),
    do: test["result"] == "valid" or "WrongDataSize" in test["flags"]

  defp as_cipher(name) do
    [
      {:encrypt, :valid, fn hsm, key, t -> Cryptoki.encrypt(hsm, key, name, t["msg"]) end,
       fn t -> {:ok, t["ct"]} end},
      {:decrypt, :all, fn hsm, key, t -> Cryptoki.decrypt(hsm, key, name, t["ct"]) end,
       fn t -> {:ok, t["msg"]} end}
    ]
  end

  ## Agreement

  @spec ecdh(map, map) :: map | {:not_run, String.t()}
  def ecdh(place, %{"curve" => curve} = group) do
    curve = String.to_atom(curve)

    with :ok <- Probe.mechanisms(place, ecdh1_derive: :derive),
         :ok <- Probe.curve(place, curve) do
      asn? = group["encoding"] == "asn"
      {:ok, params} = Curve.encode(curve)
      size = div(Probe.point_size(curve) - 1, 2)

      %{
        key: fn t -> private(:ec, curve, padded(t["private"], size)) end,
        only: if(asn?, do: &only_named(&1, params), else: fn _test -> :ok end),
        ways: [agree(fn t -> if asn?, do: point(t, params), else: t["public"] end)]
      }
    end
  end

  @spec xdh(map, map) :: map | {:not_run, String.t()}
  def xdh(place, %{"curve" => name}) do
    curve = %{"curve25519" => :x25519, "curve448" => :x448}[name]
    # SoftHSM 2.6 has no type for these keys, and takes them as those of EdDSA.
    montgomery? = Token.has?(place.token, :ec_montgomery_key_pair_gen)
    type = if montgomery?, do: :ec_montgomery, else: :ec_edwards

    with :ok <- Probe.mechanisms(place, ecdh1_derive: :derive) do
      %{
        key: fn t -> private(type, curve, t["private"]) end,
        ways: [agree(fn t -> t["public"] end)]
      }
    end
  end

  defp private(type, curve, value),
    do: [class: :private_key, key_type: type, curve: curve, value: value, derive: true]

  defp padded(number, size) do
    number = :binary.decode_unsigned(number)
    <<number::unit(8)-size(size)>>
  end

  defp agree(public) do
    ask = fn hsm, key, t ->
      mechanism = {:ecdh1_derive, public: public.(t)}
      hsm |> Cryptoki.derive_key(key, mechanism, @readable) |> value(hsm)
    end

    {:agree, :all, ask, fn t -> {:ok, t["shared"]} end}
  end

  defp only_named(test, params) do
    if point(test, params),
      do: :ok,
      else: {:not_run, "is no key of this curve in DER, and comes to no token"}
  end

  defp point(%{"public" => der}, params) do
    {:SubjectPublicKeyInfo, {:AlgorithmIdentifier, {1, 2, 840, 10_045, 2, 1}, ^params}, point} =
      info = :public_key.der_decode(:SubjectPublicKeyInfo, der)

    if is_binary(point) and :public_key.der_encode(:SubjectPublicKeyInfo, info) == der, do: point
  rescue
    _another_curve_or_no_der -> nil
  end

  ## Derivation

  @spec hkdf(map, map) :: map | {:not_run, String.t()}
  def hkdf(place, %{"file" => "hkdf_" <> hash}) do
    hash = if hash == "sha1", do: :sha_1, else: String.to_atom(hash)

    with :ok <- Probe.mechanisms(place, hkdf_derive: :derive) do
      ask = fn hsm, key, t ->
        salt = if t["salt"] == "", do: [], else: [salt: t["salt"]]
        mechanism = {:hkdf_derive, [hash: hash, info: t["info"]] ++ salt}
        template = [value_len: t["size"]] ++ @readable
        hsm |> Cryptoki.derive_key(key, mechanism, template) |> value(hsm)
      end

      %{
        key: fn t -> [value: t["ikm"], derive: true] ++ @readable end,
        ways: [{:derive, :all, ask, fn t -> {:ok, t["okm"]} end}]
      }
    end
  end

  @spec pbkdf2(map, map) :: map | {:not_run, String.t()}
  def pbkdf2(place, %{"file" => "pbkdf2_hmac" <> hash}) do
    with :ok <- Probe.mechanisms(place, pkcs5_pbkd2: :generate) do
      ask = fn hsm, nil, t ->
        mechanism =
          {:pkcs5_pbkd2,
           password: t["password"],
           salt: t["salt"],
           iterations: t["iterationCount"],
           prf: :"pkcs5_pbkd2_hmac_#{hash}"}

        template = [value_len: t["dkLen"]] ++ @readable
        hsm |> Cryptoki.generate_key(mechanism, template) |> value(hsm)
      end

      %{key: nil, ways: [{:generate, :all, ask, fn t -> {:ok, t["dk"]} end}]}
    end
  end

  ## ML-KEM

  @sets %{
    "ML-KEM-512" => {:ml_kem_512, 768},
    "ML-KEM-768" => {:ml_kem_768, 1088},
    "ML-KEM-1024" => {:ml_kem_1024, 1568}
  }

  @spec ml_kem(map, map) :: map | {:not_run, String.t()}
  def ml_kem(place, %{"type" => type} = group) do
    {set, size} = @sets[group["parameterSet"]]

    with :ok <- Probe.mechanisms(place, ml_kem: [:encapsulate, :decapsulate]) do
      %{key: ml_kem_key(type, set), ways: [ml_kem_way(type, size)]}
    end
  end

  defp ml_kem_key("MLKEMEncapsTest", set) do
    fn t ->
      [class: :public_key, value: t["ek"], encapsulate: true] ++ kem(set)
    end
  end

  defp ml_kem_key("MLKEMKeyGen", set) do
    fn t ->
      [
        class: :private_key,
        seed: t["seed"],
        decapsulate: true,
        sensitive: false,
        extractable: true
      ] ++ kem(set)
    end
  end

  defp ml_kem_key(_decapsulation, set) do
    fn t ->
      key = if t["dk"], do: [value: t["dk"]], else: [seed: t["seed"]]
      [class: :private_key, decapsulate: true] ++ key ++ kem(set)
    end
  end

  defp kem(set), do: [key_type: :ml_kem, parameter_set: set]

  # The number that the ciphertext is made with is the token's: only sizes can be compared.
  defp ml_kem_way("MLKEMEncapsTest", size) do
    ask = fn hsm, key, _test ->
      with {:ok, {blob, secret}} <- Cryptoki.encapsulate_key(hsm, key, :ml_kem, @readable),
           {:ok, value} <- value({:ok, secret}, hsm),
           do: {:ok, {byte_size(blob), byte_size(value)}}
    end

    {:encapsulate, :all, ask, fn _test -> {:ok, {size, 32}} end}
  end

  defp ml_kem_way("MLKEMKeyGen", _size) do
    ask = fn hsm, key, _test ->
      with {:ok, %{value: value}} <- Cryptoki.attributes(hsm, key, [:value]), do: {:ok, value}
    end

    {:key_of_seed, :all, ask, fn t -> {:ok, t["dk"]} end}
  end

  defp ml_kem_way(_decapsulation, _size) do
    ask = fn hsm, key, t ->
      hsm |> Cryptoki.decapsulate_key(key, :ml_kem, t["c"], @readable) |> value(hsm)
    end

    {:decapsulate, :all, ask, fn t -> {:ok, t["K"]} end}
  end

  ## What came of it

  defp value({:ok, key}, hsm) do
    with_key(hsm, key, fn ->
      with {:ok, %{value: value}} <- Cryptoki.attributes(hsm, key, [:value]), do: {:ok, value}
    end)
  end

  defp value({:error, _error} = error, _hsm), do: error

  defp with_key(hsm, key, fun) do
    fun.()
  after
    _ = Cryptoki.destroy(hsm, key)
  end
end
