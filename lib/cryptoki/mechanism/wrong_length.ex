defmodule Cryptoki.Mechanism.WrongLength do
  @moduledoc false
  # Bytes of a length that the standard does not allow: a mistake of the program where it made them,
  # an error where they came with the data.

  defexception [:message]
end
