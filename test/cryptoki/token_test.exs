defmodule Cryptoki.TokenTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  alias Cryptoki.{Error, Token}
  alias Cryptoki.Test.MainToken

  setup do
    label = "admin #{System.unique_integer([:positive])}"
    %{label: label, opts: MainToken.free()}
  end

  test "a token from its making to a changed PIN", %{label: label, opts: opts} do
    # The library stays initialised for the whole test, as it does beside a running instance.
    start_supervised!({Cryptoki, opts ++ [token: [label: "never there"]]})

    assert :ok = Token.init(:free, opts ++ [label: label, so_pin: "so-1234"])

    assert {:error, %Error{reason: :pin_incorrect}} =
             Token.init_pin([label: label], opts ++ [so_pin: "so-9999", pin: "1234"])

    assert :ok =
             Token.init_pin([label: label], opts ++ [so_pin: fn -> "so-1234" end, pin: "1234"])

    assert {:error, %Error{reason: :pin_incorrect}} =
             Token.set_pin([label: label], opts ++ [old: "9999", new: "4321"])

    assert :ok =
             Token.set_pin(
               "pkcs11:token=#{URI.encode(label)}",
               opts ++ [old: "1234", new: "4321"]
             )

    assert :ok =
             Token.set_pin([label: label], opts ++ [user: :so, old: "so-1234", new: "so-4321"])

    {:ok, hsm} = Cryptoki.start_link(opts ++ [token: [label: label], pin: fn -> "4321" end])
    assert {:ok, _key} = Cryptoki.generate_key(hsm, :aes_key_gen, value_len: 16)
    Cryptoki.stop(hsm)
  end

  test "what is not there is said", %{opts: opts} do
    assert {:error, %Error{reason: :token_absent} = error} =
             Token.set_pin([label: "nowhere"], opts ++ [old: "1", new: "2"])

    assert Exception.message(error) =~ "pkcs11:token=nowhere"

    assert {:error, %Error{reason: :token_absent}} =
             Token.set_pin(4711, opts ++ [old: "1", new: "2"])

    assert {:error, %Error{reason: :library_not_loaded}} =
             Token.init(:free, library: "/no/such.so", label: "x", so_pin: "1234")
  end

  test "mistakes raise and show no PIN", %{opts: opts} do
    for {call, text} <- [
          {fn -> Token.init(:free, opts ++ [so_pin: "71717171"]) end, "label:"},
          {fn -> Token.init(:free, opts ++ [label: "x"]) end, "so_pin:"},
          {fn -> Token.init(:free, opts ++ [label: "x", so_pni: "71717171"]) end, ":so_pin"},
          {fn -> Token.init_pin(1, opts ++ [so_pin: 71_717_171, pin: "x"]) end, "so_pin:"},
          {fn -> Token.set_pin(1, opts ++ [old: "71717171", new: "1", user: :me]) end, ":so"}
        ] do
      error = catch_error(call.())
      assert %ArgumentError{message: message} = error
      assert message =~ text
      refute message =~ "71717171"
    end
  end
end
