# Ends a VM with status 3 while a call of the library hangs for ever.
# Run by test/cryptoki/exit_test.exs: the start options as an RFC 7512 URI, and the journal of the
# fault module, which says when the call hangs.
[uri, journal] = System.argv()

{:ok, _} = Application.ensure_all_started(:cryptoki)

spawn(fn ->
  {:ok, hsm} = Cryptoki.start_link(uri: uri)
  spawn(fn -> Cryptoki.random(hsm, 8) end)
  Cryptoki.random(hsm, 8)
  Cryptoki.stop(hsm)
end)

hangs? = fn hangs? ->
  case File.read(journal) do
    {:ok, text} -> text =~ " hangs " or hangs?.(hangs?)
    {:error, :enoent} -> hangs?.(hangs?)
  end
end

true = hangs?.(hangs?)
System.halt(3)
