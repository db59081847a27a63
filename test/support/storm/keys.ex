defmodule Cryptoki.Test.Storm.Keys do
  @moduledoc false
  # Two keys, and signatures that are of the one that was asked for, or errors.

  alias Cryptoki.Test.Storm

  @doc "Makes them: their labels with reference and public key."
  @spec make(Cryptoki.hsm()) :: [{String.t(), Cryptoki.Key.t(), tuple}]
  def make(hsm) do
    for {label, id} <- [{"one", <<1>>}, {"two", <<2>>}] do
      template = [label: label, id: id, token: true, curve: :secp256r1]
      {_public, private} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, template)
      {label, private, Cryptoki.public_key!(hsm, private)}
    end
  end

  @doc "Signs something with one of them, named in one of the ways, and looks whether it is of that one."
  @spec sign(Cryptoki.hsm(), [tuple], keyword) :: term
  def sign(hsm, keys, opts) do
    {label, private, public} = Storm.one(keys)
    data = :rand.bytes(20)
    key = Storm.one([private, [label: label], "pkcs11:object=#{label};type=private"])
    answer = Cryptoki.sign(hsm, key, :ecdsa_sha256, data, [format: :der] ++ opts)

    with {:ok, signature} <- answer do
      unless :public_key.verify(data, :sha256, signature, public),
        do: raise("a signature with another key than #{label}")
    end

    Storm.outcome(answer)
  end
end
