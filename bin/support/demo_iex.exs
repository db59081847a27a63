hsm = Cryptoki.Demo.run()
IO.puts("\nhsm is the running instance. Try: Cryptoki.find(hsm, class: :private_key)\n")
