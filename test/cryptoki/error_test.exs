defmodule Cryptoki.ErrorTest do
  use ExUnit.Case, async: true

  alias Cryptoki.{Error, Names}

  doctest Cryptoki.Error

  # API: the reasons of our own.
  @ours ~w[timeout busy shutdown token_absent locked key_not_found key_ambiguous session_lost
       library_not_loaded module_misbehaved panic invalid_argument unsupported]a

  test "the reasons of our own have texts and no code" do
    for reason <- @ours do
      assert reason in Error.reasons()
      error = Error.new(reason)
      assert %Error{reason: ^reason, code: nil, function: nil, detail: nil} = error
      assert String.length(Exception.message(error)) > 20
    end
  end

  test "at least sixty codes of the standard have a text of their own" do
    standard =
      for reason <- Error.reasons(), match?({:ok, _}, Names.code(:rv, reason)), do: reason

    assert length(standard) >= 60
    assert standard -- Keyword.keys(Names.all(:rv)) == []
  end

  test "no two reasons have the same text, and none is a stub" do
    texts = for reason <- Error.reasons(), do: Exception.message(Error.new(reason))
    assert Enum.uniq(texts) == texts
    for text <- texts, do: assert(text =~ ~r/^[a-z].* .*[^.]$/, text)
  end

  test "every code of the standard makes a sentence with its name and function" do
    for {name, code} <- Names.all(:rv), name != :ok do
      error = Error.from_native({:rv, code, :C_Sign, :other})
      assert error.reason == name
      assert error.code == code
      message = Exception.message(error)
      assert message =~ "C_Sign answered CKR_#{String.upcase(Atom.to_string(name))}: "
    end
  end

  test "codes without a name are told by number" do
    vendor = Error.from_native({:rv, 0x80000123, :C_Sign, :other})
    assert %Error{reason: 0x80000123, code: 0x80000123, executed: :maybe} = vendor

    assert Exception.message(vendor) =~
             "C_Sign answered 0x80000123: a code of the library's vendor"

    unknown = Error.from_native({:rv, 4, :C_Sign, :other})
    assert Exception.message(unknown) =~ "0x4: a code PKCS #11 does not define"

    assert Exception.message(Error.from_native({:rv, 0xA0, nil, :pin})) =~
             "the library answered CKR_PIN"
  end

  test "what the native side found itself" do
    assert %Error{reason: :library_not_loaded, detail: "no such file", code: nil} =
             error = Error.from_native({:own, :library_not_loaded, "no such file"})

    assert Exception.message(error) =~
             ~r/^the PKCS #11 library cannot be loaded; .* \(no such file\)$/

    assert Error.from_native({:own, :busy, ""}).detail == nil
  end

  test "executed says whether asking again may do something twice" do
    for reason <- ~w[timeout session_lost panic module_misbehaved device_error device_removed
                     general_error function_failed]a do
      assert {reason, Error.new(reason).executed} == {reason, :maybe}
    end

    for reason <- ~w[busy shutdown token_absent key_not_found pin_incorrect mechanism_invalid
                     session_handle_invalid user_not_logged_in signature_invalid]a do
      assert {reason, Error.new(reason).executed} == {reason, false}
    end

    assert Error.new(:timeout, nil, executed: false).executed == false
    assert Error.from_native({:rv, 0x30, :C_GenerateKey, :device}).executed == :maybe
    # A card that goes while it works is not present either, as OpenSC has it.
    assert Error.from_native({:rv, 0xE0, :C_GenerateKey, :absent}).executed == :maybe
  end

  test "a number that is the reason of another error is a sentence as well" do
    error = %Error{reason: 0x80000123, detail: "not connected, since C_GetTokenInfo answered it"}
    assert Exception.message(error) =~ ~r/^a code of the library's vendor, see there \(not conn/
    assert Exception.message(%Error{reason: 0x1F7}) =~ ~r/^a code PKCS #11 does not define/
  end

  test "it is an exception, and a field that does not exist is refused" do
    assert_raise Error, ~r/nothing matches the selector.* \(label: "x"\)$/, fn ->
      raise Error.new(:key_not_found, ~s(label: "x"))
    end

    assert_raise KeyError, fn -> Error.new(:busy, nil, pin: "1234") end
    assert Exception.message(Error.new(:some_new_reason)) == "some new reason"
    assert Exception.message(Error.new(:busy, nil, function: :C_Login)) =~ ~r/^C_Login: too much/
  end
end
