defmodule Cryptoki.FuzzTest do
  # A short run of what `bin/support/fuzz` runs for as long as one likes: the corpus, and a few
  # thousand changed inputs, other ones in each run.
  use ExUnit.Case, async: true

  alias Cryptoki.Test.{Fuzz, MainToken}
  alias Cryptoki.Test.Fuzz.Targets

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 1)})
    Targets.on(hsm)
  end

  for {target, _kind} <- Targets.all() do
    test "whatever it is given, #{target} keeps to its rules" do
      assert Fuzz.run(unquote(target), 3_000, ExUnit.configuration()[:seed]) == :ok
    end
  end
end
