defmodule Cryptoki.Mechanism.OutOfRange do
  @moduledoc false
  # Bytes of a length, or a number, that the standard does not allow: a mistake of the program where it chose
  # them, an error where they came with the data.

  defexception [:message]
end
