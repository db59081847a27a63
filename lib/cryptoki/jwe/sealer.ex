defmodule Cryptoki.JWE.Sealer do
  @moduledoc false
  # A compact JWE for a public key. Pure, but for what is random.

  alias Cryptoki.Attribute.Curve
  alias Cryptoki.{Base64URL, DER, Error, JSON, KeyWrap}
  alias Cryptoki.ContentKey.{Agreement, Derivation}
  alias Cryptoki.JWE.{Algorithm, Encryption}
  alias Cryptoki.JWK.Public
  alias Cryptoki.JWS

  @curves ~w[secp256r1 secp384r1 secp521r1 x25519 x448]a
  # RFC 7518, section 4.3.
  @least_modulus Integer.pow(2, 2047)

  @doc "The JWE."
  @spec seal(term, binary, keyword) :: {:ok, String.t()} | {:error, Error.t()}
  def seal(public, content, options) do
    {:ok, encryption} = Encryption.fetch(options[:enc])

    with {:ok, alg, kind} <- algorithm(public, options[:alg]),
         {:ok, key, more, encrypted} <- key(public, kind, alg, encryption, options[:header]) do
      header =
        options[:header] |> Map.merge(%{"alg" => alg, "enc" => options[:enc]}) |> Map.merge(more)

      protected = header |> JSON.encode!() |> Base64URL.encode()
      sealed = Encryption.seal(encryption, key, content, protected)
      parts = [encrypted, sealed.iv, sealed.ciphertext, sealed.tag]
      {:ok, Enum.join([protected | Enum.map(parts, &Base64URL.encode/1)], ".")}
    end
  end

  defp algorithm({:RSAPublicKey, _, _}, name), do: named(name || "RSA-OAEP-256", :rsa)
  defp algorithm(_on_a_curve, name), do: named(name || "ECDH-ES+A256KW", :agree)

  defp named(name, kind) do
    case Algorithm.fetch(name) do
      {:ok, {^kind, _} = row} -> {:ok, name, row}
      _another -> no("this key does not go with #{JWS.Algorithm.quoted(name)}")
    end
  end

  defp key({:RSAPublicKey, modulus, _exponent}, {:rsa, _oaep}, _alg, _encryption, _header)
       when modulus < @least_modulus,
       do: {:error, Error.new(:key_size_range, "JOSE wants 2048 bits of an RSA key at least")}

  defp key(public, {:rsa, oaep}, _alg, encryption, _header) do
    key = :crypto.strong_rand_bytes(Encryption.size(encryption))

    options = [
      rsa_padding: :rsa_pkcs1_oaep_padding,
      rsa_oaep_md: oaep.hash,
      rsa_mgf1_md: oaep.mgf
    ]

    {:ok, key, %{}, :public_key.encrypt_public(key, public, options)}
  rescue
    ErlangError -> no("nothing can be encrypted with this RSA key")
  end

  defp key({{:ECPoint, point}, {:namedCurve, oid}}, {:agree, bytes}, alg, encryption, header) do
    with {:ok, curve} when curve in @curves <- Curve.decode(DER.oid(oid)),
         true <- curve in :crypto.supports(:curves),
         true <- Agreement.point?(point, curve),
         {:ok, apu} <- party(header["apu"]),
         {:ok, apv} <- party(header["apv"]) do
      {own, secret} = :crypto.generate_key(:ecdh, curve)
      agreed = :crypto.compute_key(:ecdh, point, secret, curve)
      {:ok, epk} = Public.write({{:ECPoint, own}, {:namedCurve, oid}})
      info = Algorithm.info(alg, bytes, encryption, apu, apv)
      derive = &Derivation.derive({:concat, :sha256}, agreed, info, &1)
      size = Encryption.size(encryption)

      if bytes == :direct do
        {:ok, derive.(size), %{"epk" => epk}, ""}
      else
        key = :crypto.strong_rand_bytes(size)
        {:ok, key, %{"epk" => epk}, KeyWrap.wrap(derive.(bytes), key)}
      end
    else
      {:error, _error} = error -> error
      _no_such_curve_or_point -> no("JOSE encrypts nothing for a key of this kind")
    end
  end

  defp key(_other, _kind, _alg, _encryption, _header),
    do: no("JOSE encrypts nothing for a key of this kind")

  defp party(nil), do: {:ok, ""}

  defp party(text) do
    with :error <- Base64URL.decode(text),
         do: {:error, Error.new(:invalid_argument, "apu and apv are base64url")}
  end

  defp no(text), do: {:error, Error.new(:unsupported, text)}
end
