//! What a process may have, and what it says when it has not enough.

use crate::isolated::{Isolated, await_that, process_limit, why};
use crate::world::bytes;
use cryptoki_engine::library::lanes::STACK;
use cryptoki_engine::operation::operation::Operation;
use cryptoki_ffi::failure::Reason;
use cryptoki_ffi::values::{Data, Mechanism, Parameter};
use cryptoki_sys::CKM_SHA256;

/// The least that can be asked for.
const MEMORY: u64 = 32 << 20;

#[test]
fn stacks_are_no_part_of_the_memory_that_a_library_may_have() {
    let Some(world) = Isolated::ready(Some(MEMORY)) else {
        return;
    };
    let sessions: Vec<_> = (0..8).map(|_| world.session().unwrap()).collect();
    assert!(world.signs());
    let process = world.process_of_library();
    let limit = || process_limit(process, libc::RLIMIT_DATA, None);
    // Of the sessions, of the control thread's connection, and of four that are beside them.
    assert_eq!(limit(), MEMORY + (8 + 1 + 4) * STACK as u64);
    drop(sessions);
    while limit() != MEMORY + (1 + 4) * STACK as u64 {
        std::thread::yield_now();
    }
}

#[test]
fn what_is_more_than_there_is_memory_for_is_refused_and_the_others_go_on() {
    let Some(world) = Isolated::ready(Some(MEMORY)) else {
        return;
    };
    let _session = world.session().unwrap();
    let process = world.process_of_library();
    let much = Operation::digest {
        mechanism: Mechanism {
            kind: CKM_SHA256,
            parameter: Parameter::Raw(Data::default()),
        },
        data: Data::copied(&vec![7; 4 * MEMORY as usize]),
    };
    let refused = why(world.run(much), Reason::InvalidArgument);
    assert!(refused.contains("memory:"), "{refused}");
    assert!(world.signs());
    assert_eq!(process, world.process_of_library());
}

#[test]
fn a_connection_that_does_not_arrive_is_refused_and_the_others_go_on() {
    let Some(world) = Isolated::ready(None) else {
        return;
    };
    let _session = world.session().unwrap();
    let process = world.process_of_library();
    let before = process_limit(process, libc::RLIMIT_NOFILE, None);
    // No descriptor can be received any more.
    process_limit(process, libc::RLIMIT_NOFILE, Some(3));
    let refused = why(world.session(), Reason::Busy);
    assert!(refused.contains("too many files open"), "{refused}");
    assert!(world.signs());
    process_limit(process, libc::RLIMIT_NOFILE, Some(before));
    assert!(world.session().is_ok());
    assert_eq!(process, world.process_of_library());
}

/// What is large goes over the connection then.
#[test]
fn memory_that_does_not_arrive_is_done_without() {
    let Some(world) = Isolated::ready(None) else {
        return;
    };
    let session = world.session().unwrap();
    let process = world.process_of_library();
    let digest = || {
        bytes(world.run(Operation::digest {
            mechanism: Mechanism {
                kind: CKM_SHA256,
                parameter: Parameter::Absent,
            },
            data: Data::copied(&[7; 1 << 20]),
        }))
    };
    let shares = || {
        let maps = std::fs::read_to_string(format!("/proc/{process}/maps"));
        maps.unwrap().contains("memfd:cryptoki")
    };
    let before = process_limit(process, libc::RLIMIT_NOFILE, None);
    process_limit(process, libc::RLIMIT_NOFILE, Some(3));
    let without = digest();
    process_limit(process, libc::RLIMIT_NOFILE, Some(before));
    assert!(!shares());
    drop(session);
    let session = world.session().unwrap();
    assert_eq!(digest(), without);
    assert!(shares() && world.signs());
    drop(session);
    // It goes with the session.
    await_that(|| !shares());
    assert_eq!(process, world.process_of_library());
}

#[test]
fn a_connection_for_which_there_is_no_thread_is_refused_and_the_others_go_on() {
    let Some(world) = Isolated::ready(None) else {
        return;
    };
    let _session = world.session().unwrap();
    let process = world.process_of_library();
    let before = process_limit(process, libc::RLIMIT_AS, None);
    // Next to nothing more, and no stack.
    process_limit(process, libc::RLIMIT_AS, Some(1 << 20));
    let refused = why(world.session(), Reason::Busy);
    assert!(refused.contains("no thread for a connection"), "{refused}");
    process_limit(process, libc::RLIMIT_AS, Some(before));
    assert!(world.signs() && world.session().is_ok());
    assert_eq!(process, world.process_of_library());
}
