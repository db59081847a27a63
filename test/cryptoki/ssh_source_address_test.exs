defmodule Cryptoki.SSHSourceAddressTest do
  use ExUnit.Case, async: true

  # Which addresses a certificate may name is OpenSSH's to say: ssh-keygen makes certificates with a list of
  # them, or refuses it, by the function that sshd has.

  alias Cryptoki.SSH.SourceAddress
  alias Cryptoki.Test.{Scratch, SSH}

  @taken [
    "10.0.0.1",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "10.1.2.3/32",
    "192.168.0.0/16,10.0.0.0/8,2001:db8::/32",
    "::/0",
    "::1",
    "::1/128",
    "2001:db8::8000/113",
    "2001:DB8::",
    "1:2:3:4:5:6:7:8"
  ]

  @refused [
    "",
    ",",
    "10.0.0.0/8,",
    "10.0.0.1/8",
    "10.0.0.0/7,10.0.0.1/31",
    "2001:db8::1/64",
    "128.0.0.0/0",
    "::1/0",
    "10.0.0.0/33",
    "::/129",
    "10.0.0.0/",
    "10.0.0.0/-1",
    "10.0.0.0/+8",
    "10.0.0.0/8/8",
    "/8",
    "10.0.0.256",
    "10.0.0.0/255.0.0.0",
    "fe80::1%eth0",
    "fe80::1%1",
    "[::1]",
    "!10.0.0.0/8",
    "10.0.0.*",
    " 10.0.0.0/8",
    "10.0.0.0/8 ",
    "localhost",
    "example.org",
    "1:2:3",
    "1:2:3:4:5:6:7:8:9",
    "::ffff:10.0.0.0/8",
    "10.0.0.0/8\0"
  ]

  # These are taken by ssh-keygen, and meant by nobody.
  @stricter ["1.2.3", "10", "0x7f.1", "10.0.0.0/0032", "010.0.0.1/32"]

  setup_all do
    directory = Scratch.directory("ssh-source-address")
    {authority, _line} = SSH.key(directory, ~w(-t ed25519))
    {subject, _line} = SSH.key(directory, ~w(-t ed25519))
    {:ok, taken?: &taken?(authority, subject, &1)}
  end

  defp taken?(authority, subject, list) do
    arguments =
      ~w(-q -s #{authority} -I x -n x -O) ++ ["source-address=#{list}", subject <> ".pub"]

    case SSH.keygen(arguments) do
      {_text, 0} -> true
      {text, 255} -> text =~ "source-address" && false
    end
  end

  test "what ssh-keygen takes is taken as it is, alone and in a list", %{taken?: taken?} do
    for text <- @taken do
      assert taken?.(text), text
      assert SourceAddress.list(text) == {:ok, text}
      assert SourceAddress.list(String.split(text, ",")) == {:ok, text}

      assert SourceAddress.list(["192.0.2.1" | String.split(text, ",")]) ==
               {:ok, "192.0.2.1," <> text}
    end
  end

  test "what it refuses is refused, wherever it stands", %{taken?: taken?} do
    for text <- @refused do
      # No argument of a program has a NUL.
      unless text =~ "\0", do: refute(taken?.(text), inspect(text))
      assert {:error, why} = SourceAddress.list(text)
      assert {:error, ^why} = SourceAddress.list(["192.0.2.1" | String.split(text, ",")])
    end

    assert SourceAddress.list("10.0.0.1/8") ==
             {:error, ", and 10.0.0.1/8 has bits behind its mask"}
  end

  test "what is no address is refused also where it is taken for one", %{taken?: taken?} do
    for text <- @stricter do
      assert is_boolean(taken?.(text))
      assert {:error, _why} = SourceAddress.list(text)
    end
  end

  test "networks by chance are judged alike", %{taken?: taken?} do
    for _ <- 1..40 do
      {bytes, most} = Enum.random([{:rand.bytes(4), 32}, {:rand.bytes(16), 128}])
      bits = :rand.uniform(most + 1) - 1
      zero = Enum.random([most - bits, max(most - bits - 1, 0)])
      kept = Bitwise.bsr(:binary.decode_unsigned(bytes), zero)
      address = address(<<Bitwise.bsl(kept, zero)::size(most)>>)
      text = "#{address}/#{bits}"
      assert match?({:ok, ^text}, SourceAddress.list(text)) == taken?.(text), text
    end
  end

  defp address(<<a, b, c, d>>), do: :inet.ntoa({a, b, c, d})
  defp address(v6), do: :inet.ntoa(List.to_tuple(for(<<part::16 <- v6>>, do: part)))

  test "what is no list of texts is refused" do
    for other <- [nil, 5, :any, [], [5], ["10.0.0.0/8" | "x"], %{}, {1, 2}, [<<255>>], <<255>>],
        do: assert({:error, ""} = SourceAddress.list(other))
  end
end
