# Of the native code, what needs a VM to run: cargo-mutants reaches the rest.
[
  {"a panic in a NIF does not leave it", "native/cryptoki_nif/src/guard.rs",
   "guarded(|| inject::nif(env, body)).unwrap_or_else",
   "Some(inject::nif(env, body)).unwrap_or_else", ["test/safety/panic_test.exs"]},
  {"a session with another token is none", "native/cryptoki_nif/src/place.rs",
   "if now == self.token {", "if now == self.token || self.slot == self.slot {",
   "test/recovery/swap_test.exs"},
  {"what was begun in a session that is lost is not gone on with",
   "native/cryptoki_nif/src/session.rs",
   "if in_operation {\n                    return Err(Failure::own(Reason::SessionLost, failure.to_string()));\n                }",
   "let _ = in_operation;", "test/recovery/table_test.exs"},
  {"a session whose caller left an operation is cleaned", "native/cryptoki_nif/src/session.rs",
   "if self.fate.is_none() && self.active.any() {", "if self.fate.is_none() && false {",
   "test/cryptoki/session_test.exs"},
  {"a queue has a limit", "native/cryptoki_nif/src/instance.rs",
   "if self.waiting() >= self.limit {", "if self.waiting() > usize::MAX - 1 {",
   "test/recovery/hang_test.exs"},
  {"after one loss the other sessions are looked at", "native/cryptoki_nif/src/instance.rs",
   "self.losses.fetch_add(1, SeqCst);", "", "test/recovery/reboot_test.exs"}
]
