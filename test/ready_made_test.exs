defmodule Cryptoki.ReadyMadeTest do
  use ExUnit.Case, async: true

  # A package with ready-made libraries, installed on a machine without Rust: the Mix compile task of build/ in a
  # small project, the library that this run has loaded, and a server on the loopback.

  import Cryptoki.Test.BuildProject
  alias Cryptoki.Native.Loader
  alias Cryptoki.Test.{FileServer, Scratch, TLS}

  @version Mix.Project.config()[:version]
  {:ok, target} = Cryptoki.Build.Target.find()
  @target target
  @file_name "cryptoki_nif-#{@version}-#{@target}.so"
  @worker_name "cryptoki_worker-#{@version}-#{@target}"

  setup do
    project = directory("ready-made-#{System.unique_integer([:positive])}")
    published = Path.join(project, "published")
    File.mkdir_p!(published)
    on_exit(fn -> File.rm_rf!(project) end)

    context = %{
      project: project,
      published: published,
      cache: Path.join(project, "cache"),
      folder: Path.join(project, "_build/dev/lib/cryptoki/priv/native"),
      path: path_without_cargo(project),
      bytes: File.read!(Loader.path()),
      worker: worker_bytes()
    }

    publish(context, context.bytes)
    context
  end

  describe "without Rust" do
    test "a library is fetched once, kept, and found again without a network", context do
      url = FileServer.folder(context.published)
      assert {:ok, []} = install(context, [{"CRYPTOKI_BASE_URL", url <> "/"}])
      assert_received {:requested, "/" <> @file_name, _}
      assert_received {:requested, "/" <> @worker_name, _}
      assert File.read!(library(context.folder)) == context.bytes
      assert Path.basename(library(context.folder)) =~ "cryptoki_nif-#{@version}-#{@target}-"
      assert File.read!(Path.join(context.cache, @file_name)) == context.bytes
      assert Enum.sort(File.ls!(context.cache)) == [@file_name, @worker_name]

      # The worker beside it is one, though nothing of what is fetched is a program.
      assert File.read!(worker(context.folder)) == context.worker

      assert {"cryptoki_worker #{@version} " <> _, 0} =
               System.cmd(worker(context.folder), ["--version"])

      # What is installed is enough; then what is kept.
      elsewhere = [{"CRYPTOKI_CACHE", "/nowhere"}]
      assert install(context, elsewhere) == {:noop, []}
      File.rm_rf!(context.folder)
      assert {:ok, []} = install(context)
      assert File.read!(library(context.folder)) == context.bytes
      refute_received {:requested, _, _}
    end

    test "the user's folder for caches keeps it where none is named", context do
      home = Path.join(context.project, "home")
      url = FileServer.folder(context.published)

      environment = [
        {"CRYPTOKI_BASE_URL", url},
        {"CRYPTOKI_CACHE", nil},
        {"XDG_CACHE_HOME", home}
      ]

      assert {:ok, []} = install(context, environment)
      assert [kept] = Path.wildcard(Path.join(home, "**/#{@file_name}"))
      assert File.read!(kept) == context.bytes
    end

    test "the repository's releases have it where nothing else is said", context do
      url = FileServer.folder(context.published)
      file = Path.join(context.project, "mix.exs")

      filled_in =
        String.replace(File.read!(file), ~r/@repository .*/, ~s(@repository "#{url}/acme"))

      File.write!(file, filled_in)
      assert {:ok, []} = install(context)
      assert_received {:requested, path, _}
      assert path == "/acme/releases/download/v#{@version}/#{@file_name}"
    end

    test "other bytes are refused, from the server and from the cache", context do
      wrong = binary_part(context.bytes, 0, byte_size(context.bytes) - 1) <> "!"
      File.write!(Path.join(context.published, @file_name), wrong)
      url = FileServer.folder(context.published)
      message = refused(context, [{"CRYPTOKI_BASE_URL", url}])
      assert message =~ "#{url}/#{@file_name} is another file than the one published"
      assert message =~ sha256(wrong)
      assert message =~ sha256(context.bytes)
      refute File.exists?(context.folder)
      refute File.exists?(context.cache)

      # A file that was cut short, or put there by somebody else, is fetched again.
      File.mkdir_p!(context.cache)
      File.write!(Path.join(context.cache, @file_name), wrong)
      assert refused(context, []) =~ "CRYPTOKI_BASE_URL"
      File.write!(Path.join(context.published, @file_name), context.bytes)
      assert {:ok, []} = install(context, [{"CRYPTOKI_BASE_URL", url}])
      assert File.read!(Path.join(context.cache, @file_name)) == context.bytes
    end

    test "a sentence says what to do when it cannot be had", context do
      url = FileServer.serve(fn _path -> {404, [], "no"} end)
      message = refused(context, [{"CRYPTOKI_BASE_URL", url}])
      assert message =~ "the ready-made #{@file_name} is not in #{context.cache}"
      assert message =~ "#{url}/#{@file_name} could not be fetched: the server answers 404"
      assert message =~ "Put the file there"
      assert message =~ "CRYPTOKI_NATIVE_LIBRARY"
      assert message =~ "rustup.rs"

      port = closed_port()
      message = refused(context, [{"CRYPTOKI_BASE_URL", "http://127.0.0.1:#{port}"}])
      assert message =~ "connection refused"
      assert refused(context, []) =~ "no place to fetch it from is known"
    end

    test "a machine that the package has nothing for is told so", context do
      environment = [{"CARGO_BUILD_TARGET", "riscv64gc-unknown-linux-gnu"}]

      assert refused(context, environment) =~
               "no ready-made cryptoki_nif-#{@version}-riscv64gc-unknown-linux-gnu.so. "

      checksums(context, "")
      assert refused(context, []) =~ "no ready-made #{@file_name}"
      File.rm!(Path.join(context.project, "checksums.txt"))
      assert refused(context, []) =~ "cargo is needed to build"
      # And what is not published is not taken from the cache.
      File.mkdir_p!(context.cache)
      File.cp!(Loader.path(), Path.join(context.cache, @file_name))
      assert refused(context, []) =~ "cargo is needed to build"
    end

    test "a toolchain for another machine gets that machine's library", context do
      nerves = [{"MIX_TARGET", "rpi4"}, {"TARGET_ARCH", "aarch64"}, {"TARGET_OS", "linux"}]
      message = refused(context, nerves ++ [{"TARGET_ABI", "gnu"}])
      assert message =~ "no ready-made cryptoki_nif-#{@version}-aarch64-unknown-linux-gnu.so"
      assert message =~ "MIX_TARGET=rpi4 asks for another machine"

      name = "cryptoki_nif-#{@version}-aarch64-unknown-linux-gnu.so"
      bytes = for_machine(context.bytes, 183)
      worker = for_machine(context.worker, 183)
      worker_name = "cryptoki_worker-#{@version}-aarch64-unknown-linux-gnu"
      checksums(context, "#{sha256(bytes)}  #{name}\n#{sha256(worker)}  #{worker_name}\n")
      File.mkdir_p!(context.cache)
      File.write!(Path.join(context.cache, name), bytes)
      File.write!(Path.join(context.cache, worker_name), worker)
      assert {:ok, []} = install(context, nerves ++ [{"TARGET_ABI", "gnu"}])
      folder = Path.join(context.project, "_build/rpi4_dev/lib/cryptoki/priv/native")
      assert File.read!(library(folder)) == bytes
      assert File.read!(worker(folder)) == worker

      # 32 bits are refused before anything is looked for.
      arm = [{"MIX_TARGET", "rpi0"}, {"TARGET_ARCH", "arm"}, {"TARGET_OS", "linux"}]
      message = refused(context, arm ++ [{"TARGET_ABI", "gnueabihf"}])
      assert message =~ "64-bit only, and arm-unknown-linux-gnueabihf is not"
      assert refused(context, [{"CARGO_BUILD_TARGET", "i686-unknown-linux-gnu"}]) =~ "64-bit only"
    end
  end

  describe "what is installed is looked at" do
    test "what a person names, and what a package names", context do
      for {bytes, words} <- [
            {"ready-made", "is neither an ELF nor a Mach-O file"},
            {binary_part(context.bytes, 0, byte_size(context.bytes) - 1), "is cut short"},
            {for_machine(context.bytes, 183), "is for aarch64, not for #{@target}"},
            {replace(context.bytes, "nif_init\0", "nif_done\0"), "has no nif_init"},
            {replace(context.bytes, "version=#{@version}\0", "version=#{next()}\0"),
             "is of version #{next()}, not #{@version}"},
            {replace(context.bytes, "nif:version=", "nif-version="),
             "is not cryptoki_nif #{@version}: it does not name its version"},
            {replace(context.bytes, "\0libc.so.6\0", "\0libc.so\0\0\0"),
             "is for musl, and #{@target} has glibc"}
          ] do
        file = Path.join(context.project, "named.so")
        File.write!(file, bytes)
        message = refused(context, [{"CRYPTOKI_NATIVE_LIBRARY", file}])
        assert message =~ "the native library #{file} is not installed: it #{words}"

        publish(context, bytes)
        url = FileServer.folder(context.published)
        assert refused(context, [{"CRYPTOKI_BASE_URL", url}]) =~ "it #{words}"
        refute File.exists?(Path.join(context.folder, "current"))
      end
    end

    test "the worker, too, and without it nothing is installed", context do
      for {bytes, words} <- [
            {"#!/bin/sh", "is neither an ELF nor a Mach-O file"},
            {binary_part(context.worker, 0, byte_size(context.worker) - 1), "is cut short"},
            {for_machine(context.worker, 183), "is for aarch64, not for #{@target}"},
            {replace(context.worker, "version=#{@version}\0", "version=#{next()}\0"),
             "is of version #{next()}, not #{@version}"},
            {replace(context.worker, "\0libc.so.6\0", "\0libx.so.6\0"),
             "is linked to no C library"},
            {context.bytes, "is not cryptoki_worker #{@version}"}
          ] do
        File.write!(Path.join(context.published, @worker_name), bytes)

        checksums(context, """
        #{sha256(context.bytes)}  #{@file_name}
        #{sha256(bytes)}  #{@worker_name}
        """)

        url = FileServer.folder(context.published)
        message = refused(context, [{"CRYPTOKI_BASE_URL", url}])
        assert message =~ "#{@worker_name} is not installed: it #{words}"
        refute File.exists?(context.folder)
      end

      File.rm!(Path.join(context.published, @worker_name))
      File.rm!(Path.join(context.cache, @worker_name))
      message = refused(context, [{"CRYPTOKI_BASE_URL", FileServer.folder(context.published)}])
      assert message =~ "the ready-made #{@worker_name} is not in"
      assert message =~ "CRYPTOKI_NATIVE_WORKER"
      refute File.exists?(context.folder)
    end

    test "what a person names goes before what the package names", context do
      file = Path.join(context.project, "named.so")
      File.write!(file, context.bytes)
      assert {:ok, []} = install(context, [{"CRYPTOKI_NATIVE_LIBRARY", file}])
      assert Path.basename(library(context.folder)) =~ "-ready-"
    end
  end

  describe "with cargo" do
    # One that says that it was called.
    setup %{path: path} do
      cargo = Path.join(path, "cargo")
      File.write!(cargo, "#!/bin/sh\necho cargo was called\nexit 7\n")
      File.chmod!(cargo, 0o755)
    end

    test "a ready-made library is taken, unless CRYPTOKI_BUILD says otherwise", context do
      url = FileServer.folder(context.published)
      refuse = [{"CRYPTOKI_BUILD", "1"}, {"CRYPTOKI_BASE_URL", url}]
      assert refused(context, refuse) =~ "cargo could not build"
      refute_received {:requested, _, _}
      assert {:ok, []} = install(context, [{"CRYPTOKI_BASE_URL", url}])
    end

    test "one that cannot be had is built, and why is said", context do
      port = closed_port()
      environment = environment(context, [{"CRYPTOKI_BASE_URL", "http://127.0.0.1:#{port}"}])
      {text, _} = mix(context.project, "Mix.Task.run(:compile)", environment)
      assert text =~ ~r|connection refused\. .*Building with cargo\.|
      assert text =~ "cargo was called"
    end
  end

  describe "the way to it" do
    setup context do
      authority = TLS.authority(Path.join(context.project, "authority"))
      %{authority: authority, trusted: [{"HEX_CACERTS_PATH", Path.join(authority, "ca.pem")}]}
    end

    test "is https, by an authority that is trusted", context do
      url =
        FileServer.folder(context.published, certificate(context, "DNS:localhost,IP:127.0.0.1"))

      environment = [{"CRYPTOKI_BASE_URL", url}]
      message = refused(context, environment)
      assert message =~ "its certificate is not accepted"
      assert message =~ "HEX_CACERTS_PATH"
      assert {:ok, []} = install(context, environment ++ context.trusted)
    end

    test "refuses the certificate of another host", context do
      url = FileServer.folder(context.published, certificate(context, "DNS:other.test"))
      message = refused(context, [{"CRYPTOKI_BASE_URL", url} | context.trusted])
      assert message =~ "its certificate is for another host"
      refute_received {:requested, _, _}
    end

    test "is never http, but on the loopback, and no redirection leads there", context do
      for url <- [
            "http://releases.test",
            "ftp://releases.test",
            "http:",
            "releases.test",
            "file:///etc"
          ] do
        message = refused(context, [{"CRYPTOKI_BASE_URL", url}])
        assert message =~ ~r/only https is|is no URL of https/, message
      end

      url = FileServer.folder(context.published)
      tls = certificate(context, "DNS:localhost,IP:127.0.0.1")
      down = FileServer.serve(fn path -> {302, [{"location", url <> path}], ""} end, tls)
      message = refused(context, [{"CRYPTOKI_BASE_URL", down} | context.trusted])
      assert message =~ "only https is"

      out = FileServer.serve(fn _ -> {302, [{"location", "http://releases.test/"}], ""} end)
      assert refused(context, [{"CRYPTOKI_BASE_URL", out}]) =~ "only https is"
    end

    test "follows redirections, to an end, and takes no password along", context do
      url =
        FileServer.folder(context.published, certificate(context, "DNS:localhost,IP:127.0.0.1"))

      moved = FileServer.serve(fn path -> {302, [{"location", url <> "/files" <> path}], ""} end)
      named = String.replace(moved, "://", "://me:secret%21@")
      assert {:ok, []} = install(context, [{"CRYPTOKI_BASE_URL", named} | context.trusted])
      assert_received {:requested, "/cryptoki_nif" <> _, headers}
      assert "authorization: Basic #{Base.encode64("me:secret!")}" in headers
      assert_received {:requested, "/files/" <> _, headers}
      refute Enum.any?(headers, &(&1 =~ "authorization"))

      round = FileServer.serve(fn path -> {302, [{"location", path}], ""} end)
      round = String.replace(round, "://", "://me:secret%21@")
      File.rm_rf!(context.folder)
      File.rm_rf!(context.cache)
      message = refused(context, [{"CRYPTOKI_BASE_URL", round}])
      assert message =~ "redirections"
      refute message =~ "secret"
    end

    test "is the proxy's, but for hosts without one", context do
      url = FileServer.folder(context.published, certificate(context, "DNS:releases.test"))
      proxy = FileServer.proxy(url)

      environment = [
        {"CRYPTOKI_BASE_URL", "https://releases.test"},
        {"HTTPS_PROXY", "http://me:secret@127.0.0.1:#{proxy}"} | context.trusted
      ]

      assert {:ok, []} = install(context, environment)
      assert_received {:connected, "releases.test:443", headers}

      assert Enum.any?(
               headers,
               &(&1 =~ ~r/^proxy-authorization: Basic #{Base.encode64("me:secret")}/i)
             )

      # For the worker, too.
      assert_received {:connected, "releases.test:443", _}

      # The certificate has to be the host's, not the proxy's.
      File.rm_rf!(context.folder)
      File.rm_rf!(context.cache)

      other =
        List.keystore(
          environment,
          "CRYPTOKI_BASE_URL",
          0,
          {"CRYPTOKI_BASE_URL", "https://other.test"}
        )

      assert refused(context, other) =~ "its certificate is for another host"
      assert_received {:connected, "other.test:443", _}

      for direct <- ["releases.test", "example.org, .test", "*.test:443", "*"] do
        message = refused(context, environment ++ [{"NO_PROXY", direct}])
        assert message =~ "there is no such host", "#{direct}: #{message}"
      end

      refute_received {:connected, _, _}
    end

    test "is the one that OTP is told: httpc's proxy, and certificates that were loaded",
         context do
      url = FileServer.folder(context.published, certificate(context, "DNS:releases.test"))

      code = fn direct ->
        """
        if function_exported?(Mix, :ensure_application!, 1), do: apply(Mix, :ensure_application!, [:inets])
        {:ok, _} = Application.ensure_all_started(:inets)
        proxy = {{~c"127.0.0.1", #{FileServer.proxy(url)}}, #{inspect(direct)}}
        :ok = :httpc.set_options(https_proxy: proxy)
        :ok = :public_key.cacerts_load(#{inspect(to_charlist(context.authority <> "/ca.pem"))})
        {:ok, []} = Mix.Task.run("compile.cryptoki_native", [])
        """
      end

      environment = environment(context, [{"CRYPTOKI_BASE_URL", "https://releases.test"}])
      assert {text, 1} = mix(context.project, code.([~c"releases.test"]), environment)
      assert text =~ "there is no such host"
      assert {_, 0} = mix(context.project, code.([]), environment)
      assert_received {:connected, "releases.test:443", _}
    end

    test "is bounded: a file that is larger than any library is given up", context do
      large = :binary.copy(<<0>>, 65 * 1024 * 1024)
      url = FileServer.serve(fn _path -> {200, [], large} end)
      assert refused(context, [{"CRYPTOKI_BASE_URL", url}]) =~ "it is larger than 64 MiB"
    end

    test "a connection that ends early is no library", context do
      half = binary_part(context.bytes, 0, 1000)
      length = [{"content-length", to_string(byte_size(context.bytes))}]
      url = FileServer.serve(fn _path -> {200, length, half} end)
      assert refused(context, [{"CRYPTOKI_BASE_URL", url}]) =~ ~r/closed|another file/
      refute File.exists?(context.cache)
    end
  end

  test "machines by the names that their Erlangs have" do
    alias Cryptoki.Build.Target

    for {architecture, musl?, triple} <- [
          {"x86_64-pc-linux-gnu", false, "x86_64-unknown-linux-gnu"},
          {"x86_64-pc-linux-gnu", true, "x86_64-unknown-linux-musl"},
          {"x86_64-alpine-linux-musl", false, "x86_64-unknown-linux-musl"},
          {"aarch64-linux-musl", false, "aarch64-unknown-linux-musl"},
          {"aarch64-unknown-linux-gnu", false, "aarch64-unknown-linux-gnu"},
          {"aarch64-apple-darwin23.1.0", false, "aarch64-apple-darwin"},
          {"arm64-apple-darwin24", false, "aarch64-apple-darwin"},
          {"x86_64-apple-darwin22.6.0", false, "x86_64-apple-darwin"},
          {"amd64-portbld-freebsd14.0", false, "amd64-portbld-freebsd14.0"}
        ],
        do: assert(Target.triple(architecture, musl?) == triple)
  end

  # The package: what is published, and checksums.txt, which names it.
  defp publish(context, bytes) do
    worker = worker_bytes()
    File.write!(Path.join(context.published, @file_name), bytes)
    File.write!(Path.join(context.published, @worker_name), worker)

    checksums(context, """
    #{sha256("else")}  else.so
    #{sha256(bytes)}  #{@file_name}
    #{sha256(worker)}  #{@worker_name}
    """)
  end

  defp worker_bytes do
    {:ok, worker} = Loader.worker()
    File.read!(worker)
  end

  defp checksums(context, text),
    do: File.write!(Path.join(context.project, "checksums.txt"), text)

  defp install(context, environment \\ []),
    do: result(context.project, [], environment(context, environment))

  defp environment(context, environment) do
    Enum.uniq_by(
      environment ++ [{"PATH", context.path}, {"CRYPTOKI_CACHE", context.cache}],
      &elem(&1, 0)
    )
  end

  defp refused(context, environment) do
    assert {:error, [%{message: message}]} = install(context, environment)
    message
  end

  # A key and a certificate of the authority, for these names.
  defp certificate(context, names) do
    Scratch.write(context.authority, "names", "subjectAltName=#{names}\n")

    script = """
    openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server &&
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem
    """

    {_, 0} = System.cmd("sh", ["-c", script], cd: context.authority, stderr_to_stdout: true)

    [
      certfile: Path.join(context.authority, "server.pem"),
      keyfile: Path.join(context.authority, "server.key")
    ]
  end

  # ELF's e_machine.
  defp for_machine(<<head::binary-size(18), _::little-16, rest::binary>>, machine),
    do: <<head::binary, machine::little-16, rest::binary>>

  defp replace(bytes, from, to) do
    assert byte_size(from) == byte_size(to) and :binary.match(bytes, from) != :nomatch
    :binary.replace(bytes, from, to, [:global])
  end

  # As long as the version is.
  defp next, do: String.replace(@version, ~r/\d$/, &if(&1 == "9", do: "8", else: "9"))

  defp sha256(bytes), do: :sha256 |> :crypto.hash(bytes) |> Base.encode16(case: :lower)

  # Nobody listens there any more.
  defp closed_port do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :gen_tcp.close(socket)
    port
  end
end
