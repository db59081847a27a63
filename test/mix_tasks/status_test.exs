defmodule Cryptoki.MixTasks.StatusTest do
  # The exit status of each task for each of its ends, as guides/command_line.md has them: 0, done; 1, no; 2, the
  # command or a file; 3, library, token, key, PIN. All tasks of the folder are in each table that concerns them.
  use ExUnit.Case, async: true

  import Cryptoki.Test.MixTasks

  alias Cryptoki.Test.{MixTasks, SoftHSM}

  @tasks for file <- Path.wildcard("lib/mix/tasks/cryptoki.*.ex"),
             do: file |> Path.basename(".ex") |> String.replace_prefix("cryptoki.", "")

  @token "pkcs11:token=payments"
  @pair @token <> ";object=pair"
  @private @pair <> ";type=private"
  @secret @token <> ";object=secret"
  @kek @token <> ";object=kek"

  setup_all do
    context = MixTasks.new(~w[payments other])
    file(context, "data", "data")
    file(context, "aes", :crypto.strong_rand_bytes(32))
    {_, 0} = openssl(context, ~w[req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes
                                 -keyout cert.key -out cert.pem -subj /CN=c])

    made = [
      {"keygen", [@pair <> ";id=%01", "-t", "ec"]},
      {"import", [@secret, "-t", "aes", "-i", "aes", "-a", "extractable=true"]},
      {"import", [@kek, "-t", "aes", "-i", "aes", "-f", "wrap,unwrap"]},
      {"import", [@token <> ";object=cert", "-i", "cert.pem"]},
      {"sign", [@private, "-i", "data", "-o", "signature"]},
      {"encrypt", [@secret, "-i", "data", "-o", "sealed"]},
      {"wrap", [@kek, "-k", "pkcs11:object=secret", "-o", "wrapped"]}
    ]

    assert statuses(context, made) == Enum.map(made, fn _ -> 0 end)
    Map.put(context, :environment, [{"CRYPTOKI_SO_PIN", SoftHSM.so_pin()} | context.environment])
  end

  # In one VM for all, with nothing to read unless there is.
  defp statuses(context, lines, redirection \\ ">/dev/null </dev/null") do
    number = System.unique_integer([:positive])
    [terms, out] = for name <- ~w[lines out], do: file(context, "#{name}-#{number}")
    File.write!(terms, for(line <- lines, do: :io_lib.format("~p.~n", [line])))
    script = Path.expand("test/support/statuses.exs")
    ebin = Application.app_dir(:cryptoki, "ebin")
    errors = file(context, "errors-#{number}")
    line = ~s(exec elixir -pa '#{ebin}' '#{script}' "$@" 2>'#{errors}' #{redirection})
    {_output, status} = shell(context, line, [terms, out])
    assert status == 0, File.read!(errors)
    out |> File.read!() |> :erlang.binary_to_term()
  end

  # A command of each task that is done, by names that are new each time.
  defp done(more \\ "") do
    new = @token <> ";object=new#{System.unique_integer([:positive])}#{more}"

    [
      {"attributes", [@secret]},
      {"bench", [@token, "--seconds", "1", "--sessions", "1"]},
      {"certificate", [@token <> ";object=cert"]},
      {"csr", [@private, "-s", "/CN=c"]},
      {"decrypt", [@secret, "-i", "sealed"]},
      {"doctor", [@token]},
      {"encrypt", [@secret, "-i", "data"]},
      {"import", [new <> "i", "-t", "aes", "-i", "aes"]},
      {"init", ["pkcs11:token=other", "--label", "other", "--yes"]},
      {"kcv", [@secret]},
      {"keygen", [new, "-t", "aes"]},
      {"mechanisms", [@token]},
      {"objects", [@token]},
      {"public_key", [@private]},
      {"random", ["16", @token]},
      {"sign", [@private, "-i", "data"]},
      {"tokens", []},
      {"unwrap",
       [@kek, "-k", "pkcs11:object=u#{System.unique_integer([:positive])}", "-t", "aes"] ++
         ["-i", "wrapped"]},
      {"verify", [@pair <> ";type=public", "-s", "signature", "-i", "data"]},
      {"wrap", [@kek, "-k", "pkcs11:object=secret"]},
      {"delete", [new, "--yes"]}
    ]
  end

  # What writes nothing to standard output.
  @silent ~w[delete pin]

  defp covered(lines, others),
    do: assert(Enum.sort(Enum.map(lines, &elem(&1, 0)) ++ others) == Enum.sort(@tasks))

  test "0 when it is done, and 2 when standard output takes nothing", context do
    lines = done()
    covered(lines, ~w[pin])
    assert ended(lines, statuses(context, lines)) == ended(lines, Enum.map(lines, fn _ -> 0 end))

    lines = Enum.reject(done(), fn {task, _} -> task in @silent end)
    expected = Enum.map(lines, fn _ -> 2 end)

    assert ended(lines, statuses(context, lines, ">/dev/full </dev/null")) ==
             ended(lines, expected)
  end

  defp ended(lines, statuses), do: Enum.zip(Enum.map(lines, &elem(&1, 0)), statuses)

  test "3 when library, token, key or PIN are in the way", context do
    lines = done() ++ [{"pin", [@token]}]
    library = for {task, args} <- lines, do: {task, args ++ ["-l", "/nonexistent.so"]}
    covered(library, [])

    nobody = &String.replace(&1, ~r/token=\w+/, "token=nobody")
    token = for {task, [_ | _] = args} <- lines, do: {task, Enum.map(args, nobody)}
    covered(token, ~w[tokens])
    # These say no: there is none that fits.
    no = fn {task, _args} -> if task == "doctor", do: 1, else: 3 end

    keyed =
      ~w[attributes bench certificate csr decrypt encrypt kcv public_key sign verify wrap unwrap]

    key = for task <- keyed, do: {task, missing(task)}
    # A PIN that is not there is one in the way, also when its file is not.
    pin = [{"objects", [@token, "--pin-file", "/nonexistent"]}]
    lines = library ++ token ++ key ++ pin
    assert ended(lines, statuses(context, lines)) == ended(lines, Enum.map(lines, no))

    wrong = [{"CRYPTOKI_PIN", "40414243"}, {"CRYPTOKI_NEW_PIN", SoftHSM.pin()}]
    lines = [{"objects", [@token]}, {"sign", [@private, "-i", "data"]}, {"pin", [@token]}]
    assert statuses(with_environment(context, wrong), lines) == [3, 3, 3]
  end

  defp missing(task) do
    {^task, [_uri | arguments]} = List.keyfind(done(), task, 0)
    [@token <> ";object=nobody" | arguments]
  end

  test "2 when the command is wrong, or a file cannot be read or written", context do
    wrong = for task <- @tasks, do: {task, ["--nonsense"]}
    many = for task <- @tasks, do: {task, [@pair, @pair, @pair]}
    lines = wrong ++ many
    assert ended(lines, statuses(context, lines)) == ended(lines, Enum.map(lines, fn _ -> 2 end))

    reads = ~w[decrypt encrypt import sign unwrap verify]

    unreadable =
      for {task, args} <- done(), task in reads, name <- ["/nonexistent", "."] do
        at = Enum.find_index(args, &(&1 == "-i"))
        {task, List.replace_at(args, at + 1, name)}
      end

    signature =
      for name <- ["/nonexistent", "."], do: {"verify", [@pair, "-s", name, "-i", "data"]}

    writes = ~w[certificate csr decrypt encrypt public_key random sign wrap]

    unwritable =
      for {task, args} <- done(),
          task in writes,
          name <- ["/nonexistent/x", "."],
          do: {task, args ++ ["-o", name]}

    raw = [{"attributes", [@secret, "label", "--raw", "-o", "/nonexistent/x"]}]
    keygen = [{"keygen", [@token <> ";object=unwritten", "-t", "ec", "-o", "/nonexistent/x"]}]
    lines = unreadable ++ signature ++ unwritable ++ raw ++ keygen
    assert ended(lines, statuses(context, lines)) == ended(lines, Enum.map(lines, fn _ -> 2 end))
    # The tasks with such options are those.
    for {option, tasks} <- [in: reads, out: writes ++ ~w[attributes keygen]] do
      having =
        for task <- @tasks,
            Mix.Task.get!("cryptoki.#{task}").usage() =~ "--#{option} FILE",
            do: task

      assert having == Enum.sort(tasks)
    end
  end

  test "1 when the answer is no", context do
    lines = [
      {"verify", [@pair <> ";type=public", "-s", "signature", "-i", "aes"]},
      {"verify", [@pair <> ";type=public", "-s", "data", "-i", "data"]},
      {"kcv", [@secret, "-e", "000000"]},
      {"tokens", ["pkcs11:token=nobody"]},
      {"mechanisms", [@token, "-f", "nothing"]},
      {"objects", [@token <> ";object=nobody"]},
      {"attributes", [@secret, "value"]},
      {"delete", [@token <> ";object=nobody", "--yes"]},
      {"doctor", [@token, "--for", "aes_xts"]}
    ]

    assert ended(lines, statuses(context, lines)) == ended(lines, Enum.map(lines, fn _ -> 1 end))
  end

  test "what destroys wants a word, and what makes a key or a certificate takes no name twice",
       context do
    lines = [
      {"delete", [@secret]},
      {"delete", [@pair, "--yes"]},
      {"init", [@token, "--label", "payments"]}
    ]

    twice = [
      {"keygen", [@secret, "-t", "aes"]},
      {"import", [@secret, "-t", "hmac", "-i", "aes"]},
      {"import", [@token <> ";object=cert", "-i", "cert.pem"]},
      {"unwrap", [@kek, "-k", "pkcs11:object=secret", "-t", "aes", "-i", "wrapped"]},
      {"init", ["--label", "payments"]}
    ]

    there = [{"kcv", [@secret]}, {"public_key", [@private]}]
    statuses = [2, 2, 2] ++ [3, 3, 3, 3, 3] ++ [0, 0]
    assert statuses(context, lines ++ twice ++ there) == statuses
  end

  # The others with pipes are in data_test.exs and mix_tasks_test.exs.
  test "standard input is what --in names", context do
    context = with_bytes(context)

    for {task, args} <- done(), task in ~w[import unwrap verify] do
      at = Enum.find_index(args, &(&1 == "-i"))
      from = Enum.at(args, at + 1)
      line = {task, args |> List.delete_at(at) |> List.delete_at(at)}
      assert statuses(context, [line], ">/dev/null <'#{from}'") == [0], task
    end
  end
end
