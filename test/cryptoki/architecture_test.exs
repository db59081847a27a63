defmodule Cryptoki.ArchitectureTest do
  use ExUnit.Case, async: true

  # Who calls whom, read from the compiled modules.

  @pure [
    Cryptoki.Attempts,
    Cryptoki.Attribute,
    Cryptoki.BER,
    Cryptoki.Base64URL,
    Cryptoki.CBOR,
    Cryptoki.CMS.Cipher,
    Cryptoki.CMS.Enveloped,
    Cryptoki.CMS.Form,
    Cryptoki.CMS.Options,
    Cryptoki.CMS.Recipient,
    Cryptoki.CMS.SignedData,
    Cryptoki.CMS.Verifier,
    Cryptoki.ContentKey.Derivation,
    Cryptoki.ContentKey.Failure,
    Cryptoki.ContentKey.OAEP,
    Cryptoki.COSE.Header,
    Cryptoki.COSE.Message,
    Cryptoki.COSE.Options,
    Cryptoki.DER,
    Cryptoki.Ecdsa,
    Cryptoki.Envelope.Box,
    Cryptoki.Error,
    Cryptoki.JWE.Algorithm,
    Cryptoki.JWE.Encryption,
    Cryptoki.JWE.Message,
    Cryptoki.JWE.Options,
    Cryptoki.JWE.Sealer,
    Cryptoki.JWS.Options,
    Cryptoki.Key,
    Cryptoki.KeyTemplate,
    Cryptoki.Mechanism,
    Cryptoki.Names,
    Cryptoki.Options.Table,
    Cryptoki.PEM,
    Cryptoki.PrivateKey,
    Cryptoki.PublicKey.Edwards,
    Cryptoki.PublicKey.Info,
    Cryptoki.Recovery,
    Cryptoki.Selector,
    Cryptoki.SignatureAlgorithm,
    Cryptoki.SignatureForm,
    Cryptoki.SSH.Agent.Message,
    Cryptoki.SSH.Certificate,
    Cryptoki.SSH.RevocationList,
    Cryptoki.SSH.Signature,
    Cryptoki.SSH.SourceAddress,
    Cryptoki.SSH.Wire,
    Cryptoki.Timestamp.Info,
    Cryptoki.Timestamp.Options,
    Cryptoki.Timestamp.Request,
    Cryptoki.Timestamp.Response,
    Cryptoki.Timestamp.Token,
    Cryptoki.Transfer.Attributes,
    Cryptoki.Transfer.File,
    Cryptoki.URI,
    Cryptoki.X509.AltName,
    Cryptoki.X509.Certificate,
    Cryptoki.X509.Chain,
    Cryptoki.X509.Extensions,
    Cryptoki.X509.Name,
    Cryptoki.X509.NameConstraints,
    Cryptoki.X509.OCSP.Request,
    Cryptoki.X509.OCSP.Response,
    Cryptoki.X509.Options,
    Cryptoki.X509.Policies,
    Cryptoki.X509.Request,
    Cryptoki.X509.RevocationList,
    Cryptoki.X509.Signature,
    Cryptoki.X509.Validity
  ]

  @processes [
    Cryptoki.Application,
    Cryptoki.Instance,
    Cryptoki.Instances,
    Cryptoki.SessionServer,
    Cryptoki.TokenServer
  ]

  setup_all do
    directory = Application.app_dir(:cryptoki, "ebin")

    calls =
      for beam <- Path.wildcard(Path.join(directory, "Elixir.Cryptoki*.beam")),
          {:ok, {module, [imports: imports]}} = :beam_lib.chunks(to_charlist(beam), [:imports]),
          not test?(module),
          into: %{},
          do: {module, imports |> Enum.map(&elem(&1, 0)) |> Enum.uniq()}

    %{calls: calls, imports: &imports(directory, &1)}
  end

  test "only the wait for an answer calls Native, whose functions are stubs", %{calls: calls} do
    assert callers(calls, Cryptoki.Native) == [Cryptoki.Native.Wait]
    assert calls[Cryptoki.Native] -- [:erlang, Cryptoki.Native.Loader, Cryptoki.Native] == []
  end

  test "nobody but users calls Cryptoki", %{calls: calls} do
    users =
      ~r/^Elixir\.(Mix\.Tasks\.|Cryptoki\.(IEx|Opening|Testing|Certificates|X509|JWS|JWK|COSE|CMS|ContentKey|JWE|SSL|SSH|Timestamp|Transfer|Envelope))/

    assert Enum.reject(callers(calls, Cryptoki), &(Atom.to_string(&1) =~ users)) == []
  end

  test "pure modules call no process and no native code", %{calls: calls} do
    inside = fn module -> Enum.find(@pure, &within?(module, &1)) end

    for {module, called} <- calls, inside.(module), other <- called do
      assert other not in [GenServer, Supervisor, Process, Agent, Task, :ets, :gen_server, :gen],
             "#{inspect(module)} calls #{inspect(other)}"

      assert other not in @processes and other not in [Cryptoki.Native, Cryptoki.Native.Wait],
             "#{inspect(module)} calls #{inspect(other)}"
    end
  end

  test "processes do not call what stands in front of them", %{calls: calls} do
    front = [Cryptoki.Objects, Cryptoki.Operations, Cryptoki.Keys, Cryptoki.Information]

    for process <- @processes ++ [Cryptoki.Connector, Cryptoki.Native.Wait],
        other <- calls[process],
        do: assert(other not in front, "#{inspect(process)} calls #{inspect(other)}")
  end

  test "the front door only exposes", %{calls: calls} do
    assert Enum.filter(calls[Cryptoki], &(&1 in [GenServer, Supervisor, :ets, Cryptoki.Native])) ==
             []
  end

  # The two front doors are one module each, for their users: a line of code for each verb, and its docs.
  @front ["lib/cryptoki.ex", "src/cryptoki.erl"]

  test "files stay small" do
    kinds = ~w({lib,test}/**/*.{ex,exs} build/*.ex* src/*.erl native/*/{src,tests}/**/*.rs)
    files = Enum.flat_map(kinds, &Path.wildcard/1)
    assert @front -- files == []

    for file <- files -- @front do
      assert count(file) <= 500, "#{file} has #{count(file)} lines"
    end
  end

  test "the wait for an answer skips the old mailbox" do
    {:ok, {_module, [abstract_code: {:raw_abstract_v1, forms}]}} =
      Cryptoki.Native.Wait |> :code.which() |> :beam_lib.chunks([:abstract_code])

    {:ok, _module, beam} = :compile.forms(forms, [:binary])
    assert beam |> :beam_disasm.file() |> inspect(limit: :infinity) =~ "recv_marker_use"
  end

  # By the end of their path, which is how the pages name them.
  test "the files and folders that pages for newcomers name are there" do
    {text, 0} = System.cmd("git", ~w(ls-files))
    # A folder is where a path goes on.
    there = for file <- String.split(text, "\n", trim: true), do: "/" <> file
    there? = fn name -> Enum.any?(there, &String.contains?(&1 <> "\n", name)) end

    for page <- ~w(ARCHITECTURE.md CONTRIBUTING.md),
        [_, name, ending] <- Regex.scan(~r/`([\w.\/]+?)(\.[a-z]+|\/)`/, File.read!(page)) do
      wanted = "/" <> name <> if(ending == "/", do: "/", else: ending <> "\n")
      assert there?.(wanted), "#{page}: #{name}#{ending}"
    end
  end

  # The floors of ARCHITECTURE.md, the lowest first: {name, files and folders}.
  defp floors do
    rows = Regex.scan(~r/^\| (\w+) \| (`[^|]+) \| [^|]+ \|$/m, File.read!("ARCHITECTURE.md"))

    rows =
      for [_row, name, where] <- rows,
          name not in ~w(new),
          do: {name, Regex.scan(~r/`([^`]+)`/, where)}

    for {name, where} <- Enum.reverse(rows), do: {name, Enum.map(where, &List.last/1)}
  end

  test "who looks for a public module finds it by its name, and nothing else beside it", %{
    calls: calls
  } do
    for module <- Map.keys(calls), file = file(module), not String.starts_with?(file, "mix/") do
      words = file |> Path.rootname() |> String.replace("_", "")
      named? = words == module |> inspect() |> String.downcase() |> String.replace(".", "/")
      assert named? or private?(module), "#{inspect(module)} is public, in #{file}"
      top? = length(Path.split(file)) <= 2

      refute top? and private?(module) and not within_file?(module),
             "#{inspect(module)} is private, in #{file}"
    end
  end

  defp private?(module), do: match?({:docs_v1, _, _, _, :hidden, _, _}, Code.fetch_docs(module))

  # Of a public module, in its file: `Cryptoki.Error.Text` in error.ex.
  defp within_file?(module), do: length(Module.split(module)) > 2

  defp file(module),
    do:
      module.module_info(:compile)[:source] |> to_string() |> String.split("/lib/") |> List.last()

  # The floor of a module, by its file.
  defp floor(module, floors) do
    source = file(module)

    place =
      case Path.split(source) do
        ["cryptoki.ex"] -> "cryptoki.ex"
        ["cryptoki", file] -> file
        ["cryptoki", folder | _file] -> folder <> "/"
        ["mix" | _task] -> nil
      end

    place &&
      (Enum.find_index(floors, fn {_name, where} -> place in where end) ||
         flunk("#{source} is on no floor"))
  end

  test "each floor calls only itself and those under it; the picture shows who calls whom", %{
    calls: calls
  } do
    floors = floors()
    assert length(floors) > 5
    at = for {module, _} <- calls, floor = floor(module, floors), into: %{}, do: {module, floor}

    for {module, called} <- calls,
        from = at[module],
        other <- called,
        to = at[other],
        do: assert(to <= from, "#{inspect(module)} calls #{inspect(other)}, which is above it")

    edges =
      for {module, called} <- calls,
          from = at[module],
          other <- called,
          to = at[other],
          to != from,
          uniq: true,
          do: {elem(Enum.at(floors, from), 0), elem(Enum.at(floors, to), 0)}

    # A node of the picture can have its name behind it: `call` alone is a word of the language that draws it.
    picture = File.read!("ARCHITECTURE.md") |> String.replace(~r/(\w+)\[\1\]/, "\\1")
    drawn = Regex.scan(~r/^  (\w+) --> (.+)$/m, picture)
    drawn = for [_line, from, to] <- drawn, to <- String.split(to, " & "), do: {from, to}
    assert Enum.sort(drawn) == Enum.sort(edges)
  end

  test "there is no circle of modules, nor of files", %{calls: calls} do
    graph = :digraph.new()
    for module <- Map.keys(calls), do: :digraph.add_vertex(graph, module)

    for {module, called} <- calls,
        other <- called,
        other != module,
        is_map_key(calls, other),
        do: :digraph.add_edge(graph, module, other)

    assert :digraph_utils.cyclic_strong_components(graph) == []

    # Of the tests' own modules, too.
    # In a VM of its own: it takes modules, or under newer releases applications of OTP, from the tests beside this one.
    cycles = ~w[xref graph --format cycles --fail-above 0 --no-compile]
    assert {text, 0} = System.cmd("mix", cycles, stderr_to_stdout: true)
    assert text =~ "No cycles"
  end

  # Elixir 1.20 wants a pin there, which 1.14 refuses; so such a size is not written.
  test "the size of a part of a match comes from the match" do
    code = "{lib,test,build}/**/*.{ex,exs}" |> Path.wildcard() |> Enum.map(&{&1, parsed(&1)})

    outside =
      for {file, ast} <- code,
          pattern <- patterns(ast),
          {:<<>>, _, parts} <- nodes(pattern),
          {{:"::", meta, [_, spec]}, at} <- Enum.with_index(parts),
          {:size, _, [size]} <- nodes(spec),
          name <- variables(size) -- variables(Enum.take(parts, at)),
          do: "#{file}:#{meta[:line]}: #{name}"

    assert outside == []
  end

  defp parsed(file), do: file |> File.read!() |> Code.string_to_quoted!()

  defp patterns(ast) do
    Enum.flat_map(nodes(ast), fn
      {operator, _, [pattern, _]} when operator in [:=, :<-] -> [pattern]
      {:->, _, [patterns, _]} -> patterns
      _other -> []
    end)
  end

  defp nodes(ast), do: ast |> Macro.prewalk([], &{&1, [&1 | &2]}) |> elem(1)

  # Not those that stand for attributes of the module.
  defp variables(ast) do
    ast = Macro.prewalk(ast, &if(match?({:@, _, _}, &1), do: nil, else: &1))
    for({name, _, context} when is_atom(context) <- nodes(ast), do: name) |> Enum.uniq()
  end

  # A crate uses those before it.
  @crates ~w(cryptoki_ffi cryptoki_engine cryptoki_nif cryptoki_worker)

  test "each crate uses only those under it, and what needs a VM is small" do
    for {crate, at} <- Enum.with_index(@crates) do
      [dependencies, _rest] =
        "native/#{crate}/Cargo.toml"
        |> File.read!()
        |> String.split("[dependencies]")
        |> tl()
        |> hd()
        |> String.split(~r/^\[/m, parts: 2)

      used = for other <- @crates, dependencies =~ ~r/^#{other} = /m, do: other
      assert used -- Enum.take(@crates, at) == [], "#{crate} uses #{inspect(used)}"
      assert at == 0 or used != []
    end

    lines = for file <- Path.wildcard("native/cryptoki_nif/src/**/*.rs"), do: count(file)
    assert Enum.sum(lines) < 1500

    for crate <- @crates -- ["cryptoki_nif"],
        file <- rust(crate),
        do: refute(File.read!(file) =~ "rustler")
  end

  test "there is no circle of Rust files" do
    for crate <- @crates do
      graph = :digraph.new()
      files = rust(crate)
      for file <- files, do: :digraph.add_vertex(graph, file)

      for file <- files,
          other <- used(file, "native/#{crate}/src", files),
          other != file,
          do: :digraph.add_edge(graph, file, other)

      assert :digraph.no_edges(graph) > 5
      assert :digraph_utils.cyclic_strong_components(graph) == []
    end
  end

  # The files that a Rust file names by `crate::`, in a list in braces too; tests at its end may name any.
  defp used(file, folder, files) do
    [code | _tests] = file |> File.read!() |> String.split("#[cfg(test)]\nmod tests")
    code = Regex.replace(~r{//.*$}m, code, "")

    names =
      for [_all, path, list] <- Regex.scan(~r/crate::((?:\w+::)*)(\w+|\{[^}]*\})/s, code),
          name <- Regex.scan(~r/\w+/, list),
          do: String.split(path, "::", trim: true) ++ name

    for name <- names,
        part =
          Enum.find(
            Enum.reverse(1..length(name)//1),
            &((Path.join([folder | Enum.take(name, &1)]) <> ".rs") in files)
          ),
        uniq: true,
        do: Path.join([folder | Enum.take(name, part)]) <> ".rs"
  end

  defp rust(crate),
    do: "native/#{crate}/src/**/*.rs" |> Path.wildcard() |> Enum.reject(&(&1 =~ "tests.rs"))

  defp count(file), do: file |> File.stream!() |> Enum.count()

  defp callers(calls, module) do
    for {caller, called} <- calls, module in called, caller != module, do: caller
  end

  defp within?(module, pure),
    do: module == pure or String.starts_with?(Atom.to_string(module), "#{pure}.")

  defp test?(module), do: String.starts_with?(Atom.to_string(module), "Elixir.Cryptoki.Test.")

  defp imports(directory, module), do: Path.join(directory, "#{module}.beam")
end
