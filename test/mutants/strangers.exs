# What strangers ask for is read strictly, and checked as what an operator writes.
[
  {"what a requester is called is checked", "lib/cryptoki/x509/request.ex",
   "with {:error, text} <- Name.check(name),", "with {:error, text} <- {:ok, name},",
   "test/cryptoki/x509_request_test.exs"},
  {"alternative names of a requester are checked", "lib/cryptoki/x509/alt_name.ex",
   "with {:error, text} <- name |> parse() |> check(),", "with {:error, text} <- {:ok, name},",
   "test/cryptoki/x509_request_test.exs"},
  {"keys of a requester are checked", "lib/cryptoki/x509/request.ex",
   "with {:error, reason, text} <- Info.check(key),",
   "with {:error, reason, text} <- {:ok, key},", "test/cryptoki/x509_request_test.exs"},
  {"points with which everybody can sign are no keys", "lib/cryptoki/public_key/edwards.ex",
   "square == 0 or y == 0 -> :small", "square == -1 -> :small",
   "test/cryptoki/x509_request_test.exs"},
  {"a length is written in one way", "lib/cryptoki/der/reader.ex",
   "if size < 128 or size < Bitwise.bsl(1, 8 * (count - 1)),", "if size < 0,",
   "test/cryptoki/der_reader_test.exs"},
  {"no two names look the same", "lib/cryptoki/x509/name.ex",
   ~S'Regex.replace(~r{[/\\+]|\A#|\A | \z}, text', ~S'Regex.replace(~r{[/\\]|\A#|\A | \z}, text',
   "test/cryptoki/x509_names_test.exs"}
]
