defmodule Cryptoki.CallOptions do
  @moduledoc false
  # Options of what is built on calls, such as `Cryptoki.JWS.sign/4`: its own, by a table of them, and those
  # of the calls. All are checked before anything is asked of the token; mistakes raise `ArgumentError`.

  alias Cryptoki.Options
  alias Cryptoki.Options.Table

  @call [:timeout, :pin, :metadata]

  @doc """
  The own options, those that are given and those with a default, and those of calls, as they were given.
  Instead of a table there may be names, of options that are checked by who asks.
  """
  @spec split!(keyword | map, own :: Table.t() | [atom], call :: [atom]) :: {keyword, keyword}
  def split!(opts, own, call \\ @call) do
    own = Enum.map(own, &if(is_atom(&1), do: {&1, [cast: :any]}, else: &1))
    calls = for name <- call, do: {name, [cast: :any]}
    values = Table.cast!(opts, own ++ calls, "option")
    :ok = Table.once!(opts)

    {own, call} =
      values |> Map.to_list() |> Enum.reject(&nothing?/1) |> Keyword.split(Keyword.keys(own))

    %{} = Options.call!(call, @call)
    {own, call}
  end

  defp nothing?({_name, value}), do: value == nil
end
