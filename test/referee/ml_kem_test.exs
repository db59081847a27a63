defmodule Cryptoki.Referee.MlKemTest do
  use Cryptoki.Test.Referee, async: true

  # ML-KEM (FIPS 203) against an implementation in pure Rust.

  alias Cryptoki.Test.PostQuantum

  @sets ~w[ml_kem_512 ml_kem_768 ml_kem_1024]a
  @readable [class: :secret_key, key_type: :generic_secret, sensitive: false, extractable: true]

  on_each_token do
    for set <- @sets do
      check "#{set}", [:ml_kem_key_pair_gen, ml_kem: [:encapsulate, :decapsulate]], %{hsm: hsm} do
        set = unquote(set)
        template = [parameter_set: set, label: "kem"]
        {public, private} = Cryptoki.generate_key_pair!(hsm, :ml_kem_key_pair_gen, template)

        for _ <- 1..5 do
          {ciphertext, secret} = PostQuantum.encapsulate(set, value(hsm, public))
          key = Cryptoki.decapsulate_key!(hsm, private, :ml_kem, ciphertext, @readable)
          assert value(hsm, key) == secret

          # FIPS 203 refuses nothing: another ciphertext is another secret, at both ends.
          key = Cryptoki.decapsulate_key!(hsm, private, :ml_kem, flip(ciphertext), @readable)
          assert value(hsm, key) != secret

          {blob, key} = Cryptoki.encapsulate_key!(hsm, public, :ml_kem, @readable)
          again = Cryptoki.decapsulate_key!(hsm, private, :ml_kem, blob, @readable)
          assert value(hsm, key) == value(hsm, again)
        end
      end

      check "#{set} with a key of ours", [ml_kem: [:encapsulate, :decapsulate]], %{hsm: hsm} do
        set = unquote(set)
        seed = bytes(64)
        {raw_public, raw_private} = PostQuantum.keygen(set, seed)
        template = [key_type: :ml_kem, parameter_set: set]

        public =
          Cryptoki.create!(
            hsm,
            [class: :public_key, value: raw_public, encapsulate: true] ++ template
          )

        private =
          Cryptoki.create!(
            hsm,
            [class: :private_key, value: raw_private, seed: seed, decapsulate: true] ++ template
          )

        {blob, key} = Cryptoki.encapsulate_key!(hsm, public, :ml_kem, @readable)
        assert value(hsm, key) == PostQuantum.decapsulate(set, seed, blob)
        key = Cryptoki.decapsulate_key!(hsm, private, :ml_kem, blob, @readable)
        assert value(hsm, key) == PostQuantum.decapsulate(set, seed, blob)

        # What comes of it can be any key.
        template = [class: :secret_key, key_type: :aes, encrypt: true, label: "shared"]
        key = Cryptoki.decapsulate_key!(hsm, private, :ml_kem, blob, template)
        assert {key.key_type, key.label} == {:aes, "shared"}
        secret = PostQuantum.decapsulate(set, seed, blob)
        ciphertext = :crypto.crypto_one_time(:aes_256_ecb, secret, <<1::128>>, true)
        assert Cryptoki.encrypt!(hsm, key, :aes_ecb, <<1::128>>) == ciphertext
      end
    end
  end
end
