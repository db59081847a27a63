defmodule Bench.Nif do
  @moduledoc false
  # bench/nif.c, in this VM.

  @on_load :load
  def load, do: :erlang.load_nif(String.to_charlist(System.fetch_env!("CRYPTOKI_BENCH_NIF")), 0)

  @spec open(charlist, charlist, charlist, charlist, pos_integer) :: non_neg_integer
  def open(_library, _label, _pin, _key, _sessions), do: :erlang.nif_error(:not_loaded)

  @spec scheduler(binary) :: binary
  def scheduler(_data), do: :erlang.nif_error(:not_loaded)

  @spec dirty(binary) :: binary
  def dirty(_data), do: :erlang.nif_error(:not_loaded)
end
