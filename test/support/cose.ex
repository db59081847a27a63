defmodule Cryptoki.Test.COSE do
  @moduledoc false
  # Other people's COSE, pycose and cwt, and their CBOR, see cose.py; their ML-DSA, see post_quantum.py, and CMS, see cms.py.

  alias Cryptoki.JSON
  alias Cryptoki.Test.PKI.Requests
  alias Cryptoki.Test.Scratch

  @doc "What they answer to each request."
  @spec python([map], String.t()) :: [term]
  def python(requests, script \\ "cose.py") do
    Scratch.within("cose", fn directory ->
      file = Scratch.write(directory, "requests", JSON.encode!(requests))
      arguments = ["-B", Path.join("test/support", script), file]
      {text, 0} = System.cmd(Requests.python(), arguments)
      {:ok, answers} = JSON.decode(text)
      answers
    end)
  end

  @doc "Bytes in hexadecimal, both ways."
  @spec hex(binary) :: String.t()
  def hex(bytes), do: Base.encode16(bytes, case: :lower)

  @spec bytes(String.t()) :: binary
  def bytes(hex), do: Base.decode16!(hex, case: :mixed)
end
