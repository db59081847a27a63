Code.require_file("build/cryptoki_native.ex", __DIR__)

defmodule Cryptoki.MixProject do
  use Mix.Project

  # Cargo.toml is the one place where the version is written.
  @cargo_toml Path.join(__DIR__, "Cargo.toml")
  @external_resource @cargo_toml
  @version ~r/^version = "(.+)"$/m |> Regex.run(File.read!(@cargo_toml)) |> List.last()

  # Where this repository is published, such as "https://example.org/cryptoki": its maintainer fills it in, once, here.
  @repository nil

  def project do
    [
      app: :cryptoki,
      version: @version,
      name: "Cryptoki",
      description: "PKCS #11 for Elixir and Erlang: keys stay in the HSM, applications use them",
      elixir: "~> 1.14",
      elixirc_paths: elixirc_paths(Mix.env()),
      erlc_paths: ["src"],
      compilers: [:cryptoki_native] ++ Mix.compilers(),
      start_permanent: Mix.env() == :prod,
      test_coverage: [summary: [threshold: 0]],
      deps: [],
      source_url: @repository,
      package: package(),
      docs: &docs/0
    ]
  end

  def application do
    [
      mod: {Cryptoki.Application, []},
      extra_applications: [:logger, :crypto, :public_key]
    ]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_), do: ["lib"]

  defp package do
    [
      licenses: ["MIT", "Apache-2.0"],
      links: links(@repository),
      # What is published beside the package, when it has been built.
      files:
        ~w(lib src build guides native .cargo/config.toml Cargo.toml Cargo.lock clippy.toml) ++
          ~w(mix.exs rebar.config rebar.config.script .formatter.exs README.md ARCHITECTURE.md CHANGELOG.md SECURITY.md usage-rules.md) ++
          ~w(LICENSE LICENSE-MIT LICENSE-APACHE) ++
          Path.wildcard("checksums.txt")
    ]
  end

  defp links(repository) do
    for url <- List.wrap(repository),
        {name, path} <- [{"Source", ""}, {"Changes", "/blob/v#{@version}/CHANGELOG.md"}],
        into: %{},
        do: {name, url <> path}
  end

  # The guides that tell what tests have found.
  @tested "tokens|vectors|pki_judges|reliability|findings"

  # For ExDoc where it is installed (Debian's elixir-ex-doc, an archive or an escript); it is no dependency.
  defp docs do
    [
      main: "readme",
      source_ref: "v#{@version}",
      extras: extras(),
      groups_for_extras: [
        Start: ~r/first_signature|install|testing|cheatsheet/,
        Guides: ~r{^guides/(?!(operations|errors|telemetry|#{@tested})\.)|erlang},
        Operation: ~r{^guides/(?!(#{@tested})\.)},
        "What was tested": ~r{^guides/},
        Project: ~r/^(?!README)/
      ],
      groups_for_modules: [
        "The door": [Cryptoki, Cryptoki.Session, Cryptoki.Operation, Cryptoki.Error],
        "What functions take": [
          Cryptoki.Key,
          Cryptoki.Mechanism,
          Cryptoki.Attribute,
          Cryptoki.URI
        ],
        "Made with keys": ~r/^Cryptoki\.(X509|JW|CO|CMS|SSL|SSH|Timestamp|Envelope|Transfer)/,
        "Tokens, shell, tests": ~r/^Cryptoki\.(Token|Group|IEx|Telemetry|Testing)$/
      ],
      # The page of the Erlang module would be the one of Cryptoki where file names have no case: an extra has them.
      filter_modules: ~r/^Elixir/,
      skip_code_autolink_to: &String.starts_with?(&1, "cryptoki"),
      # What is for people who work on the library names what is not public.
      skip_undefined_reference_warnings_on:
        ~w(CHANGELOG.md SECURITY.md ARCHITECTURE.md CONTRIBUTING.md guides/findings.md guides/how_it_works.md),
      before_closing_body_tag: &before_closing_body_tag/1
    ]
  end

  defp extras do
    Code.require_file("build/erlang_page.exs", __DIR__)
    erlang = Path.relative_to_cwd(Path.join(Mix.Project.build_path(), "erlang_modules.md"))
    sources = for name <- ["", "_operation", "_token", "_group"], do: "src/cryptoki#{name}.erl"
    apply(Cryptoki.ErlangPage, :write, [sources, erlang])

    ["README.md"] ++
      guides() ++
      [erlang] ++
      ~w(usage-rules.md CHANGELOG.md SECURITY.md ARCHITECTURE.md CONTRIBUTING.md RELEASE.md LICENSE LICENSE-MIT LICENSE-APACHE)
  end

  # In the order in which to read them; those that are not named come last.
  defp guides do
    first =
      ~w(first_signature.md first_signature.livemd install.md testing.md cheatsheet.cheatmd keys_and_uris.md sessions.md iex.md command_line.md)

    first = for name <- first, do: "guides/" <> name
    all = first ++ (Path.wildcard("guides/*.{md,cheatmd,livemd}") -- first)
    for guide <- all, do: guide(guide, Path.extname(guide))
  end

  # Beside the page that it is another form of.
  defp guide(guide, ".livemd"),
    do: {String.to_atom(guide), filename: Path.basename(guide, ".livemd") <> "_livebook"}

  defp guide(guide, _page), do: guide

  # The pictures; pages without a network show their text.
  @mermaid "https://cdn.jsdelivr.net/npm/mermaid@11.17.2/dist/mermaid.min.js"
  @integrity "sha384-EOXBFmc3gx5mb+vn0vPvvGqACToJD24hhacX5Yx+8NUUQrHIle/Qi5Bg9o3zKwW2"

  defp before_closing_body_tag(:html) do
    """
    <script defer src="#{@mermaid}" integrity="#{@integrity}" crossorigin="anonymous"></script>
    <script>
      window.addEventListener("exdoc:loaded", () => {
        const pictures = () => {
          if (!window.mermaid) return;
          const theme = document.body.className.includes("dark") ? "dark" : "default";
          mermaid.initialize({ startOnLoad: false, theme });
          document.querySelectorAll("pre > code.mermaid").forEach(async (code, index) => {
            const { svg, bindFunctions } = await mermaid.render("picture-" + index, code.textContent);
            const picture = document.createElement("div");
            picture.innerHTML = svg;
            code.parentElement.replaceWith(picture);
            bindFunctions?.(picture);
          });
        };
        if (document.readyState === "complete") pictures();
        else window.addEventListener("load", pictures, { once: true });
      });
    </script>
    """
  end

  defp before_closing_body_tag(:epub), do: ""
end
