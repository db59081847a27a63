//! A vendor's library in a process of its own: what happens to it there happens to nobody else.
//!
//! Whoever starts this program hands it two connections, as its standard input and output. It becomes two processes. One
//! has the library: what comes over the [`first`] connection takes no time, and its end is the end of the process; the
//! others, for the control thread ([`control`]) and for each session ([`session`]), come over it. The other process is its
//! [`keeper`], which ends it, and tells how it has ended. There is no queue here, and nobody decides what is tried again
//! but the engine.

#![deny(unsafe_code)]

mod control;
mod first;
mod inside;
mod keeper;
mod log;
mod session;

use crate::inside::Inside;
use cryptoki_engine::process::link::Link;
use cryptoki_engine::process::wire::{Hello, Ready, Start, VERSION};
use cryptoki_engine::site::begin_epochs;
use cryptoki_ffi::channel::Channel;
use cryptoki_ffi::process::Fork;
use cryptoki_ffi::{memory, panics, process};
use std::io::IsTerminal;

mod entry {
    #![allow(unsafe_code)]

    /// What the build reads of a program that it does not run: whose, and of which version.
    #[used]
    #[unsafe(no_mangle)]
    static CRYPTOKI_WORKER_VERSION: &str =
        concat!("cryptoki_worker:version=", env!("CARGO_PKG_VERSION"), "\0");
}

/// The status of a process that has not got as far as a library.
const NOT_STARTED: i32 = 2;

fn main() {
    let asked = std::env::args_os().nth(1);
    if asked.is_some_and(|asked| asked == "--version") {
        println!(
            "cryptoki_worker {} wire {VERSION}",
            env!("CARGO_PKG_VERSION")
        );
        return;
    }
    if std::io::stdin().is_terminal() {
        eprintln!("cryptoki_worker is started by cryptoki, for `isolation: :process`");
        std::process::exit(NOT_STARTED);
    }
    let Ok((first, keeper)) = alone() else {
        process::leave(NOT_STARTED)
    };
    match process::fork() {
        Ok(Fork::Parent(child)) => {
            drop(first);
            keeper::serve(keeper, child)
        }
        Ok(Fork::Child) => drop(keeper),
        Err(_) => process::leave(NOT_STARTED),
    }
    match begin(Link::new(first)) {
        Some((link, inside)) => first::serve(link, inside),
        None => process::leave(NOT_STARTED),
    }
}

/// Nothing of whoever has started us is left but the two connections.
fn alone() -> std::io::Result<(Channel, Channel)> {
    process::close_descriptors_from(3);
    process::keep_memory_private();
    // The VM gets the signal, too, and ends its instances in their order: the end of the connection is ours.
    process::outlive_what_stops_a_group();
    // Or what is mounted where we were started could not be unmounted.
    std::env::set_current_dir("/")?;
    process::take_standard_channels()
}

/// What is said before there is a library.
fn begin(mut link: Link) -> Option<(Link, Inside)> {
    panics::quiet_panics();
    memory::reuse_large_blocks();
    link.send(&Hello::ours(), None).ok()?;
    let start: Start = link.receive().ok()?;
    begin_epochs(start.epoch);
    let ready = Ready {
        secret: start.secret,
    };
    let inside = Inside::new(start).ok()?;
    link.send(&ready, None).ok()?;
    Some((link, inside))
}
