defmodule Cryptoki.Referee.SlhDsaTest do
  use Cryptoki.Test.Referee, async: true

  # SLH-DSA and HashSLH-DSA (FIPS 205) against an implementation in pure Rust.

  alias Cryptoki.Test.PostQuantum

  @sets for hash <- ~w[sha2 shake],
            size <- ~w[128 192 256],
            kind <- ~w[s f],
            do: :"slh_dsa_#{hash}_#{size}#{kind}"
  @hashes ~w[sha224 sha256 sha384 sha512 sha3_224 sha3_256 sha3_384 sha3_512]a

  on_each_token do
    for set <- @sets do
      check "#{set}", [:slh_dsa_key_pair_gen, slh_dsa: [:sign, :verify]], %{hsm: hsm} do
        set = unquote(set)
        {public, private, _secret} = pair(hsm, set)
        raw = value(hsm, public)
        data = bytes(:rand.uniform(5000))

        signature = Cryptoki.sign!(hsm, private, {:slh_dsa, context: "a context"}, data)
        message = PostQuantum.message(data, "a context")
        assert PostQuantum.valid?(set, raw, message, signature)
        refute PostQuantum.valid?(set, raw, flip(message), signature)

        mechanism = {:slh_dsa, context: "a context"}
        assert Cryptoki.verify(hsm, public, mechanism, data, signature) == :ok
        assert_refused(Cryptoki.verify(hsm, public, mechanism, data, flip(signature)))
        refute Cryptoki.valid?(hsm, public, mechanism, [data, 0], signature)
        refute Cryptoki.valid?(hsm, public, :slh_dsa, data, signature)
      end

      # The small signatures take seconds to make, twice.
      if String.ends_with?("#{set}", "f") do
        check "#{set}, deterministic", [slh_dsa: [:sign, :verify]], %{hsm: hsm} do
          {public, private, secret} = pair(hsm, unquote(set))
          data = bytes(100)
          signature = PostQuantum.sign(unquote(set), secret, PostQuantum.message(data, ""))
          assert Cryptoki.verify(hsm, public, :slh_dsa, data, signature) == :ok
          mechanism = {:slh_dsa, hedge: :deterministic_required}
          assert Cryptoki.sign!(hsm, private, mechanism, data) == signature
        end
      end
    end

    for hash <- @hashes do
      mechanism = :"hash_slh_dsa_#{hash}"

      check "#{mechanism}",
            [{mechanism, [:sign, :verify]}, hash_slh_dsa: [:sign, :verify]],
            %{hsm: hsm} do
        {hash, set} = {unquote(hash), :slh_dsa_sha2_128f}
        {public, private, _secret} = pair(hsm, set)
        data = bytes(1000)
        context = [context: "a context"]
        message = PostQuantum.message(data, "a context", hash)

        signature = Cryptoki.sign!(hsm, private, {unquote(mechanism), context}, data)
        assert PostQuantum.valid?(set, value(hsm, public), message, signature)
        assert Cryptoki.verify(hsm, public, {unquote(mechanism), context}, data, signature) == :ok

        assert_refused(
          Cryptoki.verify(hsm, public, {unquote(mechanism), context}, flip(data), signature)
        )

        on_digest = {:hash_slh_dsa, [hash: hash] ++ context}
        digest = Outside.hash(hash, data)
        assert Cryptoki.verify(hsm, public, on_digest, digest, signature) == :ok
        signature = Cryptoki.sign!(hsm, private, on_digest, digest)
        assert PostQuantum.valid?(set, value(hsm, public), message, signature)
      end
    end
  end

  defp pair(hsm, set) do
    template = [parameter_set: set, private: [sensitive: false, extractable: true]]
    {public, private} = Cryptoki.generate_key_pair!(hsm, :slh_dsa_key_pair_gen, template)
    {public, private, value(hsm, private)}
  end
end
