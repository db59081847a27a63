defmodule Cryptoki.Referee.MlDsaTest do
  use Cryptoki.Test.Referee, async: true

  # ML-DSA and HashML-DSA (FIPS 204) against an implementation in pure Rust.

  alias Cryptoki.Test.PostQuantum

  @sets ~w[ml_dsa_44 ml_dsa_65 ml_dsa_87]a
  @hashes ~w[sha224 sha256 sha384 sha512 sha3_224 sha3_256 sha3_384 sha3_512]a

  on_each_token do
    for set <- @sets do
      check "#{set}", [:ml_dsa_key_pair_gen, ml_dsa: [:sign, :verify]], %{hsm: hsm} do
        set = unquote(set)
        template = [parameter_set: set, label: "pq"]
        {public, private} = Cryptoki.generate_key_pair!(hsm, :ml_dsa_key_pair_gen, template)
        assert %{parameter_set: ^set} = Cryptoki.attributes!(hsm, private, [:parameter_set])
        raw = value(hsm, public)

        for context <- ["", "a context", bytes(255)],
            size <- [0, 1, 4096, 65_537],
            data = bytes(size) do
          mechanism = if context == "", do: :ml_dsa, else: {:ml_dsa, context: context}
          signature = Cryptoki.sign!(hsm, private, mechanism, data)
          message = PostQuantum.message(data, context)
          assert PostQuantum.valid?(set, raw, message, signature)
          assert Cryptoki.verify(hsm, public, mechanism, data, signature) == :ok

          assert Cryptoki.verify(hsm, public, mechanism, {:stream, chunks(data)}, signature) ==
                   :ok

          assert_refused(Cryptoki.verify(hsm, public, mechanism, data, flip(signature)))
          refute Cryptoki.valid?(hsm, public, mechanism, [data, 0], signature)
          refute Cryptoki.valid?(hsm, public, {:ml_dsa, context: "another"}, data, signature)
        end

        # By chance, unless told otherwise.
        assert Cryptoki.sign!(hsm, private, :ml_dsa, "") !=
                 Cryptoki.sign!(hsm, private, :ml_dsa, "")
      end

      check "#{set} with a key of ours", [ml_dsa: [:sign, :verify]], %{hsm: hsm} do
        set = unquote(set)
        {seed, public, private} = ours(hsm, set)

        for context <- ["", "a context"], data = bytes(:rand.uniform(5000)) do
          mechanism = {:ml_dsa, hedge: :deterministic_required, context: context}
          signature = PostQuantum.sign(set, seed, PostQuantum.message(data, context))
          assert Cryptoki.sign!(hsm, private, mechanism, data) == signature
          assert Cryptoki.verify(hsm, public, {:ml_dsa, context: context}, data, signature) == :ok
          assert Cryptoki.sign!(hsm, private, mechanism, {:stream, chunks(data)}) == signature
        end
      end

      for hash <- @hashes do
        mechanism = :"hash_ml_dsa_#{hash}"

        check "#{mechanism} with #{set}",
              [{mechanism, [:sign, :verify]}, hash_ml_dsa: [:sign, :verify]],
              %{hsm: hsm} do
          {set, hash} = {unquote(set), unquote(hash)}
          {seed, public, private} = ours(hsm, set)
          data = bytes(1000)
          deterministic = [hedge: :deterministic_required, context: "a context"]
          message = PostQuantum.message(data, "a context", hash)
          signature = PostQuantum.sign(set, seed, message)

          mechanism = {unquote(mechanism), deterministic}
          assert Cryptoki.sign!(hsm, private, mechanism, data) == signature
          assert Cryptoki.verify(hsm, public, mechanism, data, signature) == :ok
          assert_refused(Cryptoki.verify(hsm, public, mechanism, flip(data), signature))

          # The same on a digest that was made before.
          digest = Outside.hash(hash, data)
          mechanism = {:hash_ml_dsa, [hash: hash] ++ deterministic}
          assert Cryptoki.sign!(hsm, private, mechanism, digest) == signature
          assert Cryptoki.verify(hsm, public, mechanism, digest, signature) == :ok
        end
      end
    end
  end

  defp ours(hsm, set) do
    seed = bytes(32)
    {public, private} = PostQuantum.keygen(set, seed)
    template = [key_type: :ml_dsa, parameter_set: set]

    {
      seed,
      Cryptoki.create!(hsm, [class: :public_key, value: public, verify: true] ++ template),
      Cryptoki.create!(
        hsm,
        [class: :private_key, value: private, seed: seed, sign: true] ++ template
      )
    }
  end
end
