defmodule Cryptoki.VectorsTest do
  use ExUnit.Case, async: true

  # The published vectors of Wycheproof, through the public API, in one call, in pieces and by message, on
  # SoftHSM and Kryoptic: a fixed sample, or with CRYPTOKI_TEST_VECTORS=all every one, as
  # `bin/test --vectors` runs them; guides/vectors.md has what came of it.

  alias Cryptoki.Test.Token
  alias Cryptoki.Test.Vectors.{Families, Known, Report, Runner}

  @which if System.get_env("CRYPTOKI_TEST_VECTORS") == "all", do: :all, else: :sample
  @moduletag timeout: :infinity

  setup_all do
    {hsms, _log} =
      ExUnit.CaptureLog.with_log(fn ->
        for token <- Token.all(), into: %{} do
          # PBKDF2 with 16 million iterations takes a minute on a busy machine.
          child = {Cryptoki, Token.options(token, sessions: 8, timeout: 600_000)}
          {token.name, start_supervised!(child, id: token.name)}
        end
      end)

    %{hsms: hsms}
  end

  for token <- Token.all(), family <- Families.all() do
    @token token
    @family family.title

    test "#{family.title} on #{token.title}", %{hsms: hsms} do
      family = Enum.find(Families.all(), &(&1.title == @family))
      result = Runner.run(%{token: @token, hsm: hsms[@token.name]}, family, @which)
      assert result.vectors > 0 or map_size(result.not_run) > 0

      unknown = Enum.reject(result.disagree, &Known.find(@token.name, @family, &1))
      assert unknown == [], Runner.explain(unknown)

      Report.record(@token, @family, result)
    end
  end
end
