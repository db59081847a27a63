defmodule Mix.Cryptoki.StandardInput do
  @moduledoc false
  # The bytes of standard input. Erlang/OTP 26 and 27 read them before anybody asks, as text of the locale: of UTF-8 they
  # make letters, which become the same bytes again; of what is none nobody knows any more what it was.

  @chunk 65_536

  @doc "A device that gives them as they are; ends the task where they are not known."
  @spec device() :: IO.device()
  def device do
    if read_early?() and utf8?() do
      {:ok, device} = :file.open(text([]), [:ram, :binary, :read])
      device
    else
      _ = :io.setopts(:standard_io, encoding: :latin1)
      :standard_io
    end
  end

  # Since 28 there is a function by which its reader is asked.
  defp read_early?,
    do:
      match?({:module, _}, Code.ensure_loaded(:prim_tty)) and
        not function_exported?(:prim_tty, :read, 1)

  # As the VM has begun with it: it forgets, once it has seen what is no text.
  defp utf8? do
    locale = Enum.find_value(~w[LC_ALL LC_CTYPE LANG], &set(System.get_env(&1)))

    Application.get_env(:kernel, :standard_io_encoding) != :latin1 and
      to_string(locale) =~ ~r/utf-?8/i
  end

  defp set(""), do: nil
  defp set(value), do: value

  # All of it: `:eof` in the place of a number would make one byte of the two that end a line.
  defp text(read) do
    letters = IO.read(:standard_io, @chunk)

    case {letters, :io.getopts(:standard_io)[:encoding]} do
      {more, :unicode} when is_binary(more) -> text([read, more])
      {:eof, :unicode} -> IO.iodata_to_binary(read)
      _no_text -> refuse()
    end
  end

  @spec refuse() :: no_return
  defp refuse do
    Mix.Cryptoki.refuse!(
      "standard input: Erlang/OTP #{System.otp_release()} has read bytes there that are no text, and not kept them; name a " <>
        "file by --in, or let the shell give it as one: --in /dev/fd/3 3<&0 </dev/null"
    )
  end
end
