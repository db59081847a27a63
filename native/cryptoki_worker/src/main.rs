//! A vendor's library in a process of its own: what happens to it there happens to nobody else.

#![deny(unsafe_code)]

/// Of the messages between this program and whoever starts it: both sides are of the same.
const WIRE: u32 = 1;

mod entry {
    #![allow(unsafe_code)]

    /// What the build reads of a program that it does not run: whose, and of which version.
    #[used]
    #[unsafe(no_mangle)]
    static CRYPTOKI_WORKER_VERSION: &str =
        concat!("cryptoki_worker:version=", env!("CARGO_PKG_VERSION"), "\0");
}

fn main() {
    let asked = std::env::args_os().nth(1);
    if asked.is_some_and(|asked| asked == "--version") {
        println!("cryptoki_worker {} wire {WIRE}", env!("CARGO_PKG_VERSION"));
        return;
    }
    eprintln!("cryptoki_worker is started by cryptoki, for `isolation: :process`");
    std::process::exit(2);
}
