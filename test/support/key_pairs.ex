defmodule Cryptoki.Test.KeyPairs do
  @moduledoc false
  # Key pairs of the kinds that certificates are made for, in the session of an instance.

  @kinds %{
    rsa: {:rsa_pkcs_key_pair_gen, [modulus_bits: 2048]},
    ed25519: {:ec_edwards_key_pair_gen, [curve: :ed25519]},
    ed448: {:ec_edwards_key_pair_gen, [curve: :ed448]}
  }

  alias Cryptoki.Test.MainToken

  @doc "The private keys by their kinds, `:rsa` or the name of a curve, as far as the main token has them."
  @spec make(Cryptoki.hsm(), [atom]) :: %{atom => Cryptoki.Key.t()}
  def make(hsm, kinds) do
    for kind <- kinds, !MainToken.lacks_key(kind), into: %{} do
      {mechanism, template} = Map.get(@kinds, kind, {:ec_key_pair_gen, [curve: kind]})
      # The id joins the halves.
      template = [id: :crypto.strong_rand_bytes(8)] ++ template
      {_public, private} = Cryptoki.generate_key_pair!(hsm, mechanism, template)
      {kind, private}
    end
  end
end
