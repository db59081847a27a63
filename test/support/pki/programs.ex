defmodule Cryptoki.Test.PKI.Programs do
  @moduledoc false
  # Judges that are commands: OpenSSL, GnuTLS and NSS. Each answers what it finds wrong.

  alias Cryptoki.Test.{Scratch, Token}
  alias Cryptoki.Test.PKI.Requests

  @doc "Every OpenSSL says that the chain is one, and that nothing in it is revoked."
  @spec openssl(map) :: [String.t()]
  def openssl(case_), do: openssl(case_, ["openssl"])

  @doc "The same of the releases in the other Debians that bin/support/otp has made."
  @spec other_openssl(map) :: [String.t()]
  def other_openssl(case_), do: Enum.flat_map(others(), &openssl(case_, &1))

  @doc "How the OpenSSL of another Debian is called from here: by its own loader."
  @spec others :: [[String.t()]]
  def others do
    cache = System.get_env("XDG_CACHE_HOME") || Path.join(System.user_home!(), ".cache")

    for root <- Path.wildcard(Path.join(cache, "cryptoki/otp??")),
        loader <- Path.wildcard(Path.join(root, "usr/lib/*-linux-gnu/ld-linux-*.so.*")),
        openssl = Path.join(root, "usr/bin/openssl"),
        File.exists?(openssl) do
      libraries = root |> Path.join("usr/lib/*-linux-gnu") |> Path.wildcard() |> Enum.join(":")
      [loader, "--library-path", libraries, openssl]
    end
  end

  @doc "Those of them that know ML-DSA and SLH-DSA, which came with 3.5."
  @spec post_quantum :: [[String.t()]]
  def post_quantum do
    Enum.filter(others(), fn [program | more] ->
      {text, 0} = System.cmd(program, more ++ ["version"])
      [_, release] = Regex.run(~r/^OpenSSL (\d+\.\d+\.\d+)/, text)
      Version.match?(release, ">= 3.5.0")
    end)
  end

  @doc "Why nothing of theirs is tested on Kryoptic, or false."
  @spec lacks_post_quantum :: String.t() | false
  def lacks_post_quantum do
    cond do
      !Requests.all?() -> "only with bin/test --pki"
      !Token.library(:kryoptic) -> "Kryoptic is not built: bin/test --tokens kryoptic"
      post_quantum() == [] -> "no OpenSSL 3.5: bin/support/otp 27 makes a Debian that has it"
      true -> false
    end
  end

  @doc "What one of them says of a chain and its lists."
  @spec openssl(map, [String.t()]) :: [String.t()]
  def openssl(%{certificates: [root | rest], lists: lists, host: host}, command) do
    Scratch.within("judges", fn directory ->
      {between, leaf} = Enum.split(rest, -1)
      trusted = pem(directory, "root", [root], "CERTIFICATE")
      last = pem(directory, "leaf", if(leaf == [], do: [root], else: leaf), "CERTIFICATE")

      untrusted =
        if between == [],
          do: [],
          else: ["-untrusted", pem(directory, "between", between, "CERTIFICATE")]

      ders = Enum.map(lists, &elem(&1, 0))

      checked =
        if ders == [],
          do: [],
          else: ["-crl_check_all", "-CRLfile", pem(directory, "lists", ders, "X509 CRL")]

      server = if host, do: ~w(-purpose sslserver -verify_hostname #{host}), else: []

      chain =
        ~w(verify -x509_strict -check_ss_sig -CAfile #{trusted}) ++ untrusted ++ checked ++ server

      run(command, chain ++ [last]) ++
        Enum.flat_map(lists, fn {list, issuer} ->
          issuer = pem(directory, "issuer", [issuer], "CERTIFICATE")
          list = pem(directory, "list", [list], "X509 CRL")
          run(command, ~w(crl -noout -CAfile #{issuer} -in #{list}))
        end)
    end)
  end

  @doc "GnuTLS: the chain, each list, and that all of it can be shown."
  @spec certtool(map) :: [String.t()]
  def certtool(%{certificates: [root | rest], lists: lists, host: host}) do
    Scratch.within("judges", fn directory ->
      trusted = pem(directory, "root", [root], "CERTIFICATE")
      chain = pem(directory, "chain", Enum.reverse(rest) ++ [root], "CERTIFICATE")
      server = if host, do: ["--verify-hostname=#{host}"], else: []

      run("certtool", ~w(--verify --load-ca-certificate #{trusted} --infile #{chain}) ++ server) ++
        run("certtool", ~w(-i --infile #{chain})) ++
        Enum.flat_map(lists, fn {list, issuer} ->
          issuer = pem(directory, "issuer", [issuer], "CERTIFICATE")
          list = pem(directory, "list", [list], "X509 CRL")

          run("certtool", ~w(--verify-crl --load-ca-certificate #{issuer} --infile #{list})) ++
            run("certtool", ~w(--crl-info --infile #{list}))
        end)
    end)
  end

  @doc "NSS: the chain as Firefox knew it, with the lists in its database."
  @spec certutil(map) :: [String.t()]
  def certutil(%{certificates: [root | rest], lists: lists, host: host}) do
    Scratch.within("judges", fn directory ->
      certutil = fn arguments -> run("certutil", arguments ++ ~w(-d sql:#{directory})) end
      [] = certutil.(~w(-N --empty-password))
      names = for number <- 0..length(rest), do: "c#{number}"

      added =
        for {der, name} <- Enum.zip([root | rest], names),
            finding <-
              (
                file = Scratch.write(directory, name, der)
                trust = if name == "c0", do: "CT,C,C", else: ",,"
                certutil.(~w(-A -n #{name} -t #{trust} -i #{file}))
              ),
            do: finding

      imported =
        for {{list, _issuer}, number} <- Enum.with_index(lists),
            finding <-
              (
                file = Scratch.write(directory, "list#{number}", list)
                run("crlutil", ~w(-I -i #{file} -d sql:#{directory}))
              ),
            do: finding

      usage = if host, do: "V", else: "C"

      verified =
        if rest == [], do: [], else: certutil.(~w(-V -e -u #{usage} -n #{List.last(names)}))

      added ++ imported ++ verified
    end)
  end

  defp run(command, arguments) do
    [program | more] = List.wrap(command)

    case System.cmd(program, more ++ arguments, stderr_to_stdout: true) do
      {text, 0} -> if text =~ ~r/verify failure|bad CRL signature/i, do: [line(text)], else: []
      {text, _status} -> [line(text)]
    end
  end

  # Without the names of files of this run.
  defp line(text),
    do: text |> String.replace(~r{\S*/\S+-\d+/}, "") |> String.split() |> Enum.join(" ")

  defp pem(directory, name, ders, label) do
    entries = for der <- ders, do: Cryptoki.PEM.encode(der, label)
    Scratch.write(directory, name <> ".pem", entries)
  end

  @doc "The judge that is a crate, built the first time."
  @spec webpki :: Path.t()
  def webpki do
    manifest = "native/pki_judge/Cargo.toml"
    target = Path.expand("_build/pki_judge")

    build =
      ~w(build --release --locked --quiet --manifest-path #{manifest} --target-dir #{target})

    {text, status} = System.cmd("cargo", build, stderr_to_stdout: true)
    if status != 0, do: raise(text)
    Path.join(target, "release/pki_judge")
  end
end
