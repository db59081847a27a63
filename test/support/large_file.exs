# Signs a file, encrypts it to another one, and says by how many KiB the memory of the VM, and of the process of the
# library where it has one, grew at most.
# Run by test/large_file_test.exs: start options as an RFC 7512 URI, and the files.
[uri, file, public, signature, encrypted] = System.argv()

{:ok, _} = Application.ensure_all_started(:cryptoki)
isolation = Cryptoki.Test.SoftHSM.isolation()
{:ok, hsm} = Cryptoki.start_link([uri: uri, timeout: :infinity] ++ isolation)

template = [modulus_bits: 2048, label: "large"]
{_public, rsa} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, template)
aes = [class: :secret_key, key_type: :aes, value: <<7::256>>, encrypt: true, sensitive: false]
aes = Cryptoki.create!(hsm, aes)

chunks = fn path ->
  Stream.resource(
    fn -> path |> :file.open([:read, :raw, :binary]) |> elem(1) end,
    fn file ->
      case :file.read(file, 256 * 1024) do
        {:ok, chunk} -> {[chunk], file}
        :eof -> {:halt, file}
      end
    end,
    &:file.close/1
  )
end

work = fn path, signature, encrypted ->
  File.write!(signature, Cryptoki.sign!(hsm, rsa, :sha256_rsa_pkcs, {:stream, chunks.(path)}))
  file = File.open!(encrypted, [:write, :raw])

  Cryptoki.encrypt_stream(hsm, aes, {:aes_ctr, iv: <<0::128>>}, chunks.(path))
  |> Enum.each(&(:ok = :file.write(file, &1)))

  File.close(file)
end

# Each by itself: what piles up on either side is seen.
processes = ["self" | Cryptoki.Test.Workers.all()]
true = length(processes) == 1 + length(isolation)

kib = fn name ->
  for process <- processes do
    [_, kib] = Regex.run(~r/^#{name}:\s+(\d+) kB$/m, File.read!("/proc/#{process}/status"))
    String.to_integer(kib)
  end
end

# Once for a small file: code is loaded and what is only made once is there.
work.(__ENV__.file, signature, encrypted)
pem = [:public_key.pem_entry_encode(:SubjectPublicKeyInfo, Cryptoki.public_key!(hsm, rsa))]
File.write!(public, :public_key.pem_encode(pem))
Enum.each(Process.list(), &:erlang.garbage_collect/1)

# The highest mark of the resident memory begins anew, where we may say so.
for process <- processes, do: File.write("/proc/#{process}/clear_refs", "5")
before = kib.("VmRSS")
work.(file, signature, encrypted)
grown = Enum.zip_with(kib.("VmHWM"), before, &-/2)
IO.puts("grew by #{Enum.max(grown)} KiB")
