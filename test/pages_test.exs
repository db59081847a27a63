defmodule Cryptoki.PagesTest do
  use ExUnit.Case, async: true

  # What pages show and nothing runs here: images, somebody else's CI, folders that a person types.

  alias Cryptoki.Test.Scratch

  setup do
    directory = Scratch.directory("pages")
    on_exit(fn -> File.rm_rf!(directory) end)
    %{directory: directory}
  end

  # In fresh Debians: bin/support/fresh.
  test "install.md: a Dockerfile copies what a new application has, and can build what is of Hex",
       context do
    assert {_, 0} = System.cmd("mix", ~w(new my_app --sup), cd: context.directory)
    assert [_debian, _alpine] = dockerfiles = blocks("dockerfile")

    for text <- dockerfiles do
      lines = String.split(text, "\n")

      for "COPY " <> rest = line <- lines, not (rest =~ "--from"), rest != "deps deps" do
        [_to | sources] = rest |> String.split() |> Enum.reverse()
        here = &Path.wildcard(Path.join([context.directory, "my_app", &1]))
        for source <- sources, do: assert(here.(source) != [], line)
      end

      at = fn line -> Enum.find_index(lines, &(&1 == line)) end

      assert at.("RUN mix local.hex --force && mix local.rebar --force") <
               at.("RUN mix deps.compile")
    end
  end

  test "install.md: what it was tested with has a version" do
    rows =
      Regex.scan(
        ~r/^\| (?:PKCS #11 libraries|OpenSSL[^|]*) \| ([^;|]+)/m,
        File.read!("guides/install.md")
      )

    assert length(rows) == 2
    for [_, row] <- rows, name <- String.split(row, ","), do: assert(name =~ ~r/\d+\.\d+/, name)
  end

  test "install.md: what CI keeps belongs to the releases that have compiled it" do
    [yaml] = blocks("yaml")
    assert [_setup | caches] = String.split(yaml, "- uses: actions/cache@")
    assert length(caches) == 2
    assert File.read!("guides/install.md") =~ ~r/^Two caches:/m

    for cache <- caches do
      [_, key] = Regex.run(~r/^ +key: (.+)\$\{\{ hashFiles\('mix\.lock'\) \}\}$/m, cache)
      assert cache =~ "restore-keys: #{key}\n"

      if cache =~ ~r/^ +_build$/m do
        for name <- ~w(otp-version elixir-version),
            do: assert(key =~ "steps.beam.outputs.#{name}")
      end
    end
  end

  test "operations.md: the status has all that Cryptoki.status/1 answers" do
    {:ok, types} = Code.Typespec.fetch_types(Cryptoki)
    type = Enum.find_value(types, fn {:type, {name, type, []}} -> name == :status && type end)
    {:type, _, :map, fields} = type
    answered = for {:type, _, _, [{:atom, _, name}, _value]} <- fields, do: to_string(name)

    [_, shown] = Regex.run(~r/^\{:ok, %\{(state: .*?)\}\}$/ms, File.read!("guides/operations.md"))
    # Its own fields, not those of what is in it.
    shown = String.replace(shown, ~r/%[\w.]*\{[^{}]*\}/, "")
    names = for [_, name] <- Regex.scan(~r/(\w+): /, shown), do: name
    assert Enum.sort(names) == Enum.sort(answered)
  end

  describe "a folder is one of where it is typed:" do
    @describetag :tree

    setup %{directory: directory} do
      File.mkdir_p!(Path.join(directory, "typed/release"))
      # It is not empty, and has no library.
      File.write!(Path.join(directory, "typed/release/SHA256SUMS"), "")
      on_exit(fn -> File.rm_rf!("typed") end)
    end

    for {words, said} <- [
          {~w(bin/release typed/release), "is not empty"},
          {~w(bin/support/artefact typed/release/none.tar typed/suite), "is not there"},
          {~w(bin/test --artefact typed/release/none.tar), "is not there"},
          {~w(bin/test --otp all --artefact typed/release/none.tar), "is not there"},
          {~w(bin/test --platforms typed/none), "is not there"}
        ] do
      @words words
      @said said
      test Enum.join(words, " "), %{directory: directory} do
        [command | arguments] = @words
        options = [cd: directory, stderr_to_stdout: true]
        assert {text, status} = System.cmd(Path.expand(command), arguments, options)
        assert status != 0
        assert text =~ ~r/#{Regex.escape(Path.join(directory, "typed"))}\S* #{@said}/, text
        refute File.exists?("typed")
      end
    end
  end

  defp blocks(language) do
    for [_, code] <-
          Regex.scan(~r/^```#{language}\n(.*?)^```/ms, File.read!("guides/install.md")),
        do: code
  end
end
