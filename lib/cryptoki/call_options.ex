defmodule Cryptoki.CallOptions do
  @moduledoc false
  # Options of what is built on calls, such as `Cryptoki.JWS.sign/4`: its own, and those of the calls.

  alias Cryptoki.Options

  @call [:timeout, :pin, :metadata]

  @doc """
  The own options and those of calls, which are checked here: before anything is asked of the token.
  """
  @spec split!(keyword, own :: [atom], call :: [atom]) :: {keyword, keyword}
  def split!(opts, own, call \\ @call) do
    unless Keyword.keyword?(opts), do: raise(ArgumentError, "options are a keyword list")
    Options.known!(opts, own ++ call, "option")
    {own, call} = Keyword.split(opts, own)
    %{} = Options.call!(call, @call)
    {own, call}
  end
end
