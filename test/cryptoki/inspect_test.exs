defmodule Cryptoki.InspectTest do
  # What people see of each struct: enough, and nothing secret.
  use ExUnit.Case, async: true

  alias Cryptoki.{Error, Key, URI}
  alias Cryptoki.Test.{MainToken, SoftHSM}

  test "an error shows what it has, its code as the standard writes it" do
    error = Error.from_native({:rv, 0xA0, :C_Login, :pin})

    assert inspect(error) ==
             "%Cryptoki.Error{reason: :pin_incorrect, function: :C_Login, code: 0xA0}"

    # It can be typed back.
    assert {^error, _} = Code.eval_string(inspect(error))

    assert inspect(Error.new(:timeout, "no answer")) ==
             ~s(%Cryptoki.Error{reason: :timeout, detail: "no answer", executed: :maybe})

    vendor = Error.from_native({:rv, 0x80000001, :C_Sign, :other})
    assert inspect(vendor) =~ "reason: 2147483649"
  end

  test "keys, URIs and PINs" do
    assert inspect(%Key{class: :private_key, key_type: :ec, label: "k", id: <<1>>, token: true}) ==
             ~s(#Cryptoki.Key<private ec "k" id=01>)

    assert inspect(URI.parse!("pkcs11:token=a?pin-value=1234")) ==
             "#Cryptoki.URI<pkcs11:token=a?pin-value=[hidden]>"

    assert inspect(Cryptoki.Pin.wrap("1234")) == "#Cryptoki.Pin<string>"
  end

  test "a URI made by hand shows no PIN, whatever it holds" do
    for pin <- ["7777-pin", ~c"7777-pin", 77_779_999, {:ok, "7777-pin"}, fn -> "7777-pin" end],
        other <- [[], [token: 7], [slot_id: "x"], [vendor: nil]] do
      uri = struct!(%URI{pin_value: pin}, other)
      shown = inspect(uri, limit: :infinity)
      refute shown =~ "7777" or shown =~ "55, 55, 55, 55"
      assert shown =~ "#Cryptoki.URI<"
      assert if(other == [], do: shown =~ "[hidden]", else: shown =~ "that no URI has")

      unless is_binary(pin) and other == [] do
        error = assert_raise ArgumentError, fn -> to_string(uri) end
        refute inspect(error) =~ "7777"
      end
    end
  end

  test "sessions and operations, without what they hold" do
    hsm = start_supervised!({Cryptoki, MainToken.options(name: __MODULE__.HSM, sessions: 1)})
    {:ok, key} = Cryptoki.generate_key(hsm, :aes_key_gen, value_len: 16)

    Cryptoki.with_session(hsm, fn session ->
      assert inspect(session) == "#Cryptoki.Session<Cryptoki.InspectTest.HSM>"
      iv = "an IV of 16 byte"
      {:ok, op} = Cryptoki.start(session, :encrypt, key, {:aes_cbc_pad, iv: iv})

      assert inspect(op) ==
               "#Cryptoki.Operation<encrypt :aes_cbc_pad on Cryptoki.InspectTest.HSM>"
    end)

    status = inspect(Cryptoki.status!(hsm), limit: :infinity)
    assert status =~ "state: :ready"
    refute status =~ SoftHSM.pin()
  end
end
