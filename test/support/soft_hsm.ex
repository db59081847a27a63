defmodule Cryptoki.Test.SoftHSM do
  @moduledoc false
  # SoftHSM tokens in a temporary directory of this test run, gone when it ends.
  #
  # A SoftHSM that is initialised reads its list of tokens once: a token made later by create/1 is seen by
  # a library initialised after that. The tokens of labels/0 are there from the start; use a copy of the
  # library (library_copy/1: another real path, so another library to us and to the VM) for the rest.

  @library_places ~w(
    /usr/lib/softhsm/libsofthsm2.so
    /usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so
    /usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so
    /usr/lib64/pkcs11/libsofthsm2.so
    /usr/local/lib/softhsm/libsofthsm2.so
    /opt/homebrew/lib/softhsm/libsofthsm2.so
  )

  @pin "73914682"
  @so_pin "so-73914682"
  @labels ["cryptoki-test", "cryptoki-second", "cryptoki-third"]

  @doc "The user PIN of every token; nothing else in the tests looks like it."
  @spec pin :: binary
  def pin, do: @pin

  @spec so_pin :: binary
  def so_pin, do: @so_pin

  @doc "The tokens that are there from the start; the first is what label/0 names."
  @spec labels :: [binary]
  def labels, do: @labels

  @spec label :: binary
  def label, do: hd(@labels)

  @spec library :: Path.t()
  def library do
    System.get_env("SOFTHSM2_LIBRARY") || Enum.find(@library_places, &File.exists?/1) ||
      raise "libsofthsm2.so was not found: run bin/setup, or set SOFTHSM2_LIBRARY to its path"
  end

  @doc "The token as an RFC 7512 URI with library and PIN, as `uri:` takes it."
  @spec uri(binary, Path.t()) :: binary
  def uri(label \\ label(), library \\ library()) do
    "pkcs11:token=#{label}?module-path=#{library}&pin-value=#{@pin}"
  end

  @doc "Start options for the token of this label."
  @spec options(keyword) :: keyword
  def options(more \\ []) do
    {label, more} = Keyword.pop(more, :label, label())
    # A machine that does other things as well needs longer than five seconds for an RSA key.
    own = [library: library(), token: [label: label], pin: fn -> @pin end, timeout: 60_000]
    own |> Keyword.merge(isolation()) |> Keyword.merge(more)
  end

  @doc "Where the library runs that the tests start instances with: `CRYPTOKI_TEST_ISOLATION=process` says not here."
  @spec isolation() :: keyword
  def isolation do
    case System.get_env("CRYPTOKI_TEST_ISOLATION", "") do
      "process" -> [isolation: :process]
      "" -> []
    end
  end

  @doc "Makes one more token, with both PINs set, and answers its label."
  @spec create(binary, Path.t()) :: binary
  def create(
        label \\ "token-#{System.unique_integer([:positive])}",
        configuration \\ System.fetch_env!("SOFTHSM2_CONF")
      ) do
    util!(
      ~w(--init-token --free --label #{label} --pin #{@pin} --so-pin #{@so_pin}),
      configuration
    )

    label
  end

  @doc "Makes a directory for tokens and the configuration file beside it."
  @spec configuration(Path.t(), Path.t()) :: Path.t()
  def configuration(tokens, file \\ nil) do
    file = file || tokens <> ".conf"
    File.mkdir_p!(tokens)

    File.write!(file, """
    directories.tokendir = #{tokens}
    objectstore.backend = file
    log.level = ERROR
    slots.removable = false
    slots.mechanisms = ALL
    library.reset_on_fork = false
    """)

    file
  end

  @doc "A copy of the library that the VM takes for another one; it sees the tokens that exist when it is opened."
  @spec library_copy(binary) :: Path.t()
  def library_copy(name \\ "softhsm-#{System.unique_integer([:positive])}.so") do
    copy = Path.join(directory(), name)
    File.cp!(library(), copy)
    copy
  end

  @doc "The temporary directory of this run, where tests may put files of their own."
  @spec directory :: Path.t()
  def directory, do: System.fetch_env!("CRYPTOKI_TEST_TOKENS")

  @doc "Runs the same `mix` command again in a VM that has the environment, and ends with its status."
  @spec restart_with_tokens :: no_return
  def restart_with_tokens do
    directory = Path.join(System.tmp_dir!(), "cryptoki-test-#{System.pid()}")
    File.rm_rf!(directory)
    File.mkdir_p!(directory)

    try do
      environment = [
        {"CRYPTOKI_TEST_TOKENS", directory},
        {"SOFTHSM2_CONF", Path.join(directory, "softhsm2.conf")},
        {"MIX_ENV", "test"}
      ]

      {_, status} = System.cmd("mix", System.argv(), env: environment, into: IO.stream())
      status
    after
      File.rm_rf!(directory)
    end
    |> System.halt()
  end

  @doc "Makes the tokens of labels/0, once per run."
  @spec prepare :: :ok
  def prepare do
    tokens = Path.join(directory(), "tokens")

    unless File.dir?(tokens) do
      configuration(tokens, System.fetch_env!("SOFTHSM2_CONF"))
      Enum.each(@labels, &create/1)
    end

    :ok
  end

  defp util!(args, configuration) do
    opts = [stderr_to_stdout: true, env: [{"SOFTHSM2_CONF", configuration}]]

    case System.cmd("softhsm2-util", args, opts) do
      {_, 0} -> :ok
      {text, status} -> raise "softhsm2-util #{hd(args)} failed with status #{status}: #{text}"
    end
  end
end
