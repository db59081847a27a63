# Keys on their way in and out.
[
  {"a wrapping key with a template wraps no transport key", "lib/cryptoki/transfer/wrapping.ex",
   "{:error, _error} -> false", "{:error, _error} -> true",
   "test/cryptoki/transfer_transport_test.exs"},
  {"what may not leave its token is not wrapped in another way",
   "lib/cryptoki/transfer/wrapping.ex", "%Error{reason: r} = error} when r in @otherwise ->",
   "%Error{reason: r} = error} when r != nil ->", "test/cryptoki/transfer_transport_test.exs"},
  {"an IV of the token's own is not taken for the one that is written",
   "lib/cryptoki/transfer/wrapping.ex",
   "{:ok, blob} <- IV.answer(Mechanism.iv(mechanism), result, 0),",
   "{:ok, blob} <- IV.answer(nil, result, 0),", "test/cryptoki/transfer_transport_test.exs"},
  {"a transport key has the length of one", "lib/cryptoki/transfer/file.ex",
   "true <- byte_size(key) == Wrapping.transport_size() and Wrapping.chained?(wrapped),",
   "true <- Wrapping.chained?(wrapped),", "test/cryptoki/transfer_transport_test.exs"},
  {"under a transport key stand whole blocks", "lib/cryptoki/transfer/wrapping.ex",
   "byte_size(blob) > @iv and rem(byte_size(blob), @iv) == 0", "byte_size(blob) > 0",
   "test/cryptoki/transfer_transport_test.exs"}
]
