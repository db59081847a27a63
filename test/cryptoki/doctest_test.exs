defmodule Cryptoki.DoctestTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  # The examples in the docs run on a token of their own, in an instance called MyApp.HSM.

  alias Cryptoki.Test.SoftHSM

  setup_all do
    SoftHSM.create("payments")

    start_supervised!(
      {Cryptoki,
       SoftHSM.options(name: MyApp.HSM, label: "payments", library: SoftHSM.library_copy())}
    )

    rsa = [label: "invoice", id: <<1>>, token: true, modulus_bits: 2048]
    Cryptoki.generate_key_pair!(MyApp.HSM, :rsa_pkcs_key_pair_gen, rsa)

    ec = [label: "contract", id: <<2>>, token: true, curve: :secp256r1]
    Cryptoki.generate_key_pair!(MyApp.HSM, :ec_key_pair_gen, ec)

    aes = [label: "archive", id: <<3>>, token: true, value_len: 32]
    Cryptoki.generate_key!(MyApp.HSM, :aes_key_gen, aes)

    %{cert: der} = :public_key.pkix_test_root_cert(~c"invoice", [])

    Cryptoki.create!(MyApp.HSM,
      class: :certificate,
      certificate_type: :x_509,
      label: "invoice",
      id: <<1>>,
      token: true,
      subject: <<0x30, 0>>,
      value: der
    )

    :ok
  end

  doctest Cryptoki
  doctest Cryptoki.Operation
end
