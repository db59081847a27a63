defmodule Cryptoki.Test.Crashes.Scenario do
  @moduledoc false
  # What calls the functions that no scenario of EveryCall does. A function that the token lacks, or refuses, is
  # called all the same: its crash comes before the token's answer.

  alias Cryptoki.{Error, Operation}
  alias Cryptoki.Test.EveryCall.Scenario
  alias Cryptoki.Test.Storm.Verbs

  @iv <<0::128>>
  @text binary_part("text that is thirty-two bytes long", 0, 32)

  @doc "Those of EveryCall, and these."
  @spec all :: [struct]
  def all, do: Scenario.all() ++ [events(), verbs(), in_sessions(), of_version_3(), named_user()]

  defp named_user do
    %Scenario{
      name: "a user with a name",
      token: :kryoptic,
      instance: false,
      lines: "user name=alice",
      options: [user: {:named, "alice"}],
      steps: [
        {:hsm, %{}, &started/1},
        {:random, %{"C_GenerateRandom" => 1}, &Cryptoki.random(&1.hsm, 8, timeout: &1.timeout)}
      ],
      after: fn context -> if context[:hsm], do: Cryptoki.stop(context.hsm) end
    }
  end

  # Not linked: it is to live on when the process of the run ends.
  defp started(context) do
    with {:ok, hsm} <- Cryptoki.start_link(context.options) do
      Process.unlink(hsm)
      {:ok, hsm}
    end
  end

  # A library that tells by itself that something has happened to a slot.
  defp events do
    subscribe = Enum.find(Scenario.all(), &(&1.name == "subscribe"))
    %{subscribe | name: "subscribe to slot events", lines: "slot_events on"}
  end

  # Every verb, one after the other.
  defp verbs do
    # There is no such certificate, and no event has to come.
    left_out = [:certificate, :subscribe]
    steps = for {name, fun} <- Verbs.all(), name not in left_out, do: {name, %{}, fun}
    %Scenario{name: "every verb", prepare: &Verbs.make(&1.hsm), steps: steps}
  end

  defp in_sessions do
    steps(
      "operations that are seldom",
      :softhsm2,
      fn context ->
        Verbs.make(context.hsm)
      end,
      size: &Cryptoki.size(&1.hsm, &1.rsa),
      # Found here, as this token searches in no session that is in an operation.
      size_of_aes: &Cryptoki.size(&1.hsm, &1.aes),
      size_of_hmac: &Cryptoki.size(&1.hsm, &1.hmac),
      sign_recover: &Cryptoki.sign_recover(&1.hsm, &1.rsa, :rsa_pkcs, @text),
      verify_recover: &Cryptoki.verify_recover(&1.hsm, &1.rsa_public, :rsa_pkcs, @text),
      digest_key: in_session(:digest, nil, :sha256, &Operation.update(&1, {:key, &2.aes})),
      save: in_session(:digest, nil, :sha256, fn op, _context -> Operation.save(op) end),
      restore: fn context ->
        Cryptoki.with_session(context.hsm, &Operation.restore(&1, :digest, @text))
      end,
      verify_stream:
        &Cryptoki.verify(
          &1.hsm,
          &1.rsa_public,
          :sha256_rsa_pkcs,
          {:stream, [@text, @text]},
          &1.signature
        ),
      digest_encrypt:
        &Cryptoki.encrypt(&1.hsm, &1.aes, {:aes_cbc, iv: @iv}, @text, digest: :sha256),
      sign_encrypt:
        &Cryptoki.encrypt(&1.hsm, &1.aes, {:aes_cbc, iv: @iv}, @text,
          sign: {&1.hmac, :sha256_hmac}
        ),
      decrypt_digest:
        &Cryptoki.decrypt(&1.hsm, &1.aes, {:aes_cbc, iv: @iv}, @text, digest: :sha256),
      decrypt_verify:
        &Cryptoki.decrypt(&1.hsm, &1.aes, {:aes_cbc, iv: @iv}, @text,
          verify: {&1.hmac, :sha256_hmac, @text}
        )
    )
  end

  defp of_version_3 do
    secret = [class: :secret_key, key_type: :aes, token: false, value_len: 32]

    steps(
      "functions of 3.0 and 3.2",
      :kryoptic,
      &three/1,
      encrypt_message: messages(:message_encrypt, :aes, :aes_gcm, [iv: {:generate, 12}], "aad"),
      decrypt_message: messages(:message_decrypt, :aes, :aes_gcm, [iv: @text, tag: @iv], "aad"),
      sign_message: messages(:message_sign, :hmac, :sha256_hmac, nil, ""),
      verify_message: messages(:message_verify, :hmac, :sha256_hmac, nil, @text),
      cancel: in_session(:sign, :hmac, :sha256_hmac, fn op, _context -> Operation.cancel(op) end),
      verify_signature:
        &Cryptoki.verify(&1.hsm, &1.ec_public, :ecdsa_sha256, @text, @text <> @text,
          signature_first: true
        ),
      verify_signature_stream: fn context ->
        Cryptoki.with_session(context.hsm, fn session ->
          options = [signature: @text <> @text]

          with {:ok, operation} <-
                 Cryptoki.start(session, :verify, context.ec_public, :ecdsa_sha256, options),
               :ok <- Operation.update(operation, @text),
               do: Operation.finish(operation)
        end)
      end,
      wrap:
        &Cryptoki.wrap_key(&1.hsm, &1.aes, {:aes_gcm, iv: <<0::96>>, tag_bits: 128}, &1.hmac,
          associated_data: "data"
        ),
      unwrap:
        &Cryptoki.unwrap_key(
          &1.hsm,
          &1.aes,
          {:aes_gcm, iv: <<0::96>>, tag_bits: 128},
          @text,
          secret,
          associated_data: "data"
        ),
      validation_flags: &Cryptoki.validation_flags(&1.hsm),
      encapsulate: &Cryptoki.encapsulate_key(&1.hsm, &1.kem_public, :ml_kem, secret),
      decapsulate:
        &Cryptoki.decapsulate_key(&1.hsm, &1.kem, :ml_kem, :binary.copy(@text, 34), secret)
    )
  end

  defp three(%{hsm: hsm}) do
    aes = [label: "aes", value_len: 32, encrypt: true, decrypt: true, wrap: true, unwrap: true]
    hmac = [label: "hmac", value_len: 32, sign: true, verify: true, extractable: true]
    uses = [public: [encapsulate: true], private: [decapsulate: true]]
    kem = [label: "kem", parameter_set: :ml_kem_768] ++ uses
    {public, private} = Cryptoki.generate_key_pair!(hsm, :ml_kem_key_pair_gen, on_token(kem))

    ec = [curve: :secp256r1, public: [verify: true], private: [sign: true]]
    {ec, _private} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, on_token(ec))

    %{
      aes: Cryptoki.generate_key!(hsm, :aes_key_gen, on_token(aes)),
      hmac: Cryptoki.generate_key!(hsm, :generic_secret_key_gen, on_token(hmac)),
      kem_public: public,
      kem: private,
      ec_public: ec
    }
  end

  defp on_token(template), do: [token: true] ++ template

  # What a token refuses is begun all the same: what comes after it is called then.
  @begun ~w(C_SignRecoverInit C_VerifyRecoverInit C_DigestInit C_SignInit C_VerifyInit C_MessageSignInit
            C_MessageVerifyInit C_MessageDecryptInit C_SignMessageBegin C_VerifyMessageBegin
            C_DecryptMessageBegin C_VerifySignatureInit)

  defp steps(name, token, prepare, steps) do
    steps = for {name, fun} <- steps, do: {name, %{}, &called(fun, &1)}
    lines = Enum.map_join(@begun, "\n", &"#{&1} rv=0 after_forward")
    %Scenario{name: name, token: token, prepare: prepare, steps: steps, lines: lines}
  end

  # What the token says to it is its affair.
  defp called(fun, context) do
    case fun.(context) do
      {:error, %Error{reason: reason} = error} when reason in [:library_crashed, :locked] ->
        {:error, error}

      _answer ->
        :ok
    end
  end

  defp in_session(kind, key, mechanism, fun) do
    fn context ->
      Cryptoki.with_session(context.hsm, fn session ->
        with {:ok, operation} <- Cryptoki.start(session, kind, key && context[key], mechanism),
             do: fun.(operation, context)
      end)
    end
  end

  # A message in one, one in two, and none.
  defp messages(kind, key, mechanism, parameters, extra) do
    parts = [
      &Operation.message(&1, parameters, extra, @text),
      &Operation.message(&1, parameters, extra, {:stream, [@text, @text]}),
      &Operation.finish/1
    ]

    fn context ->
      parts
      |> Enum.map(fn part ->
        in_session(kind, key, mechanism, fn operation, _context -> part.(operation) end).(context)
      end)
      |> Enum.find(:ok, &match?({:error, %Error{reason: :library_crashed}}, &1))
    end
  end
end
