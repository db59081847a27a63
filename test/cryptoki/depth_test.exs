defmodule Cryptoki.DepthTest do
  use ExUnit.Case, async: true

  alias Cryptoki.Test.MainToken

  @script Path.expand("../support/depth.exs", __DIR__)

  # A stack that ends is the end of the VM: so this one has its own.
  test "what is nested without end is an ArgumentError, in Elixir and again in the native code" do
    arguments = ["-pa", Application.app_dir(:cryptoki, "ebin"), @script, MainToken.uri()]
    opts = [stderr_to_stdout: true, env: MainToken.environment(MainToken.options())]
    {output, status} = System.cmd("elixir", arguments, opts)
    assert status == 3, output
    assert [_ | _] = answers = String.split(output, "\n", trim: true)
    assert Enum.uniq(answers) == [":argument_error"]
    assert length(answers) == 15
  end

  test "the message names the attribute, and how deep it may be" do
    nested = &Enum.reduce(1..&1, [label: "x"], fn _level, inner -> [wrap_template: inner] end)

    assert [{_wrap_template, _value}] =
             Cryptoki.Attribute.encode!(nested.(Cryptoki.Attribute.levels() - 1))

    for levels <- [Cryptoki.Attribute.levels() + 1, 2000] do
      error = catch_error(Cryptoki.Attribute.encode!(nested.(levels)))
      assert %ArgumentError{message: message} = error
      assert message =~ "wrap_template" and message =~ "at most 16 deep"
    end
  end
end
