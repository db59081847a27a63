defmodule Cryptoki.FoundAgainTest do
  # A key whose handle is of before is looked for by its names: what has them now must be the same key.
  use ExUnit.Case, async: false

  alias Cryptoki.Error
  alias Cryptoki.Test.{MainToken, SoftHSM}

  setup do
    %{hsm: start_supervised!({Cryptoki, MainToken.options(sessions: 1)})}
  end

  test "another pair with its names is not the key", %{hsm: hsm} do
    names = [label: "replaced #{System.unique_integer([:positive])}", id: <<1>>, token: true]

    make = fn ->
      Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, [modulus_bits: 2048] ++ names)
    end

    {public, private} = make.()
    remembered = for key <- [private, public], do: %{key | handle: nil, unique_id: nil}
    [private_before, public_before] = remembered
    signature = Cryptoki.sign!(hsm, private_before, :sha256_rsa_pkcs, "data")
    assert :ok = Cryptoki.verify(hsm, public_before, :sha256_rsa_pkcs, "data", signature)

    for key <- [private, public], do: :ok = Cryptoki.destroy(hsm, key)
    {public, private} = make.()

    assert {:error, %Error{reason: :key_not_found}} =
             Cryptoki.sign(hsm, private_before, :sha256_rsa_pkcs, "data")

    assert {:error, %Error{reason: :key_not_found}} =
             Cryptoki.verify(hsm, public_before, :sha256_rsa_pkcs, "data", signature)

    assert {:error, %Error{reason: :key_not_found}} = Cryptoki.destroy(hsm, private_before)
    for key <- [private, public], do: :ok = Cryptoki.destroy(hsm, key)
  end

  # Libraries count alike, but no two handles of a VM are the same.
  test "a handle that another instance gave is none here" do
    [{mine, key}, {theirs, other}] =
      for name <- ["mine", "theirs"] do
        hsm = start_supervised!({Cryptoki, MainToken.own(label: name, sessions: 1)}, id: name)
        {hsm, Cryptoki.generate_key!(hsm, :aes_key_gen, value_len: 16, token: true, label: name)}
      end

    assert key.handle != other.handle
    assert {:ok, _} = Cryptoki.encrypt(mine, key, :aes_ecb, <<0::128>>)

    assert {:error, %Error{reason: :key_not_found}} =
             Cryptoki.encrypt(theirs, key, :aes_ecb, <<0::128>>)
  end

  # With the same value: only the token tells one from the other.
  test "the same secret on another token is not the key", %{hsm: hsm} do
    [_first, second | _] = SoftHSM.labels()

    other =
      start_supervised!({Cryptoki, MainToken.options(label: second, sessions: 1)}, id: :other)

    label = "twin #{System.unique_integer([:positive])}"

    template = [
      class: :secret_key,
      key_type: :aes,
      value: <<7::128>>,
      label: label,
      token: true,
      encrypt: true
    ]

    [mine, theirs] = for at <- [hsm, other], do: Cryptoki.create!(at, template)
    moved = %{mine | handle: nil, unique_id: nil}
    assert {:ok, _} = Cryptoki.encrypt(hsm, moved, :aes_ecb, <<0::128>>)

    assert {:error, %Error{reason: :key_not_found, detail: detail}} =
             Cryptoki.encrypt(other, moved, :aes_ecb, <<0::128>>)

    assert detail =~ "is on another token"
    :ok = Cryptoki.destroy(hsm, mine)
    :ok = Cryptoki.destroy(other, theirs)
  end
end
