# What ExDoc does not look at in the pages that it has made, `elixir test/support/pages.exs DIRECTORY`: whether links lead
# somewhere, also within a page, and whether names of pages are apart where names have no case.
[directory] = System.argv()
files = File.ls!(directory)
pages = Enum.filter(files, &String.ends_with?(&1, ".html"))
texts = Map.new(pages, &{&1, File.read!(Path.join(directory, &1))})

attributes = fn text, name ->
  for [_, value] <- Regex.scan(~r/\s#{name}="([^"]*)"/, text),
      do: String.replace(value, "&amp;", "&")
end

ids = Map.new(texts, fn {page, text} -> {page, MapSet.new(attributes.(text, "id"))} end)

wrong =
  for {page, text} <- texts,
      href <- Enum.uniq(attributes.(text, "href")),
      not (href =~ ~r/^[a-z]+:/),
      {target, id} = href |> String.split("#", parts: 2) |> then(&{hd(&1), Enum.at(&1, 1, "")}),
      target =
        if(target == "", do: page, else: target |> String.split("?") |> hd() |> URI.decode()),
      not (File.exists?(Path.join(directory, target)) and
             (id == "" or not is_map_key(ids, target) or id in ids[target] or
                URI.decode(id) in ids[target])),
      do: "#{page} links to #{href}"

same =
  for {_name, [_, _ | _] = names} <- Enum.group_by(files, &String.downcase/1),
      do: "#{Enum.join(names, " and ")} are one file where names have no case"

IO.puts(
  "#{length(pages)} pages, #{texts |> Map.values() |> Enum.map(&length(attributes.(&1, "href"))) |> Enum.sum()} links"
)

Enum.each(wrong ++ same, &IO.puts/1)
if wrong ++ same != [], do: System.halt(1)
