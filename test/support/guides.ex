defmodule Cryptoki.Test.Guides.JWT do
  @guide "guides/jwt.md"
  @external_resource @guide
  # For doctest, which wants its examples in a module; the fences of code blocks are none of them.
  @moduledoc @guide |> File.read!() |> String.replace(~r/^```.*$/m, "")
end
