defmodule Cryptoki.Test.Storm.Verbs do
  @moduledoc false
  # Every verb, with keys that are there from the start.

  alias Cryptoki.Operation

  @text "text that is thirty-two bytes long" |> binary_part(0, 32)
  @slow [timeout: 60_000]

  @doc "Makes what the verbs need."
  @spec make(Cryptoki.hsm()) :: map
  def make(hsm) do
    aes = [label: "aes", id: <<11>>, value_len: 32, token: true]
    wrap = [label: "wrap", id: <<12>>, value_len: 32, wrap: true, unwrap: true, token: true]
    load = [label: "load", id: <<13>>, value_len: 16, extractable: true, token: true]
    rsa = [label: "rsa", id: <<14>>, modulus_bits: 2048, token: true]
    ec = [label: "ec", id: <<15>>, curve: :secp256r1, derive: true, token: true]
    hmac = [class: :secret_key, key_type: :generic_secret, label: "hmac", sign: true, token: true]
    {rsa_public, rsa} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, rsa, @slow)
    {ec_public, ec} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, ec)
    aes = Cryptoki.generate_key!(hsm, :aes_key_gen, aes)
    wrap = Cryptoki.generate_key!(hsm, :aes_key_gen, wrap)
    load = Cryptoki.generate_key!(hsm, :aes_key_gen, load)

    %{
      hsm: hsm,
      aes: aes,
      wrap: wrap,
      load: load,
      rsa: rsa,
      rsa_public: rsa_public,
      ec: ec,
      ec_public: ec_public,
      hmac: Cryptoki.create!(hsm, [value: :crypto.strong_rand_bytes(32)] ++ hmac),
      peer: Cryptoki.attributes!(hsm, ec_public, [:ec_point]).ec_point,
      signature: Cryptoki.sign!(hsm, rsa, :sha256_rsa_pkcs, @text),
      ciphertext: Cryptoki.encrypt!(hsm, aes, :aes_ecb, @text),
      blob: Cryptoki.wrap_key!(hsm, wrap, :aes_key_wrap, load)
    }
  end

  @doc "The verbs by name, each of one call or of a few; `:ok`, `{:ok, value}` or `{:error, error}`."
  @spec all :: [{atom, (map -> term)}]
  def all do
    one_call() ++ in_pieces() ++ objects() ++ keys() ++ about()
  end

  defp one_call do
    [
      sign: &Cryptoki.sign(&1.hsm, &1.rsa, :sha256_rsa_pkcs, @text),
      sign_ecdsa: &Cryptoki.sign(&1.hsm, &1.ec, :ecdsa_sha256, @text),
      sign_der: &Cryptoki.sign(&1.hsm, [label: "ec"], :ecdsa_sha256, @text, format: :der),
      mac: &Cryptoki.sign(&1.hsm, &1.hmac, :sha256_hmac, @text),
      verify: &Cryptoki.verify(&1.hsm, &1.rsa_public, :sha256_rsa_pkcs, @text, &1.signature),
      encrypt: &Cryptoki.encrypt(&1.hsm, &1.aes, :aes_ecb, @text),
      decrypt: &Cryptoki.decrypt(&1.hsm, &1.aes, :aes_ecb, &1.ciphertext),
      encrypt_gcm:
        &Cryptoki.encrypt(&1.hsm, &1.aes, {:aes_gcm, iv: <<1::96>>, tag_bits: 128}, @text),
      encrypt_rsa: &Cryptoki.encrypt(&1.hsm, &1.rsa_public, :rsa_pkcs, @text),
      digest: &Cryptoki.digest(&1.hsm, :sha256, @text),
      random: &Cryptoki.random(&1.hsm, 32),
      seed_random: &Cryptoki.seed_random(&1.hsm, @text)
    ]
  end

  defp in_pieces do
    stream = {:stream, [@text, @text]}

    [
      sign_stream: &Cryptoki.sign(&1.hsm, &1.rsa, :sha256_rsa_pkcs, stream),
      digest_stream: &Cryptoki.digest(&1.hsm, :sha256, stream),
      encrypt_stream: &Cryptoki.encrypt(&1.hsm, &1.aes, {:aes_cbc, iv: <<0::128>>}, stream),
      decrypt_stream: &Cryptoki.decrypt(&1.hsm, &1.aes, {:aes_cbc, iv: <<0::128>>}, stream),
      lazy: fn c ->
        raised(fn ->
          Cryptoki.encrypt_stream(c.hsm, c.aes, {:aes_cbc, iv: <<0::128>>}, [@text, @text])
        end)
      end,
      operation: fn c ->
        Cryptoki.with_session(c.hsm, fn session ->
          with {:ok, operation} <- Cryptoki.start(session, :digest, :sha256),
               :ok <- Operation.update(operation, @text),
               do: Operation.finish(operation)
        end)
      end,
      left_behind: fn c ->
        Cryptoki.with_session(c.hsm, fn session ->
          with {:ok, _operation} <- Cryptoki.start(session, :sign, c.rsa, :sha256_rsa_pkcs),
               do: :ok
        end)
      end
    ]
  end

  defp objects do
    [
      find: &Cryptoki.find(&1.hsm, class: :secret_key),
      find_one: &Cryptoki.find_one(&1.hsm, label: "aes"),
      stream: fn c -> raised(fn -> Cryptoki.stream(c.hsm, class: :private_key) end) end,
      attributes: &Cryptoki.attributes(&1.hsm, &1.rsa_public, [:label, :modulus, :id]),
      update: &Cryptoki.update(&1.hsm, &1.load, label: "load"),
      create: &Cryptoki.create(&1.hsm, class: :data, label: "made", value: "x"),
      copy: &Cryptoki.copy(&1.hsm, &1.load, label: "made", token: false),
      destroy: fn c ->
        with {:ok, object} <- Cryptoki.create(c.hsm, class: :data, label: "made", value: "x"),
             do: Cryptoki.destroy(c.hsm, object)
      end,
      public_key: &Cryptoki.public_key(&1.hsm, &1.rsa),
      public_key_ec: &Cryptoki.public_key(&1.hsm, &1.ec_public),
      certificate: &Cryptoki.certificate(&1.hsm, label: "none")
    ]
  end

  defp keys do
    template = [class: :secret_key, key_type: :aes, token: false]
    derived = [class: :secret_key, key_type: :generic_secret, value_len: 32]

    [
      generate_key: &Cryptoki.generate_key(&1.hsm, :aes_key_gen, value_len: 16),
      generate_key_pair: &Cryptoki.generate_key_pair(&1.hsm, :ec_key_pair_gen, curve: :secp256r1),
      wrap_key: &Cryptoki.wrap_key(&1.hsm, &1.wrap, :aes_key_wrap, &1.load),
      unwrap_key: &Cryptoki.unwrap_key(&1.hsm, &1.wrap, :aes_key_wrap, &1.blob, template),
      derive_key:
        &Cryptoki.derive_key(&1.hsm, &1.ec, {:ecdh1_derive, public: &1.peer, kdf: :null}, derived)
    ]
  end

  defp about do
    [
      status: &Cryptoki.status(&1.hsm),
      library_info: &Cryptoki.library_info(&1.hsm),
      slots: &Cryptoki.slots(&1.hsm),
      token_info: &Cryptoki.token_info(&1.hsm),
      mechanisms: &Cryptoki.mechanisms(&1.hsm),
      mechanism_info: &Cryptoki.mechanism_info(&1.hsm, :aes_gcm),
      session_info: &Cryptoki.session_info(&1.hsm),
      subscribe: fn c ->
        with {:ok, reference} <- Cryptoki.subscribe(c.hsm) do
          answer = Cryptoki.unsubscribe(c.hsm, reference)
          flush(reference)
          answer
        end
      end
    ]
  end

  # What came until the answer to unsubscribe.
  defp flush(reference) do
    receive do
      {:cryptoki, ^reference, _event} -> flush(reference)
    after
      0 -> :ok
    end
  end

  # A stream has no other way to tell.
  defp raised(stream) do
    {:ok, Enum.to_list(stream.())}
  rescue
    error in Cryptoki.Error -> {:error, error}
  end
end
