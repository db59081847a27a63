# What is nested without end, in a VM of its own. Run by test/cryptoki/depth_test.exs: the start options
# as an RFC 7512 URI. What each call answers is a line; the status is 3 at the end.
alias Cryptoki.{Native, HSM}

[uri] = System.argv()
Logger.configure(level: :none)
{:ok, _} = Application.ensure_all_started(:cryptoki)
{:ok, hsm} = Cryptoki.start_link(uri: uri)
{:ok, target} = HSM.target(hsm)

deep = fn innermost, wrap ->
  Enum.reduce(1..100_000, innermost, fn _, inner -> wrap.(inner) end)
end

template = deep.([token: true], &[wrap_template: &1])
struct = deep.([ulong: 1], &[struct: &1])
nested = deep.([ulong: 1], &[nested: &1])
array = deep.([ulong: 1], &[array: [&1]])
wire = deep.([{1, true}], &[{0x40000211, {:template, &1}}])

answer = fn call ->
  try do
    call.()
  rescue
    ArgumentError -> :argument_error
  end
end

submit = fn operation -> fn -> Native.submit(make_ref(), target.native, operation) end end

calls = [
  fn -> Cryptoki.find(hsm, wrap_template: template) end,
  fn -> Cryptoki.create(hsm, class: :data, derive_template: template) end,
  fn -> Cryptoki.generate_key(hsm, :aes_key_gen, unwrap_template: template) end,
  fn -> Cryptoki.digest(hsm, {0x80000001, {:struct, struct}}, "") end,
  fn -> Cryptoki.digest(hsm, {0x80000001, {:struct, nested}}, "") end,
  fn -> Cryptoki.digest(hsm, {0x80000001, {:struct, array}}, {:stream, [""]}) end,
  fn ->
    Cryptoki.with_session(hsm, &Cryptoki.start(&1, :digest, {0x80000001, {:struct, array}}))
  end,
  fn -> :cryptoki.find(hsm, %{wrap_template: template}) end,
  # Past all checks of Elixir.
  submit.({:find, wire, 0}),
  submit.({:create, wire}),
  submit.({:digest, {0x80000001, struct}, ""}),
  submit.({:digest, {0x80000001, nested}, ""}),
  submit.({:digest, {0x80000001, array}, ""}),
  submit.({:digest, {0x80000001, [template: wire]}, ""}),
  submit.({:message, :message_encrypt, struct, "", ""})
]

for call <- calls, do: IO.inspect(answer.(call))
{:ok, _} = Cryptoki.digest(hsm, :sha256, "still there")
System.halt(3)
