defmodule Cryptoki.MutantsTest do
  # Whether each of them still says something: bin/support/mutants runs them.
  use ExUnit.Case, async: true

  alias Cryptoki.Test.Mutants

  test "each mutant changes one place in a file, and names the tests that have to notice" do
    mutants = Mutants.all()
    assert for(mutant <- mutants, fault = Mutants.fault(mutant), do: {mutant.claim, fault}) == []
    assert Enum.uniq_by(mutants, & &1.claim) == mutants
  end

  test "there are sixty in Elixir at least" do
    assert Enum.count(Mutants.all(), &(Path.extname(&1.file) == ".ex")) >= 60
  end
end
