defmodule Cryptoki.Answers do
  @moduledoc false
  # What each return value of a library means: the table of native/cryptoki_ffi/recovery.txt, whose columns are
  # explained there, and which the native side reads as well. What is not in it was not executed, and is the
  # caller's to see.

  @table Path.expand("../../../native/cryptoki_ffi/recovery.txt", __DIR__)
  @external_resource @table

  @typedoc "A row."
  @type t :: %{
          code: non_neg_integer,
          name: atom,
          class: atom,
          executed: false | :maybe,
          session: :keep | :reopen | :cancel | :end,
          again: :no | :once | :login | :lookup,
          instance: nil | :absent | :reinitialize | :locked,
          pin: :refused | :doubtful | :untried
        }

  @rows (for line <- File.stream!(@table), not String.starts_with?(line, "#") do
           ["0x" <> code | names] = String.split(line)

           [name, class, executed, session, again, instance, pin] =
             Enum.map(names, &String.to_atom/1)

           %{
             code: String.to_integer(code, 16),
             name: name,
             class: class,
             executed: if(executed == :maybe, do: :maybe, else: false),
             session: session,
             again: again,
             instance: if(instance != :-, do: instance),
             pin: pin
           }
         end)

  @by_code Map.new(@rows, &{&1.code, &1})
  @maybe for %{executed: :maybe, name: name} <- @rows, do: name

  @doc "All rows, in their order."
  @spec rows() :: [t, ...]
  def rows, do: @rows

  @doc "The row of a code, if it has one."
  @spec row(non_neg_integer) :: t | nil
  def row(code), do: @by_code[code]

  @doc "The names of those after which a call may have been executed."
  @spec maybe() :: [atom]
  def maybe, do: @maybe
end
