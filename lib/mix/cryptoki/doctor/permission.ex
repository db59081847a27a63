defmodule Mix.Cryptoki.Doctor.Permission do
  @moduledoc false
  # Who may what with files and directories, and who is asking.

  alias Mix.Cryptoki.Doctor

  @doc "A file or directory that this user may not use so: whose it is, and what its group would help."
  @spec denied(String.t(), Path.t(), String.t()) :: Doctor.finding()
  def denied(what, path, use) do
    case blocking(path) do
      nil ->
        {:wrong, "#{what} cannot #{use} by #{user()}", []}

      {place, stat} ->
        at = if place == path, do: "it", else: place

        text =
          "#{what} cannot #{use} by #{user()}: #{at} belongs to #{name("passwd", stat.uid)}:#{name("group", stat.gid)} with mode #{mode(stat)}"

        {:wrong, text, joining(stat)}
    end
  end

  # Whether the user is in the group of a file, and may what others may not.
  defp joining(stat) do
    group = name("group", stat.gid)

    cond do
      stat.gid == 0 or Bitwise.band(stat.mode, 0o050) == 0 ->
        []

      user() in members(stat.gid) ->
        ["newgrp #{group}    # you are in this group, and were not yet when you logged in"]

      true ->
        ["sudo usermod -aG #{group} #{user()}    # then log in again"]
    end
  end

  # The first on the way that is closed: what is behind it cannot even be seen.
  defp blocking(path) do
    parts = path |> Path.expand() |> Path.split()

    parts
    |> Enum.scan(&Path.join(&2, &1))
    |> Enum.reduce_while(nil, fn place, last ->
      case File.stat(place) do
        {:ok, stat} -> {:cont, {place, stat}}
        {:error, _reason} -> {:halt, last}
      end
    end)
  end

  # The name of the user that this VM runs as.
  defp user do
    with {name, 0} <- System.cmd("id", ["-un"], stderr_to_stdout: true) do
      String.trim(name)
    else
      _no_name -> with({number, 0} <- System.cmd("id", ["-u"]), do: String.trim(number))
    end
  end

  @doc "As `ls` and `chmod` have it."
  @spec mode(File.Stat.t()) :: String.t()
  def mode(stat), do: stat.mode |> Bitwise.band(0o7777) |> Integer.to_string(8)

  defp name(table, id) do
    Enum.find_value(rows(table), "#{id}", fn
      [name, _x, number | _rest] -> if number == "#{id}", do: name
      _other -> nil
    end)
  end

  defp members(gid) do
    Enum.find_value(rows("group"), [], fn
      [_name, _x, number, members] -> if number == "#{gid}", do: String.split(members, ",")
      _other -> nil
    end)
  end

  defp rows(table) do
    case File.read("/etc/" <> table) do
      {:ok, text} -> for line <- String.split(text, "\n"), do: String.split(line, ":")
      {:error, _reason} -> []
    end
  end
end
