defmodule Cryptoki.ErlangPage do
  # The documentation of the Erlang modules as Markdown, from their sources: the page that ExDoc makes of the module
  # `cryptoki` would be the one of `Cryptoki` where names of files have no case.

  @doc "Writes the page, of the `?MODULEDOC` and the `?DOC`s of each source and what follows them."
  def write(sources, page) do
    File.mkdir_p!(Path.dirname(page))

    File.write!(page, [
      "# Functions and types of the Erlang modules\n",
      Enum.map(sources, &module/1)
    ])
  end

  defp module(source) do
    text = File.read!(source)
    module = Path.basename(source, ".erl")
    [_, intro] = Regex.run(~r/^\?MODULEDOC\("((?:[^"\\]|\\.)*)"\)\./m, text)
    found = Regex.scan(~r/^\?DOC\("((?:[^"\\]|\\.)*)"\)\.\n-(type|spec) (.*?)\.$/ms, text)
    {functions, types} = Enum.split_with(found, fn [_, _, kind, _] -> kind == "spec" end)

    entries =
      for [_, doc, kind, declared] <- functions ++ types, do: entry(module, doc, kind, declared)

    ["\n## ", module, "\n", plain(intro), entries]
  end

  defp entry(module, doc, kind, declared) do
    [name] = Regex.run(~r/^\w+/, declared)
    parentheses = if kind == "type", do: "()", else: ""

    [
      "\n### ",
      module,
      ":",
      name,
      parentheses,
      "\n\n```erlang\n-",
      kind,
      " ",
      declared,
      ".\n```\n\n"
    ] ++
      [String.trim(plain(doc)), "\n"]
  end

  defp plain(text), do: Regex.replace(~r/\\(.)/, text, "\\1")
end
