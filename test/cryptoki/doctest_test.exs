defmodule Cryptoki.DoctestTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  # The examples in the docs run on a token of their own, in an instance called MyApp.HSM.

  alias Cryptoki.Test.{Payments, TLS}

  setup_all do
    start_supervised!({Cryptoki, Payments.options(name: MyApp.HSM)})
    Payments.fill(MyApp.HSM)
  end

  doctest Cryptoki
  doctest Cryptoki.CMS
  doctest Cryptoki.JWK
  doctest Cryptoki.JWS
  doctest Cryptoki.Operation
  doctest Cryptoki.SSH
  doctest Cryptoki.X509
  unless TLS.missing(), do: doctest(Cryptoki.SSL)
end
