defmodule Cryptoki.RawRSATest do
  use ExUnit.Case, async: true

  alias Cryptoki.Test.{FaultyModule, MainToken}

  @script Path.expand("../support/raw_rsa.exs", __DIR__)

  # SoftHSM ends the process: so this one has its own.
  test "more bytes than the modulus has are refused before the library sees them" do
    arguments = ["-pa", Application.app_dir(:cryptoki, "ebin"), @script, MainToken.uri()]
    opts = [stderr_to_stdout: true, env: MainToken.environment(MainToken.options())]
    {output, status} = System.cmd("elixir", arguments, opts)
    assert status == 3, output
    assert Enum.uniq(String.split(output, "\n", trim: true)) == ["data_len_range"]
  end

  test "only raw RSA asks for the modulus, and only for what may be too long" do
    module = FaultyModule.new()
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 1)})
    pair = [modulus_bits: 1024, label: "raw", sign: true, verify: true]
    {_public, key} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, pair)

    asked = fn mechanism, data ->
      sign = fn -> Cryptoki.sign(hsm, key, mechanism, data) end
      # What is asked of a key once is known then.
      sign.()
      {_signature, calls} = FaultyModule.calls(module, sign)
      for {function, "ran", rv} <- calls, do: {function, rv}
    end

    assert asked.(:rsa_pkcs, "data") == [{"C_SignInit", "0x0"}, {"C_Sign", "0x0"}]

    # Kryoptic fails to sign what is shorter than the modulus: what is asked then is whether it was too long.
    short = if MainToken.name() == :kryoptic, do: "0x30", else: "0x0"
    assert [{"C_SignInit", "0x0"}, {"C_Sign", ^short} | later] = asked.(:rsa_x_509, "data")
    assert later == [] or short != "0x0"
    long = asked.(:rsa_x_509, <<0::1024>>)
    assert {"C_GetAttributeValue", "0x0"} in long and {"C_Sign", "0x0"} in long
  end
end
