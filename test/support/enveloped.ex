defmodule Cryptoki.Test.Enveloped do
  @moduledoc false
  # Encrypted messages: those of `openssl cms -encrypt`, and by hand, with whatever for an encrypted key.

  alias Cryptoki.DER
  alias Cryptoki.Test.{OpenSSL, Scratch, TLS}

  @text "some text\r\n\0 that is secret"

  @doc "What is encrypted."
  @spec text() :: String.t()
  def text, do: @text

  @doc "Key pairs of the token with certificates of the authority in a directory."
  @spec keys(Cryptoki.hsm(), Path.t(), [atom]) :: %{atom => map}
  def keys(hsm, directory, names) do
    for name <- names, into: %{} do
      id = :crypto.strong_rand_bytes(8)
      {mechanism, template} = kind(name)
      {_public, private} = Cryptoki.generate_key_pair!(hsm, mechanism, [id: id] ++ template)
      public = Cryptoki.public_key!(hsm, private)
      pem = TLS.certificate(directory, public, "#{name}")
      {name, %{private: private, public: public, pem: pem}}
    end
  end

  defp kind(:x25519) do
    {:ec_montgomery_key_pair_gen, [curve: :x25519, private: [derive: true]]}
  end

  defp kind(rsa) when rsa in [:rsa, :other_rsa] do
    halves = [public: [encrypt: true], private: [decrypt: true]]
    {:rsa_pkcs_key_pair_gen, [modulus_bits: 2048] ++ halves}
  end

  defp kind(curve), do: {:ec_key_pair_gen, [curve: curve, private: [derive: true]]}

  @doc "By OpenSSL for certificates, each with the options that it has."
  @spec by_openssl([{String.t(), [String.t()]}], [String.t()]) :: binary
  def by_openssl(recipients, arguments) do
    Scratch.within("cms", fn scratch ->
      text = Scratch.write(scratch, "text", @text)

      recipients =
        for {{pem, options}, n} <- Enum.with_index(recipients) do
          ["-recip", Scratch.write(scratch, "#{n}.pem", pem) | options]
        end

      out = Path.join(scratch, "out")
      command = ~w(cms -encrypt -binary -in #{text} -outform DER -out #{out})
      {"", 0} = OpenSSL.openssl(command ++ arguments ++ Enum.concat(recipients))
      File.read!(out)
    end)
  end

  @doc "AES-256 in CBC or GCM mode with this key, and these bytes for the key encrypted with PKCS #1 v1.5."
  @spec by_hand(binary, :cbc | :gcm, binary, keyword) :: binary
  def by_hand(encrypted, mode, key, options \\ []) do
    attributes = options[:attributes] || ""
    aad = options[:aad] || ""
    {algorithm, ciphertext, tag} = content(mode, key, aad)
    parts = [DER.oid({1, 2, 840, 113_549, 1, 7, 1}), algorithm, DER.value(0x80, ciphertext)]
    recipients = List.duplicate(recipient(encrypted), options[:recipients] || 1)
    tail = if tag, do: [attributes, DER.octet_string(tag)], else: []
    type = if tag, do: {1, 2, 840, 113_549, 1, 9, 16, 1, 23}, else: {1, 2, 840, 113_549, 1, 7, 3}
    head = [DER.integer(2), DER.set_of(recipients), DER.sequence(parts)]
    DER.sequence([DER.oid(type), DER.explicit(0, DER.sequence(head ++ tail))])
  end

  defp recipient(encrypted) do
    DER.sequence([
      DER.integer(2),
      DER.value(0x80, "nobody"),
      DER.sequence([DER.oid({1, 2, 840, 113_549, 1, 1, 1}), DER.null()]),
      DER.octet_string(encrypted)
    ])
  end

  defp content(:cbc, key, "") do
    iv = :crypto.strong_rand_bytes(16)
    options = [encrypt: true, padding: :pkcs_padding]
    ciphertext = :crypto.crypto_one_time(:aes_256_cbc, key, iv, @text, options)
    {algorithm(42, DER.octet_string(iv)), ciphertext, nil}
  end

  defp content(:gcm, key, aad) do
    nonce = :crypto.strong_rand_bytes(12)
    {ciphertext, tag} = :crypto.crypto_one_time_aead(:aes_256_gcm, key, nonce, @text, aad, true)
    parameters = DER.sequence([DER.octet_string(nonce), DER.integer(16)])
    {algorithm(46, parameters), ciphertext, tag}
  end

  defp algorithm(number, parameters),
    do: DER.sequence([DER.oid({2, 16, 840, 1, 101, 3, 4, 1, number}), parameters])

  @doc "A block of 2048 bits, as RSA encrypts it without any padding."
  @spec raw(tuple, binary) :: binary
  def raw({:RSAPublicKey, modulus, exponent}, block) do
    number = :crypto.mod_pow(block, exponent, modulus)
    :binary.copy(<<0>>, 256 - byte_size(number)) <> number
  end

  @doc """
  What Bleichenbacher asks: blocks of PKCS #1 v1.5 with this key of 32 bytes, with others, and as they must not be.
  """
  @spec blocks(binary) :: %{atom => binary}
  def blocks(key) do
    filled = &:binary.copy(<<0xA5>>, &1)

    %{
      right: <<0, 2, filled.(221)::binary, 0, key::binary>>,
      another_key: <<0, 2, filled.(221)::binary, 0, 7::256>>,
      short: <<0, 2, filled.(237)::binary, 0, 7::128>>,
      long: <<0, 2, filled.(205)::binary, 0, 7::384>>,
      empty: <<0, 2, filled.(253)::binary, 0>>,
      no_zero: <<0, 2, filled.(254)::binary>>,
      zero_in_padding: <<0, 2, filled.(4)::binary, 0, filled.(249)::binary>>,
      signature: <<0, 1, filled.(221)::binary, 0, key::binary>>,
      no_block: <<0, 3, filled.(254)::binary>>
    }
  end
end
