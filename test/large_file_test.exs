defmodule Cryptoki.LargeFileTest do
  use ExUnit.Case, async: true

  alias Cryptoki.Test.MainToken

  @script Path.expand("support/large_file.exs", __DIR__)
  @gib 1024 * 1024 * 1024
  @most 32 * 1024

  # /proc says how much memory a process has used at most.
  if :os.type() == {:unix, :linux} do
    @tag timeout: :infinity
    test "a file of 1 GiB is signed, and encrypted to another, in less than 32 MiB more" do
      # Not beside the tokens, which may be in memory.
      directory = Path.join(System.tmp_dir!(), "cryptoki-large-file-#{System.pid()}")
      File.mkdir_p!(directory)
      on_exit(fn -> File.rm_rf!(directory) end)
      files = for name <- ~w[plain public.pem signature encrypted], do: Path.join(directory, name)
      [plain, public, signature, encrypted] = files
      sparse(plain)

      path = Application.app_dir(:cryptoki, "ebin")
      arguments = ["-pa", path, @script, MainToken.uri() | files]
      environment = MainToken.environment(MainToken.options())

      assert {output, 0} =
               System.cmd("elixir", arguments, stderr_to_stdout: true, env: environment)

      assert [_, kib] = Regex.run(~r/grew by (-?\d+) KiB/, output)
      assert String.to_integer(kib) < @most

      verify = ~w[dgst -sha256 -verify #{public} -signature #{signature} #{plain}]
      assert {_verified, 0} = System.cmd("openssl", verify)
      assert digest(encrypted) == digest_of_ciphertext(plain)
    end
  end

  # Mostly a hole in the disk, with something at both ends.
  defp sparse(path) do
    {:ok, file} = :file.open(path, [:write, :raw])
    :ok = :file.pwrite(file, 0, "begin")
    :ok = :file.pwrite(file, @gib - 3, "end")
    :ok = :file.close(file)
  end

  defp digest(path) do
    {output, 0} = System.cmd("openssl", ["dgst", "-sha256", "-r", path])
    hd(String.split(output))
  end

  defp digest_of_ciphertext(path) do
    key = String.duplicate("0", 63) <> "7"
    iv = String.duplicate("0", 32)

    command =
      "openssl enc -aes-256-ctr -K #{key} -iv #{iv} -in '#{path}' | openssl dgst -sha256 -r"

    {output, 0} = System.cmd("sh", ["-c", command])
    hd(String.split(output))
  end
end
