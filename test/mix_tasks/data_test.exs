defmodule Cryptoki.MixTasks.DataTest do
  # Data and keys through keys, by the Mix tasks, and where what they give goes. OpenSSL judges.
  use ExUnit.Case, async: true

  import Cryptoki.Test.Await

  import Cryptoki.Test.MixTasks

  alias Cryptoki.Test.MixTasks

  @token "pkcs11:token=payments"
  @archive @token <> ";object=archive"
  @kek @token <> ";object=kek"

  setup_all do
    context = MixTasks.new(~w[payments])
    keys = for name <- ~w[archive kek], into: %{}, do: {name, :crypto.strong_rand_bytes(32)}

    for {name, bytes} <- keys do
      uses = if name == "kek", do: "wrap,unwrap", else: "encrypt,decrypt"
      path = file(context, name, bytes)

      import = [
        "import",
        "#{@token};object=#{name};id=#{name}",
        "-t",
        "aes",
        "-i",
        path,
        "-f",
        uses
      ]

      {_, 0, ""} = mix(context, import ++ ["-a", "extractable=true"])
    end

    {_, 0, _} = mix(context, ["keygen", @token <> ";object=signer;id=%02", "-t", "ec"])
    Map.put(context, :keys, keys)
  end

  test "encrypt and decrypt agree with OpenSSL about what is in the file", context do
    text = :crypto.strong_rand_bytes(1000)
    path = file(context, "text", text)
    key = context.keys["archive"]

    assert {"", 0, ""} = mix(context, ["encrypt", @archive, "-i", path, "-o", "gcm"])

    <<iv::binary-size(12), sealed::binary-size(1000), tag::binary-size(16)>> =
      File.read!(file(context, "gcm"))

    assert :crypto.crypto_one_time_aead(:aes_256_gcm, key, iv, sealed, "", tag, false) == text
    assert {^text, 0, ""} = mix(context, ["decrypt", @archive, "-i", "gcm"])

    encrypt = ["encrypt", @archive, "-m", "aes_cbc_pad"]
    assert {"", 0, ""} = run(with_bytes(context), encrypt, "<text >cbc")
    <<iv::binary-size(16), sealed::binary>> = File.read!(file(context, "cbc"))
    file(context, "sealed", sealed)

    open =
      ~w[enc -d -aes-256-cbc -in sealed -out opened -K #{Base.encode16(key)} -iv #{Base.encode16(iv)}]

    assert {"", 0} = openssl(context, open)
    assert File.read!(file(context, "opened")) == text

    # With an IV that is given, what other programs make and want.
    with_iv = "aes_cbc_pad:iv=0x" <> Base.encode16(iv)
    assert {^text, 0, ""} = mix(context, ["decrypt", @archive, "-m", with_iv, "-i", "sealed"])
    assert {^sealed, 0, ""} = mix(context, ["encrypt", @archive, "-m", with_iv, "-i", path])
  end

  test "what is large goes through in pieces, and half of it never gets into a file", context do
    large = :crypto.strong_rand_bytes(2_500_000)
    file(context, "large", large)
    cbc = ["-m", "aes_cbc_pad"]

    assert {"", 0, ""} =
             mix(context, ["encrypt", @archive, "-i", "large", "-o", "large.enc"] ++ cbc)

    decrypt = ["decrypt", @archive] ++ cbc
    assert {"", 0, ""} = run(with_bytes(context), decrypt, "<large.enc >large.dec")
    assert File.read!(file(context, "large.dec")) == large

    File.write!(
      file(context, "cut.enc"),
      binary_part(File.read!(file(context, "large.enc")), 0, 2_000_001)
    )

    cut = ["decrypt", @archive, "-i", "cut.enc", "-o", "cut.dec"] ++ cbc
    assert {"", 3, said} = mix(context, cut)
    assert said =~ "does not have this length"
    refute Enum.any?(File.ls!(context.directory), &(&1 =~ "cut.dec"))
  end

  # Of a program that ends in the middle; `kill -9` leaves nobody to clear up.
  test "what was decrypted so far is for its user alone, and gone with the program", context do
    text = file(context, "longer", :crypto.strong_rand_bytes(1_500_000))
    cbc = ["-m", "aes_cbc_pad"]
    assert {"", 0, ""} = mix(context, ["encrypt", @archive, "-i", text, "-o", text] ++ cbc)

    Process.flag(:trap_exit, true)

    for signal <- ~w[TERM HUP KILL] do
      out = file(context, "out.#{signal}")
      part = out <> ".part"
      # What is read has no end.
      said = file(context, "said.#{signal}", "")

      {port, pid} =
        program(with_bytes(context), ["cryptoki.decrypt", @archive, "-o", out | cbc], said)

      Port.command(port, File.read!(text))
      await(fn -> match?({:ok, %{size: size}} when size > 0, File.stat(part)) end)
      assert Bitwise.band(File.stat!(part).mode, 0o777) == 0o600

      {"", 0} = System.cmd("kill", ["-#{signal}", "#{pid}"])
      await(fn -> not File.exists?(part) end)
      ended(port)
      refute File.exists?(out)
      # It has nothing to say to who ends it; OTP sometimes has.
      assert said |> File.stream!() |> Enum.reject(&(&1 =~ "driver gone away")) == []
    end
  end

  test "a file has the mode that files have, and takes the place of one", context do
    text = file(context, "mode", "text")
    out = file(context, "mode.enc", "before")
    encrypt = ["cryptoki.encrypt", @archive, "-i", text, "-o", out]
    line = ~s(umask 027; exec #{command()} "$@")
    assert {"", 0} = shell(context, line, encrypt)
    assert Bitwise.band(File.stat!(out).mode, 0o777) == 0o640
    assert File.stat!(out).size == 12 + 4 + 16

    # Another one is at work, or was killed before there was anything in it.
    file(context, "mode.enc.part", "")
    assert {"", 2, said} = mix(context, tl(encrypt) |> then(&["encrypt" | &1]))
    assert said == "#{out}.part cannot be written: file already exists\n"
    assert File.exists?(out <> ".part")
    assert {"", 2, said} = mix(context, ["encrypt", @archive, "-i", text, "-o", "/nonexistent/x"])
    assert said == "/nonexistent/x.part cannot be written: no such file or directory\n"
  end

  test "what is no file stays what it is, and gets what was written", context do
    text = file(context, "piped", "text")
    fifo = file(context, "fifo")
    {"", 0} = System.cmd("mkfifo", [fifo])
    # Held open, so that nobody waits; IV, text and tag are 32 bytes.
    line = ~s(exec 3<>fifo; #{command()} "$@"; [ -p fifo ] && head -c 32 <&3 >got)
    encrypt = ["cryptoki.encrypt", @archive, "-i", text, "-o", fifo]
    assert {"", 0} = shell(context, line, encrypt)
    assert {"text", 0, ""} = mix(context, ["decrypt", @archive, "-i", "got"])

    # The name of a pipe that is somebody else's, as /dev/stdout is.
    encrypt = List.replace_at(encrypt, -1, "/proc/self/fd/1")
    assert {"", 0} = shell(context, ~s(#{command()} "$@" | cat >got), encrypt)
    assert {"text", 0, ""} = mix(context, ["decrypt", @archive, "-i", "got"])
  end

  # With its status; without, where not all was read of what it was sent.
  defp ended(port) do
    receive do
      {^port, {:exit_status, _status}} -> :ok
      {:EXIT, ^port, :epipe} -> :ok
    after
      120_000 -> flunk("it does not end")
    end
  end

  # A task with a port for its input and a file for what it says, and its process: the shell and Elixir's script are
  # replaced by the VM.
  defp program(context, arguments, said) do
    env =
      for {name, value} <- context.environment,
          do: {to_charlist(name), value && to_charlist(value)}

    env = for {name, value} <- env, do: {name, value || false}
    # Under nohup, as a machine runs tests, it would ignore SIGHUP like whoever started it.
    line = ~s(exec env --default-signal=HUP #{command()} "$@" 2>'#{said}')
    args = ["-c", line, "mix" | arguments]
    options = [:binary, :exit_status, args: args, env: env, cd: context.directory]
    port = Port.open({:spawn_executable, System.find_executable("sh")}, options)
    {port, Port.info(port)[:os_pid]}
  end

  test "what does not decrypt says so", context do
    file(context, "short", "short")
    assert {"", 3, said} = mix(context, ["decrypt", @archive, "-i", "short"])
    assert said =~ "shorter than the IV of 12 bytes that stands before it"

    file(context, "forged", :crypto.strong_rand_bytes(100))
    assert {"", 3, said} = mix(context, ["decrypt", @archive, "-i", "forged"])
    assert said =~ "C_Decrypt answered CKR_"
  end

  test "an RSA key decrypts what OpenSSL has encrypted", context do
    key = @token <> ";object=inbox"
    make = ["keygen", key, "-t", "rsa", "-b", "2048", "-f", "encrypt,decrypt", "-o", "inbox.pub"]
    assert {_, 0, ""} = mix(context, make)
    file(context, "letter", "letter")

    seal = ~w[pkeyutl -encrypt -pubin -inkey inbox.pub -in letter -out letter.enc
              -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha1]

    assert {"", 0} = openssl(context, seal)
    oaep = ["-m", "rsa_pkcs_oaep:hash=sha_1"]
    assert {"letter", 0, ""} = mix(context, ["decrypt", key, "-i", "letter.enc"] ++ oaep)
    assert {"", 0, ""} = mix(context, ["encrypt", key, "-i", "letter", "-o", "again.enc"] ++ oaep)
    assert {"letter", 0, ""} = mix(context, ["decrypt", key, "-i", "again.enc"] ++ oaep)
  end

  test "wrap gives what OpenSSL unwraps, and unwrap takes what it has wrapped", context do
    # RFC 5649, section 3.
    icv = "A65959A6"
    key = Base.encode16(context.keys["kek"])
    wrap = ["wrap", @kek, "--key", "pkcs11:object=archive", "--out", "wrapped"]
    assert {"", 0, ""} = mix(context, wrap)
    open = ~w[enc -d -id-aes256-wrap-pad -in wrapped -out opened.key -K #{key} -iv #{icv}]
    assert {"", 0} = openssl(context, open)
    assert File.read!(file(context, "opened.key")) == context.keys["archive"]

    close = ~w[enc -e -id-aes256-wrap-pad -in archive -out theirs -K #{key} -iv #{icv}]
    assert {"", 0} = openssl(context, close)
    unwrap = ["unwrap", @kek, "-k", "pkcs11:object=copy;id=%0A", "-t", "aes", "-i", "theirs"]
    assert {uri, 0, ""} = mix(context, unwrap)
    assert %{object: "copy", id: "\n", type: :secret_key} = Cryptoki.URI.parse!(String.trim(uri))
    assert {"", 3, said} = mix(context, unwrap)
    assert said =~ ~s("copy" id=0a> already)

    copy = String.trim(uri)
    shown = "sensitive    true\nextractable  false\n"
    assert {^shown, 0, ""} = mix(context, ["attributes", copy, "sensitive", "extractable"])
    file(context, "words", "words")
    assert {"", 0, ""} = mix(context, ["encrypt", @archive, "-i", "words", "-o", "words.enc"])
    assert {"words", 0, ""} = mix(context, ["decrypt", copy, "-i", "words.enc"])

    assert {"", 3, said} = mix(context, ["wrap", @kek, "--key", "pkcs11:object=copy"])
    assert said =~ "CKR_KEY_UNEXTRACTABLE"
  end

  test "kcv is what OpenSSL computes of the key", context do
    file(context, "zeros", <<0::128>>)
    key = Base.encode16(context.keys["archive"])
    block = ~w[enc -aes-256-ecb -nopad -in zeros -out block -K #{key}]
    assert {"", 0} = openssl(context, block)
    <<value::binary-size(3), _rest::binary>> = File.read!(file(context, "block"))
    value = Base.encode16(value)
    line = value <> "\n"

    assert {^line, 0, ""} = mix(context, ["kcv", @archive])
    assert {^line, 0, ""} = mix(context, ["kcv", @archive, "--expect", String.downcase(value)])
    assert {^line, 1, "not the same\n"} = mix(context, ["kcv", @archive, "-e", "000000"])
    assert {"", 2, said} = mix(context, ["kcv", @archive, "-e", "0000"])
    assert said =~ "--expect is six hexadecimal digits"
  end

  test "what cannot be written or read is no answer about a signature", context do
    key = @token <> ";object=signer"
    data = file(context, "data", "data")
    assert {"", 2, said} = mix(context, ["sign", key, "-i", data, "-o", "/nonexistent/signature"])
    assert said == "/nonexistent/signature cannot be written: no such file or directory\n"

    assert {"", 2, said} = run(context, ["sign", key, "-i", data], ">/dev/full")
    assert said == "standard output cannot be written: it is closed, or its disk is full\n"

    assert {"", 2, said} = mix(context, ["sign", key, "-i", context.directory])
    assert said =~ "illegal operation on a directory"
    assert {"", 2, said} = mix(context, ["verify", key, "-s", "/nonexistent/s", "-i", data])
    assert said == "/nonexistent/s: no such file or directory\n"
    assert {"", 3, said} = mix(context, ["verify", key <> "s", "-s", data, "-i", data])
    assert said =~ "nothing matches the selector"
  end
end
