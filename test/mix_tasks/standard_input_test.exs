defmodule Cryptoki.MixTasks.StandardInputTest do
  # What a pipe gives to a task is what the token gets, byte for byte, or nothing at all. Erlang/OTP 26 and 27 make letters of
  # it before anybody asks.
  use ExUnit.Case, async: true

  import Cryptoki.Test.MixTasks

  alias Cryptoki.Test.MixTasks

  @key "pkcs11:token=payments;object=input"

  @text %{
    "nothing" => "",
    "letters of two and of four bytes" => "Grüße 🔑",
    "lines as Windows ends them" => "a\r\nü\r\n\0\r",
    "more than one read" => String.duplicate("0123456789abcdeü", 10_000)
  }
  @bytes %{
    "letters first" => "ü" <> <<0xFF, 0xFC>> <> "a",
    "none that begins a letter" => <<0xFF, 0x80, 0>>,
    "any" => for(n <- 0..255, into: "", do: <<n>>)
  }

  setup_all do
    context = MixTasks.new(~w[payments]) |> with_environment([{"LC_ALL", "C.UTF-8"}])
    {_, 0, _} = mix(context, ["keygen", @key, "-t", "aes"])
    context
  end

  for {name, bytes} <- Map.merge(@text, @bytes) do
    @tag bytes: bytes, is_text: is_map_key(@text, name)
    test "#{name}", %{bytes: bytes, is_text: is_text} = context do
      name = "input-#{System.unique_integer([:positive])}"
      file(context, name, bytes)
      encrypt = ["encrypt", @key, "-m", "aes_cbc_pad", "-o", name <> ".sealed"]
      decrypt = ["decrypt", @key, "-m", "aes_cbc_pad", "-i", name <> ".sealed"]

      # It is there before the VM is.
      case run(context, encrypt, "<#{name}") do
        {"", 0, ""} ->
          assert mix(context, decrypt) == {bytes, 0, ""}

        {"", 2, refusal} ->
          assert reads_early?() and not is_text
          assert refusal =~ "has read bytes there that are no text"
          refute File.exists?(file(context, name <> ".sealed"))
      end

      # As the refusal says.
      assert {"", 0, ""} = run(context, encrypt ++ ["-i", "/dev/fd/3"], "3<#{name} </dev/null")
      assert mix(context, decrypt) == {bytes, 0, ""}
    end
  end

  test "a VM that is told that it is bytes takes any", context do
    told = with_bytes(context)
    bytes = @bytes["letters first"]
    file(told, "told", bytes)
    assert {"", 0, ""} = run(told, ["encrypt", @key, "-o", "told.sealed"], "<told")
    assert mix(context, ["decrypt", @key, "-i", "told.sealed"]) == {bytes, 0, ""}
  end
end
