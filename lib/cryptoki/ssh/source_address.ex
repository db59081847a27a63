defmodule Cryptoki.SSH.SourceAddress do
  @moduledoc false
  # The list of addresses and networks from which a certificate may be used, as sshd reads it: it refuses
  # a whole certificate for one entry that it does not take. Pure.

  import Bitwise

  # ssh-keygen and sshd take no others, and no longer ones (addr_match_cidr_list of OpenSSH).
  @entry ~r/\A[0-9a-fA-F.:]{1,46}(\/[0-9]{1,3})?\z/

  @doc "The text, from text or a list; what is wrong with it, to stand behind the name of the option."
  @spec list(term) :: {:ok, String.t()} | {:error, String.t()}
  def list(text) when is_binary(text), do: text |> String.split(",") |> list()
  def list([_ | _] = entries), do: list(entries, [])
  def list(_other), do: {:error, ""}

  defp list([entry | rest], done) do
    case network(entry) do
      :ok -> list(rest, [entry | done])
      {:error, why} -> {:error, why}
    end
  end

  defp list([], done), do: {:ok, done |> Enum.reverse() |> Enum.join(",")}
  defp list(_improper, _done), do: {:error, ""}

  defp network(text) do
    with true <- is_binary(text) and text =~ @entry,
         [address | mask] <- String.split(text, "/"),
         {:ok, address} <- :inet.parse_strict_address(to_charlist(address)),
         {number, size} = number(address),
         bits = if(mask == [], do: size, else: mask |> hd() |> String.to_integer()),
         true <- bits <= size do
      host_bits(number, size - bits, text)
    else
      _no_network -> {:error, ""}
    end
  end

  # sshd takes them for a mistake, not for the network that they are in.
  defp host_bits(number, free, text) do
    if (number &&& (1 <<< free) - 1) == 0,
      do: :ok,
      else: {:error, ", and #{text} has bits behind its mask"}
  end

  defp number({a, b, c, d}), do: {:binary.decode_unsigned(<<a, b, c, d>>), 32}

  defp number(v6) do
    bytes = for part <- Tuple.to_list(v6), into: <<>>, do: <<part::16>>
    {:binary.decode_unsigned(bytes), 128}
  end
end
