defmodule Cryptoki.Test.Parts do
  @moduledoc false
  # Some DER taken apart, to be looked at or put together in another way.

  alias Cryptoki.DER
  alias Cryptoki.DER.Reader

  @doc "The values in some bytes: tag, contents, and both with the length."
  @spec split(binary) :: {:ok, [{byte, binary, DER.t()}]} | {:error, Cryptoki.Error.t()}
  def split(bytes) do
    Reader.read(DER.value(0x30, bytes), "", fn all ->
      for value <- Reader.values(all), do: {value.tag, value.contents, value.der}
    end)
  end
end
