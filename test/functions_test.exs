defmodule Cryptoki.FunctionsTest do
  use ExUnit.Case, async: true

  # guides/functions.md names every C function of the headers once, and Elixir functions that exist.

  @guide "guides/functions.md"

  setup_all do
    rows =
      for line <- File.stream!(@guide),
          ["", functions, here, ""] <- [line |> String.trim() |> String.split("|")],
          names = Regex.scan(~r/`(C_\w+)`/, functions, capture: :all_but_first),
          names != [],
          do: {List.flatten(names), here}

    %{rows: rows}
  end

  test "every function of the headers is there, once", %{rows: rows} do
    named = Enum.flat_map(rows, &elem(&1, 0))
    assert Enum.uniq(named) == named
    assert Enum.sort(named) == Enum.sort(headers())
  end

  test "and every one is called, or says why not", %{rows: rows} do
    native =
      "native/cryptoki_{ffi,nif}/src/**/*.rs" |> Path.wildcard() |> Enum.map_join(&File.read!/1)

    for {functions, here} <- rows, function <- functions do
      # By `call!`, `filled!` or `made!`, by a macro around them for functions of one form, or by the few lines that run
      # before and after there is a function list.
      called? =
        native =~
          ~r/\w!\(\s*(self,\s*)?([\w:]+(\([\w.()]*\))?,\s*)?(\|[\w, ]+\|\s*)?#{function}\b|list\.#{function}\b|c"#{function}"/

      named? = here =~ ~r/^ `Cryptoki/ or here =~ "the instance does" or here =~ "the same of"

      if named?,
        do: assert(called?, "#{function} is in the guide, but never called"),
        else: assert(here =~ ~r/not called|legacy|asynchronous|every call/)
    end
  end

  test "errors name them by atoms that are there from the start" do
    Code.ensure_loaded!(Cryptoki.Native)
    Enum.each(headers(), &String.to_existing_atom/1)
  end

  test "the functions of ours exist", %{rows: rows} do
    for {_functions, here} <- rows,
        [_, module, name, arity] <- Regex.scan(~r/`(Cryptoki[\w.]*)\.([a-z_?]+)\/(\d)`/, here) do
      module = Module.concat([module])
      assert Code.ensure_loaded?(module)

      assert function_exported?(module, String.to_atom(name), String.to_integer(arity)),
             "#{inspect(module)}.#{name}/#{arity} does not exist"
    end
  end

  # The newest function list of cryptoki-sys, at the version that Cargo.lock has.
  defp headers do
    arguments = ~w(metadata --format-version 1 --locked --manifest-path Cargo.toml)
    {metadata, 0} = System.cmd("cargo", arguments)
    [_, crate] = Regex.run(~r{"manifest_path":"([^"]*/cryptoki-sys[^"/]*)/Cargo\.toml"}, metadata)
    bindings = File.read!(Path.join(crate, "src/bindings/x86_64-unknown-linux-gnu.rs"))
    [_, list] = Regex.run(~r/^pub struct _?CK_FUNCTION_LIST_3_2 \{(.*?)^\}/ms, bindings)
    functions = Regex.scan(~r/pub (C_\w+):/, list, capture: :all_but_first)
    assert length(functions) > 100
    List.flatten(functions)
  end

  @operations "native/cryptoki_engine/src/operation/table.rs"

  # The table of operations is in Rust; Elixir sends tuples of a name, often that of a verb in a variable, and arguments.
  test "each operation of the native table is sent from lib, with as many arguments" do
    table = File.read!(@operations)
    rows = Regex.scan(~r/^ +(\w+)\(([^)]*)\)\s+(?:looks|works|makes|step)\s/m, table)
    assert length(rows) > 40

    code =
      for file <- Path.wildcard("lib/cryptoki/**/*.ex"),
          do: Code.string_to_quoted!(File.read!(file))

    {sent, words} =
      {MapSet.new(Enum.flat_map(code, &tuples/1)), MapSet.new(Enum.flat_map(code, &atoms/1))}

    for [_row, name, arguments] <- rows do
      arity = arguments |> String.split(",", trim: true) |> Enum.count(&(&1 =~ ":"))
      name = name |> String.trim_trailing("_") |> String.to_atom()

      assert {name, arity} in sent or ({:variable, arity} in sent and name in words),
             "nobody sends #{name} with #{arity} arguments"
    end
  end

  # Each side has to know without the other: a step that is lost is not begun anew, here as there.
  test "a step is one on both sides" do
    [steps] =
      Regex.run(~r/@steps ~w\[([^\]]*)\]a/, File.read!("lib/cryptoki/call/call.ex"),
        capture: :all_but_first
      )

    rows =
      Regex.scan(~r/^ +(\w+)\([^)]*\)\s+step\s/m, File.read!(@operations), capture: :all_but_first)

    assert Enum.sort(String.split(steps)) ==
             rows |> List.flatten() |> Enum.map(&String.trim_trailing(&1, "_")) |> Enum.sort()
  end

  defp tuples(code) do
    collect(code, fn
      {:{}, _meta, [name | arguments]} -> [{named(name), length(arguments)}]
      {name, _second} -> [{named(name), 1}]
      _other -> []
    end)
  end

  defp named(name) when is_atom(name), do: name
  defp named(_variable), do: :variable

  defp atoms(code), do: collect(code, &if(is_atom(&1), do: [&1], else: []))

  defp collect(code, fun) do
    {_ast, found} = Macro.prewalk(code, [], &{&1, fun.(&1) ++ &2})
    found
  end
end
