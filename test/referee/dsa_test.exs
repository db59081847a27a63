defmodule Cryptoki.Referee.DsaTest do
  use Cryptoki.Test.Referee, async: true

  # DSA, for what is old: domain parameters from OpenSSL and from the token, signatures against :crypto.

  @hashes ~w[sha1 sha224 sha256 sha384 sha512]a

  setup_all do
    %{parameters: parameters()}
  end

  on_each_token do
    for hash <- @hashes do
      mechanism = :"dsa_#{hash}"

      check "#{mechanism}",
            [:dsa_key_pair_gen, {mechanism, [:sign, :verify]}],
            %{hsm: hsm} = context do
        [p, q, g] = context.parameters
        template = [prime: p, subprime: q, base: g]
        {public, private} = Cryptoki.generate_key_pair!(hsm, :dsa_key_pair_gen, template)
        key = Enum.map([p, q, g, value(hsm, public)], &:binary.decode_unsigned/1)
        hash = Outside.hash_name(unquote(hash))

        for size <- sizes(), data = bytes(size) do
          raw = Cryptoki.sign!(hsm, private, unquote(mechanism), data)
          assert :crypto.verify(:dss, hash, data, OpenSSL.ecdsa_der(raw), key)
          assert Cryptoki.verify(hsm, public, unquote(mechanism), data, raw) == :ok
          refute Cryptoki.valid?(hsm, public, unquote(mechanism), [data, 0], raw)
        end

        raw = Cryptoki.sign!(hsm, private, :dsa, :crypto.hash(:sha, "data"))
        assert :crypto.verify(:dss, :sha, "data", OpenSSL.ecdsa_der(raw), key)
      end
    end

    check "parameters made by the token", [dsa_parameter_gen: :generate, dsa: :sign], %{hsm: hsm} do
      template = [prime_bits: 1024]
      parameters = Cryptoki.generate_key!(hsm, :dsa_parameter_gen, template)
      numbers = Cryptoki.attributes!(hsm, parameters, [:prime, :subprime, :base])
      template = Map.to_list(numbers)
      {public, private} = Cryptoki.generate_key_pair!(hsm, :dsa_key_pair_gen, template)
      key = [numbers.prime, numbers.subprime, numbers.base, value(hsm, public)]
      raw = Cryptoki.sign!(hsm, private, :dsa, :crypto.hash(:sha, "data"))
      key = Enum.map(key, &:binary.decode_unsigned/1)
      assert :crypto.verify(:dss, :sha, "data", OpenSSL.ecdsa_der(raw), key)
    end
  end

  # p, q and g from OpenSSL; OTP's ASN.1 has another name for them in each release.
  defp parameters do
    options = "-pkeyopt dsa_paramgen_bits:1024 -pkeyopt dsa_paramgen_q_bits:160"
    command = "openssl genpkey -genparam -algorithm DSA -quiet #{options} | openssl asn1parse"
    {text, 0} = System.cmd("sh", ["-c", command], stderr_to_stdout: true)
    for [_all, number] <- Regex.scan(~r/INTEGER +:([0-9A-F]+)/, text), do: Base.decode16!(number)
  end
end
