defmodule Cryptoki.DocsTest do
  use ExUnit.Case, async: true

  # What the documents say is true: versions, links, commands, and the functions in their examples;
  # and every public function has a text, an example and a @spec.

  @pages ~w(README.md CHANGELOG.md CONTRIBUTING.md ARCHITECTURE.md RELEASE.md SECURITY.md usage-rules.md)
         |> Enum.filter(&File.exists?/1)
  @pages @pages ++ Path.wildcard("guides/*.{md,cheatmd,livemd}")

  describe "the version" do
    @version Mix.Project.config()[:version]

    test "is the same in Cargo.toml, Cargo.lock and cryptoki.app.src" do
      assert File.read!("Cargo.toml") =~ ~r/\[workspace\.package\]\nversion = "#{@version}"\n/
      assert File.read!("Cargo.lock") =~ ~s(name = "cryptoki_nif"\nversion = "#{@version}"\n)
      assert app_src()[:vsn] == to_charlist(@version)
    end

    test "is the first one in CHANGELOG.md" do
      assert [_, @version] = Regex.run(~r/^## (\d\S*)/m, File.read!("CHANGELOG.md"))
    end

    test "is the one that README.md says to depend on" do
      readme = File.read!("README.md")
      minor = @version |> String.split(".") |> Enum.take(2) |> Enum.join(".")

      for [line] <- Regex.scan(~r/\{:cryptoki,[^}]*\}/, readme),
          [_, said] <- Regex.scan(~r/(?:~> |tag: "v)(\d[^"]*)"/, line) do
        assert said in [@version, minor], "README.md says #{line}, the version is #{@version}"
      end

      assert readme =~ "**Status**: #{@version},"
    end
  end

  describe "the front page" do
    test "names the Rust that Cargo.toml needs" do
      [_, needed] = Regex.run(~r/^rust-version = "(.+)"$/m, File.read!("Cargo.toml"))

      for [_, said] <- Regex.scan(~r/Rust\]?(?:\([^)]*\))? (\d+\.\d+)/, File.read!("README.md")),
          do: assert(said == needed)
    end

    test "shows what the commands print" do
      sources = Enum.map_join(~w(bin/demo bin/support/demo.exs bin/test), &File.read!/1)

      for [_, block] <- Regex.scan(~r/^```console\n(.*?)^```/ms, File.read!("README.md")),
          line <- String.split(block, "\n"),
          [_, said] <- [Regex.run(~r/^([A-Z].*?)(?: +[\d.]+ ms| in \d+ s\.)?$/, line)] do
        assert sources =~ said, "README.md shows #{inspect(said)}, which no command prints"
      end
    end
  end

  describe "the address of the repository" do
    test "stands in mix.exs, and what is published follows it" do
      source = File.read!("mix.exs")
      assert [line] = Regex.run(~r/^  @repository .+$/m, source)

      for {value, url} <- [
            {"nil", nil},
            {inspect("https://other.test/c"), "https://other.test/c"}
          ] do
        config = config(String.replace(source, line, "  @repository #{value}"))
        assert config[:source_url] == url
        assert Enum.all?(Map.values(config[:package][:links]), &String.starts_with?(&1, url))
        assert map_size(config[:package][:links]) == if(url, do: 2, else: 0)
      end
    end

    test "is the one that examples depend on, and stands nowhere else" do
      assert wrong(Mix.Project.config()[:source_url], sources()) == []
    end

    # Who fills it in is told by RELEASE.md where, and by this test what was forgotten.
    test "is filled in as RELEASE.md says" do
      files = sources()
      named = for {file, text} <- files, text =~ dependency(), do: file
      assert length(named) == 4
      [_, step, _] = String.split(File.read!("RELEASE.md"), ~r/^[12]\. /m, parts: 3)
      for file <- named, do: assert(step =~ "`#{file}`")

      for address <- ["https://other.test/c", "https://github.com/somebody/cryptoki"] do
        as_said = &Regex.replace(dependency(), &1, ~s("#{address}.git"))
        filled = for {file, text} <- files, do: {file, as_said.(text)}
        if Mix.Project.config()[:source_url] == nil, do: assert(wrong(address, files) == named)
        assert wrong(address, filled) == []
        more = {"more.md", "See #{address}/issues, or https://github.com/me/cryptoki"}
        assert wrong(address, [more | filled]) == ["more.md"]
      end

      said = "It is not on Hex yet"
      if File.read!("README.md") =~ said, do: assert(step =~ said)
    end

    # What a dependency by git says, here and in rebar.config.
    defp dependency, do: ~r{"https://[^"\s]+\.git"(?=,)}

    defp ours do
      ~r{(?:github\.com|gitlab\.com|codeberg\.org)/[\w.-]+/cryptoki\b|hex(?:docs)?\.pm/(?:packages/)?cryptoki\b}
    end

    defp wrong(address, files) do
      right = ~s("#{address || "https://example.org/cryptoki"}.git")

      for {file, text} <- files,
          rest = Regex.replace(dependency(), text, ""),
          Enum.any?(Regex.scan(dependency(), text), &(&1 != [right])) or rest =~ ours() or
            (address != nil and rest =~ address),
          do: file
    end

    defp sources do
      kinds = ~w(*.md *.ex *.exs *.erl *.src *.toml *.config *.script *.livemd *.cheatmd)
      {files, 0} = System.cmd("git", ["ls-files", "--" | kinds])

      for file <- String.split(files),
          file not in ~w(mix.exs test/docs_test.exs),
          do: {file, File.read!(file)}
    end

    # The project of another mix.exs, under another name: what it says without being loaded as the project.
    defp config(source) do
      source =
        source
        |> String.replace("defmodule Cryptoki.MixProject", "defmodule Cryptoki.OtherProject")
        |> String.replace("use Mix.Project", "")
        |> String.replace("__DIR__", inspect(File.cwd!()))

      [{module, _beam} | _rest] = Code.compile_string(source)
      config = module.project()
      :code.purge(module)
      :code.delete(module)
      config
    end
  end

  describe "the pages" do
    test "have every public module in one group" do
      groups = Mix.Project.config()[:docs].()[:groups_for_modules]
      public = for module <- modules(), documented?(module), do: module
      assert length(public) > 10

      for module <- public, id = inspect(module) do
        in_it = for {group, members} <- groups, member?(module, id, members), do: group
        assert [_one] = in_it, "#{id} is in #{inspect(in_it)}"
      end
    end

    test "are in the groups in which people look for them" do
      docs = Mix.Project.config()[:docs].()

      # As ExDoc does: the first that fits.
      grouped =
        Enum.group_by(
          docs[:extras],
          fn extra ->
            Enum.find_value(docs[:groups_for_extras], fn {group, pattern} ->
              file(extra) =~ pattern && group
            end)
          end,
          &Path.basename(file(&1))
        )

      assert grouped[nil] == ["README.md"]

      start =
        ~w(first_signature.md first_signature.livemd install.md testing.md cheatsheet.cheatmd)

      assert grouped[:Start] == start
      assert Enum.sort(grouped[:Operation]) == ~w(errors.md operations.md telemetry.md)
      assert "erlang_modules.md" in grouped[:Guides] and "signing.md" in grouped[:Guides]
      refute Enum.any?(grouped[:Project], &File.exists?(Path.join("guides", &1)))

      assert Enum.sort(Map.keys(grouped) -- [nil]) ==
               Enum.sort(Keyword.keys(docs[:groups_for_extras]))
    end

    test "have what mix.exs names" do
      docs = Mix.Project.config()[:docs].()
      for extra <- docs[:extras], do: assert(extra |> file() |> File.exists?())
      for page <- docs[:skip_undefined_reference_warnings_on], do: assert(File.exists?(page))

      text =
        docs[:extras] |> Enum.map(&file/1) |> Enum.find(&(&1 =~ "erlang_modules")) |> File.read!()

      for module <- [:cryptoki, :cryptoki_operation, :cryptoki_token, :cryptoki_group],
          {name, _arity} <- module.module_info(:exports),
          name != :module_info,
          do: assert(text =~ "### #{module}:#{name}\n")
    end

    defp file({name, _options}), do: to_string(name)
    defp file(name), do: to_string(name)

    # As ExDoc matches them: a pattern, with the name that it shows.
    defp member?(_module, id, %Regex{} = members), do: id =~ members
    defp member?(module, _id, members), do: module in members

    defp documented?(module) do
      match?({:docs_v1, _, :elixir, _, %{}, _, _}, Code.fetch_docs(module)) and
        not String.starts_with?(inspect(module), "Mix.")
    end
  end

  test "h Cryptoki lists every function by topic" do
    {:docs_v1, _, _, _, %{"en" => text}, _, docs} = Code.fetch_docs(Cryptoki)
    [_, topics] = String.split(text, "## Functions by topic")

    functions =
      for {{:function, name, arity}, _, _, doc, _} <- docs,
          doc != :hidden,
          not String.ends_with?("#{name}", "!"),
          do: "#{name}/#{arity}"

    listed = for [_, name] <- Regex.scan(~r{`([a-z_?]+/\d)`}, topics), do: name
    assert Enum.sort(listed) == Enum.sort(functions)
  end

  test "usage-rules.md names everything that is made with keys, and what is beside it" do
    groups = Mix.Project.config()[:docs].()[:groups_for_modules]
    rules = File.read!("usage-rules.md")

    for group <- [:"Made with keys", :"Tokens, shell, tests"],
        module <- modules(),
        documented?(module),
        id = inspect(module),
        member?(module, id, Keyword.fetch!(groups, group)) do
      # What is in a module is found from it.
      [name] = Regex.run(~r/^Cryptoki\.\w+/, id)
      assert rules =~ ~r/`#{Regex.escape(name)}[`.]/, "usage-rules.md does not name #{name}"
    end

    # A verb whose page is easily missed.
    assert rules =~ "`Cryptoki.import_key/4`"
  end

  test "every test and command that SECURITY.md names is there" do
    named = Regex.scan(~r/`((?:test|bin|native|guides)\/[\w\/.]+)/, File.read!("SECURITY.md"))
    assert length(named) > 10
    for [_, path] <- named, do: assert(File.exists?(path), path)
  end

  test "cryptoki.app.src says what mix.exs says" do
    {:ok, [{:application, :cryptoki, mix}]} =
      :file.consult(Application.app_dir(:cryptoki, "ebin/cryptoki.app"))

    assert app_src()[:mod] == mix[:mod]
    assert app_src()[:description] == mix[:description]
    assert Enum.sort(app_src()[:applications]) == Enum.sort(mix[:applications])
  end

  for page <- @pages do
    describe page do
      @page page

      test "links to files and headings that exist" do
        text = @page |> File.read!() |> without_code()

        for [_, target] <- Regex.scan(~r/\]\(([^)\s]+)\)/, text), not (target =~ ~r/^[a-z]+:/) do
          {path, heading} =
            case String.split(target, "#", parts: 2) do
              [path] -> {path, nil}
              ["", heading] -> {Path.basename(@page), heading}
              [path, heading] -> {path, heading}
            end

          file = Path.expand(path, Path.dirname(@page))
          assert File.exists?(file), "#{@page} links to #{target}, and there is no such file"
          if heading, do: assert(heading in headings(file), "#{@page} links to #{target}")
        end
      end

      test "leads to where the dependency stands" do
        for [_, path, heading] <-
              Regex.scan(
                ~r/dependency[^\n]*?\(([^()#\s]*README\.md)#([\w-]+)\)/,
                File.read!(@page)
              ) do
          text = @page |> Path.dirname() |> Path.join(path) |> File.read!()

          section =
            Enum.find(
              String.split(text, ~r/^## /m),
              &(slug(hd(String.split(&1, "\n"))) == heading)
            )

          assert section =~ "{:cryptoki,", "#{@page} leads to #{heading}, which has no dependency"
        end
      end

      test "names commands that exist" do
        text = File.read!(@page)

        for [_, command] <- Regex.scan(~r{(?<![\w/.-])(bin/[a-z][\w/-]*)}, text) do
          assert executable?(command), "#{@page} names #{command}, which is no command"
        end

        for [_, command, option] <- Regex.scan(~r/(bin\/[a-z]\w*)[^\n`|]*? (--[a-z-]+)/, text) do
          assert File.read!(command) =~ option, "#{command} has no option #{option}"
        end

        for [_, task] <- Regex.scan(~r/mix (cryptoki\.[a-z._]+[a-z])/, text) do
          assert Mix.Task.get(task), "#{@page} names mix #{task}, which is no task"
        end
      end

      test "has pictures whose nodes are no words of the language that draws them" do
        for [_, picture] <- Regex.scan(~r/^```mermaid\n(.*?)^```/ms, File.read!(@page)),
            do: refute(picture =~ ~r/\b(call|click|style|default|class)\s|\bend\s*(-->|&)/)
      end

      test "has Elixir code that parses and calls functions that exist" do
        for {code, line} <- elixir_blocks(File.read!(@page)) do
          quoted = Code.string_to_quoted(code, line: line, file: @page)
          assert {:ok, ast} = quoted, "#{@page}:#{line}: #{inspect(quoted)}"

          for {module, function, arity, line} <- calls(ast) do
            assert Code.ensure_loaded?(module) and exported?(module, function, arity),
                   "#{@page}:#{line} calls #{inspect(module)}.#{function}/#{arity}, which does not exist"
          end
        end
      end
    end
  end

  describe "every public function" do
    test "has a text, an example and a spec, and every module says whether it is public" do
      missing =
        for module <- modules(),
            problem <- problems(module),
            do: problem

      assert missing == [], Enum.join(missing, "\n")
    end
  end

  defp problems(module) do
    case Code.fetch_docs(module) do
      {:docs_v1, _, :elixir, _, :hidden, _, _} ->
        []

      {:docs_v1, _, :elixir, _, :none, _, _} ->
        ["#{inspect(module)} has no @moduledoc, not even false"]

      {:docs_v1, _, :elixir, _, %{}, _, docs} ->
        {:ok, specs} = Code.Typespec.fetch_specs(module)
        specs = MapSet.new(specs, &elem(&1, 0))

        for {{kind, name, arity}, _, _, doc, meta} <- docs,
            kind in [:function, :macro],
            doc != :hidden,
            not generated?(name),
            problem <-
              [
                text(doc),
                example(doc, meta),
                kind == :function and spec(specs, name, arity, meta)
              ],
            problem,
            do: "#{inspect(module)}.#{name}/#{arity} has no #{problem}"

      # test/erlang_test.exs looks at those of Erlang modules, which have docs from OTP 27 on.
      {:docs_v1, _, :erlang, _, _, _, _} ->
        []

      {:error, _no_elixir} ->
        []
    end
  end

  defp generated?(name), do: name |> to_string() |> String.starts_with?("__")

  defp text(%{"en" => text}), do: if(String.trim(text) == "", do: "@doc")
  defp text(:none), do: "@doc"

  # A deprecated function shows the way to its successor; all others show themselves.
  defp example(%{"en" => text}, meta) do
    unless meta[:deprecated] || text =~ ~r/iex>|^    \S/m || text =~ "```", do: "example"
  end

  defp example(:none, _), do: nil

  # A function with defaults has a spec for one of its arities at least.
  defp spec(specs, name, arity, meta) do
    arities = (arity - (meta[:defaults] || 0))..arity
    unless Enum.any?(arities, &({name, &1} in specs)), do: "@spec"
  end

  defp modules do
    {:ok, modules} = :application.get_key(:cryptoki, :modules)

    Enum.reject(modules, fn module ->
      String.starts_with?(inspect(module), "Cryptoki.Test.") or implements_protocol?(module)
    end)
  end

  defp implements_protocol?(module),
    do: Code.ensure_loaded?(module) and function_exported?(module, :__impl__, 1)

  # Documents ----------------------------------------------------------------------------------

  defp app_src do
    {:ok, [{:application, :cryptoki, terms}]} = :file.consult("src/cryptoki.app.src")
    terms
  end

  defp without_code(text) do
    text |> String.replace(~r/^```.*?^```/ms, "") |> String.replace(~r/`[^`\n]*`/, "")
  end

  # The name that a heading has in a link, as GitHub and ex_doc make it.
  defp headings(file) do
    text = file |> File.read!() |> String.replace(~r/^```.*?^```/ms, "")

    for [_, heading] <- Regex.scan(~r/^\#{1,6} (.+)$/m, text), do: slug(heading)
  end

  defp slug(heading) do
    heading
    |> String.downcase()
    |> String.replace(~r/[^\p{L}\p{N} _-]/u, "")
    |> String.replace(" ", "-")
  end

  defp executable?(command) do
    match?(
      {:ok, %{type: :regular, mode: mode}} when rem(div(mode, 64), 2) == 1,
      File.stat(command)
    )
  end

  defp elixir_blocks(text) do
    for [{at, _}, {from, length}] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, text, return: :index) do
      code = binary_part(text, from, length)
      line = text |> binary_part(0, at) |> String.split("\n") |> length()
      {if(code =~ ~r/^iex/m, do: from_iex(code), else: code), line + 1}
    end
  end

  # The lines after a prompt are code, the others are results; as many lines as before.
  defp from_iex(code) do
    code
    |> String.split("\n")
    |> Enum.map_join("\n", fn line ->
      case Regex.run(~r/^(?:iex|\.\.\.)(?:\(\d+\))?> ?(.*)$/, line) do
        [_, rest] -> rest
        nil -> ""
      end
    end)
  end

  # `Cryptoki.X.f(a, b)`, with one more argument behind a pipe.
  defp calls(ast) do
    {_, calls} =
      Macro.prewalk(ast, [], fn
        {:|>, meta, [left, {{:., dot, target}, call, arguments}]}, found
        when is_list(arguments) ->
          {{:|>, meta, [left, {{:., dot, target}, call, [:piped | arguments]}]}, found}

        {{:., _, [{:__aliases__, _, [:Cryptoki | _] = names}, function]}, meta, arguments} = node,
        found ->
          {node, [{Module.concat(names), function, length(arguments), meta[:line]} | found]}

        node, found ->
          {node, found}
      end)

    Enum.reverse(calls)
  end

  defp exported?(module, function, arity) do
    function_exported?(module, function, arity) or macro_exported?(module, function, arity)
  end
end
