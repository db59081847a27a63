defmodule Cryptoki.SSL.SignFun do
  @moduledoc false
  # The function that a listener keeps for as long as it lives. A function is no more when its module was
  # loaded anew and changed, twice: hence a module of its own, in which there is nothing to change.

  @doc "Signs by `sign!` of a module, as that is at the time."
  @spec new(module, list) :: (data :: term, hash :: atom, options :: list -> binary)
  def new(module, key) when is_list(key),
    do: fn data, hash, options -> apply(module, :sign!, [data, hash, options | key]) end
end
