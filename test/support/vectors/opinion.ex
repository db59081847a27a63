defmodule Cryptoki.Test.Vectors.Opinion do
  @moduledoc false
  # A third opinion on a vector that a token disagrees with: OpenSSL's, by `:crypto` and `:public_key`.

  alias Cryptoki.Test.Outside
  alias Cryptoki.Test.Vectors.{Known, Signatures}

  @doc "What OpenSSL makes of it."
  @spec ask(String.t(), map) :: String.t()
  def ask(family, %{group: group, data: test, result: result, way: way}) do
    published = if way == :wrap, do: test["ct"], else: published(family, test)

    case {answer(family, way, group, test), result} do
      {{:ok, ^published}, "valid"} -> "as published"
      {:error, "invalid"} -> "as published"
      {:error, _valid} -> "refuses it"
      {{:ok, _another}, _result} -> "another answer"
    end
  end

  defp published("RSA PSS", _test), do: true
  defp published("HMAC", test), do: test["tag"]
  defp published("ECDH", test), do: test["shared"]
  defp published(_family, test), do: test["msg"]

  defp answer(family, way, group, test) do
    case opinion(family, way, group, test) do
      {:ok, bytes} -> {:ok, bytes}
      :error -> :error
      false -> :error
      answer -> {:ok, answer}
    end
  rescue
    _refused -> :error
  end

  defp opinion("AES-GCM", _way, _group, t), do: aead(:"aes_#{bit_size(t["key"])}_gcm", t)
  defp opinion("ChaCha20-Poly1305", _way, _group, t), do: aead(:chacha20_poly1305, t)

  defp opinion("AES-CBC with padding", _way, _group, t) do
    options = [encrypt: false, padding: :pkcs_padding]

    :crypto.crypto_one_time(:"aes_#{bit_size(t["key"])}_cbc", t["key"], t["iv"], t["ct"], options)
  end

  defp opinion("HMAC", _way, %{"file" => "hmac_" <> hash} = group, t) do
    hash = if hash == "sha1", do: :sha_1, else: String.to_existing_atom(hash)
    hash |> Outside.hmac(t["key"], t["msg"]) |> binary_part(0, div(group["tagSize"], 8))
  end

  defp opinion("AES-KW", :wrap, _group, t), do: Outside.key_wrap(t["key"], t["msg"])
  defp opinion("AES-KW", _way, _group, t), do: Outside.key_unwrap(t["key"], t["ct"])
  defp opinion("AES-KWP", :wrap, _group, t), do: Outside.key_wrap_pad(t["key"], t["msg"])

  defp opinion("RSA PSS", _way, %{"publicKey" => public} = group, t) do
    key = {:RSAPublicKey, number(public["modulus"]), number(public["publicExponent"])}

    options = [
      rsa_padding: :rsa_pkcs1_pss_padding,
      rsa_pss_saltlen: group["sLen"],
      rsa_mgf1_md: Known.digest_name(group["mgfSha"])
    ]

    :public_key.verify(t["msg"], Known.digest_name(group["sha"]), t["sig"], key, options)
  end

  defp opinion("RSA OAEP", _way, group, t) do
    label = if t["label"] == "", do: [], else: [rsa_oaep_label: t["label"]]

    options = [
      rsa_padding: :rsa_pkcs1_oaep_padding,
      rsa_oaep_md: Known.digest_name(group["sha"]),
      rsa_mgf1_md: Known.digest_name(group["mgfSha"])
    ]

    :public_key.decrypt_private(t["ct"], private(group), options ++ label)
  end

  defp opinion("RSA PKCS #1 v1.5, decrypting", _way, group, t),
    do: :public_key.decrypt_private(t["ct"], private(group))

  defp opinion("ECDH", _way, %{"curve" => curve}, t) do
    curve = String.to_existing_atom(curve)
    :crypto.compute_key(:ecdh, Known.point(curve, t), t["private"], curve)
  end

  defp aead(cipher, t) do
    :crypto.crypto_one_time_aead(
      cipher,
      t["key"],
      t["iv"],
      t["ct"],
      t["aad"],
      t["tag"],
      false
    )
  end

  @rsa ~w[modulus publicExponent privateExponent prime1 prime2 exponent1 exponent2 coefficient]

  defp private(%{"privateKey" => key}) do
    numbers = for name <- @rsa, do: number(key[name])
    List.to_tuple([:RSAPrivateKey, :"two-prime"] ++ numbers ++ [:asn1_NOVALUE])
  end

  defp number(hex), do: hex |> Signatures.number() |> :binary.decode_unsigned()
end
