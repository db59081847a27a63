defmodule Cryptoki.RawRSATest do
  use ExUnit.Case, async: true

  alias Cryptoki.{Error, Operation}
  alias Cryptoki.Test.{FaultyModule, MainToken, Token}

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

  # SoftHSM has no messages.
  @tag skip: Token.named(:kryoptic).skip
  test "each message has the room of the modulus, and one that is too long leaves the next alone" do
    module = FaultyModule.new(token: :kryoptic)
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 1)})
    pair = [modulus_bits: 1024, label: "raw", sign: true, verify: true]
    {public, private} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, pair)
    # Whatever it can itself: what counts is what it is asked.
    FaultyModule.control(module, "C_Message* rv=0\nC_VerifyMessage* rv=0\nC_SignMessage* rv=0")
    {fits, long} = {<<0::1024>>, <<0::1032>>}

    asked = fn work ->
      {answer, calls} = FaultyModule.calls(module, work)
      {answer, for({function, "faked", _rv} <- calls, do: function)}
    end

    Cryptoki.with_session(hsm, fn session ->
      op = Cryptoki.start!(session, :message_verify, public, :rsa_x_509)
      verify = fn data -> asked.(fn -> Operation.message(op, nil, "signature", data) end) end

      for _message <- 1..2 do
        assert verify.(fits) == {:ok, ["C_VerifyMessage"]}
        assert {{:error, %Error{reason: :data_len_range, executed: false}}, []} = verify.(long)
      end

      assert {:ok, [_begin | _next]} = verify.({:stream, [fits]})

      assert {{:error, %Error{reason: :data_len_range}}, calls} = verify.({:stream, [fits, fits]})

      refute "C_VerifyMessageNext" in calls

      op = Cryptoki.start!(session, :message_sign, private, :rsa_x_509)
      sign = fn -> Operation.message(op, nil, long) end
      assert {{:error, %Error{reason: :data_len_range}}, []} = asked.(sign)
      FaultyModule.control(module, "")
    end)
  end
end
