defmodule Cryptoki.URILibraryTest do
  # The one part of RFC 7512 that looks at the file system.
  use ExUnit.Case, async: true

  import Cryptoki.URI, only: [library: 1, new: 1]

  setup do
    directory = Path.join(System.tmp_dir!(), "cryptoki-uri-#{System.unique_integer([:positive])}")

    File.mkdir_p!(Path.join(directory, "libfolder.so"))
    on_exit(fn -> File.rm_rf!(directory) end)
    for file <- ["libAcme2.so", "acme-pkcs11.so"], do: File.touch!(Path.join(directory, file))
    %{directory: directory}
  end

  test "a path is taken as it is", %{directory: directory} do
    path = Path.join(directory, "not-there.so")
    assert library(new(module_path: path)) == {:ok, path}
    assert library(new(module_path: path, module_name: "other")) == {:ok, path}
  end

  test "a name is looked for, with its affixes and in any case", %{directory: directory} do
    for name <- ["acme2", "Acme2", "libacme2", "libAcme2.so", "ACME2.SO"] do
      assert library(new(module_path: directory, module_name: name)) ==
               {:ok, Path.join(directory, "libAcme2.so")}
    end

    assert library(new(module_path: directory, module_name: "acme-pkcs11")) ==
             {:ok, Path.join(directory, "acme-pkcs11.so")}
  end

  test "errors say what is missing", %{directory: directory} do
    assert {:error, %{reason: :library_not_loaded, detail: detail}} =
             library(new(module_path: directory, module_name: "nothing"))

    assert detail == ~s(no "nothing" in #{directory})

    for {fields, detail} <- [
          {[module_path: directory, module_name: "../#{Path.basename(directory)}/libacme2"],
           ~r/^no "/},
          {[module_path: directory, module_name: "folder"], ~r/^no "folder"/},
          {[module_path: directory], ~r/is a directory: give module-name too/},
          {[module_path: "libacme2.so"], ~r/not absolute: "libacme2.so"/},
          {[module_name: "cryptoki-never-there"], ~r/^no "cryptoki-never-there" in .*\/usr\/lib/},
          {[], ~r/neither module-path nor module-name/}
        ] do
      assert {:error, %Cryptoki.Error{detail: found}} = library(new(fields))
      assert found =~ detail
    end
  end
end
