//! Nothing: this crate names, in its `Cargo.toml`, the test vectors that `test/vectors` reads.
