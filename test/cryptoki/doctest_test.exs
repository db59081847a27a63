defmodule Cryptoki.DoctestTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  # The examples in the docs run on a token of their own, in an instance called MyApp.HSM.

  alias Cryptoki.Test.{MainToken, Payments, TLS}

  # What SoftHSM answers, and what Kryoptic refuses.
  @elsewhere if MainToken.name() == :kryoptic, do: [library_info: 2, seed_random: 3], else: []

  setup_all do
    start_supervised!({Cryptoki, Payments.options(name: MyApp.HSM)})
    Payments.fill(MyApp.HSM)
  end

  doctest Cryptoki, except: @elsewhere
  doctest Cryptoki.CMS
  doctest Cryptoki.JWE
  doctest Cryptoki.Envelope
  doctest Cryptoki.JWK
  doctest Cryptoki.JWS
  doctest Cryptoki.Operation
  doctest Cryptoki.SSH
  doctest Cryptoki.Testing, only: [child_spec: 1]
  doctest Cryptoki.Timestamp
  doctest Cryptoki.Transfer
  doctest Cryptoki.X509
  unless TLS.missing(), do: doctest(Cryptoki.SSL)
end
