# Runs Mix tasks one after the other, in one VM, and writes how each ended: `elixir -pa EBIN statuses.exs LINES OUT`, where
# LINES are Erlang terms, `{task, [arguments]}.`
Mix.start()
[lines, out] = System.argv()
{:ok, lines} = :file.consult(lines)

statuses =
  for {task, arguments} <- lines do
    status =
      try do
        Mix.Task.get!("cryptoki.#{task}").run(arguments)
        0
      catch
        :exit, {:shutdown, status} -> status
      end

    IO.puts(:stderr, "#{task}: #{status}")
    status
  end

File.write!(out, :erlang.term_to_binary(statuses))
