defmodule Cryptoki.Test.KeyPairs do
  @moduledoc false
  # Key pairs of the kinds that certificates are made for, in the session of an instance.

  @kinds %{
    rsa: {:rsa_pkcs_key_pair_gen, [modulus_bits: 2048]},
    ed25519: {:ec_edwards_key_pair_gen, [curve: :ed25519]},
    ed448: {:ec_edwards_key_pair_gen, [curve: :ed448]}
  }

  alias Cryptoki.Test.{MainToken, OpenSSL, Parts}

  @doc "The private keys by their kinds, `:rsa` or the name of a curve, as far as the main token has them."
  @spec make(Cryptoki.hsm(), [atom], keyword) :: %{atom => Cryptoki.Key.t()}
  def make(hsm, kinds, more \\ []) do
    for kind <- kinds, !MainToken.lacks_key(kind), into: %{} do
      {mechanism, template} = Map.get(@kinds, kind, {:ec_key_pair_gen, [curve: kind]})
      # The id joins the halves.
      template = [id: :crypto.strong_rand_bytes(8)] ++ more ++ template
      {_public, private} = Cryptoki.generate_key_pair!(hsm, mechanism, template)
      {kind, private}
    end
  end

  @doc "A key of OpenSSL's for PSS only, by the arguments of `openssl genpkey`, on the token; its certificate."
  @spec pss(%{hsm: Cryptoki.hsm(), directory: Path.t()}, [String.t()]) ::
          {Cryptoki.Key.t(), String.t()}
  def pss(%{hsm: hsm, directory: directory}, arguments) do
    file = Path.join(directory, "pss-#{System.unique_integer([:positive])}")
    size = ~w(-pkeyopt rsa_keygen_bits:2048)
    {_, 0} = OpenSSL.openssl(~w(genpkey -algorithm RSA-PSS -out #{file}.key) ++ size ++ arguments)
    {_, 0} = OpenSSL.openssl(~w(req -x509 -key #{file}.key -subj /CN=pss -out #{file}.pem))
    [{_type, pkcs8, _}] = :public_key.pem_decode(File.read!(file <> ".key"))
    {:ok, [{0x30, fields, _}]} = Parts.split(pkcs8)
    {:ok, [_version, _algorithm, {4, private_key, _} | _]} = Parts.split(fields)
    numbers = private_key |> then(&:public_key.der_decode(:RSAPrivateKey, &1)) |> Tuple.to_list()

    names =
      ~w(modulus public_exponent private_exponent prime_1 prime_2 exponent_1 exponent_2 coefficient)a

    numbers = numbers |> Enum.slice(2, 8) |> Enum.map(&:binary.encode_unsigned/1)
    template = [class: :private_key, key_type: :rsa, sign: true] ++ Enum.zip(names, numbers)
    {Cryptoki.create!(hsm, template), File.read!(file <> ".pem")}
  end
end
