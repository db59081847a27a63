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
      docs: docs()
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
        ~w(lib src build guides native Cargo.toml Cargo.lock clippy.toml) ++
          ~w(mix.exs rebar.config rebar.config.script .formatter.exs README.md ARCHITECTURE.md CHANGELOG.md SECURITY.md llms.txt) ++
          ~w(LICENSE LICENSE-MIT LICENSE-APACHE) ++
          Path.wildcard("checksums.txt")
    ]
  end

  defp links(nil), do: %{}

  defp links(repository),
    do: %{"Source" => repository, "Changes" => repository <> "/blob/v#{@version}/CHANGELOG.md"}

  # For `ex_doc` when it is installed as an archive or escript; it is no dependency.
  defp docs do
    [
      main: "readme",
      source_ref: "v#{@version}",
      extras: ["README.md", "CHANGELOG.md", "SECURITY.md"] ++ guides(),
      groups_for_extras: [Guides: ~r"^guides/"],
      groups_for_modules: [
        "Keys and objects": [Cryptoki.Key, Cryptoki.URI, Cryptoki.Token],
        "Around it": [Cryptoki.IEx, Cryptoki.Telemetry, Cryptoki.Testing],
        "Where keys are used":
          ~r/^Elixir\.Cryptoki\.(X509|JWS|JWK|COSE|CMS|Timestamp|SSL|SSH|SSH\.ClientKey)$/
      ]
    ]
  end

  # In the order in which to read them; those that are not named come last.
  defp guides do
    first =
      for name <- ~w(first_signature testing keys_and_uris sessions iex command_line),
          do: "guides/#{name}.md"

    first ++ (Path.wildcard("guides/*.md") -- first)
  end
end
