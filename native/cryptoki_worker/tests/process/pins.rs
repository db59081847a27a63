//! When a PIN leaves this process.

use crate::isolated::{Isolated, await_that, field, signal, stop};
use crate::world::answer;
use cryptoki_engine::control::jobs::Job;
use cryptoki_engine::request::request::Cancel;
use std::fs::read_to_string;
use std::path::Path;
use std::sync::mpsc::channel;

#[test]
fn a_pin_that_nobody_wants_tried_any_more_is_not_handed_to_a_process_that_was_stopped() {
    let Some(world) = Isolated::started(None) else {
        return;
    };
    let process = world.process_of_library();
    stop(process);
    let (begin, begun) = channel();
    let (thread, control) = channel();
    world.worker.lanes.tell(Box::new(move |_| {
        begun.recv().unwrap();
        let this = std::fs::read_link("/proc/thread-self").unwrap();
        thread.send(this).unwrap();
    }));
    let (login, outcome) = world.log_in();
    begin.send(()).unwrap();
    // It has come to the login, and waits for the process; it has not taken the PIN meanwhile.
    let waiting = Path::new("/proc")
        .join(control.recv().unwrap())
        .join("status");
    await_that(|| field(&read_to_string(&waiting).unwrap(), "State:").starts_with('S'));
    assert!(login.withdraw());
    signal(process, libc::SIGCONT);
    answer(&world.job(Job::Slots)).unwrap();
    assert_eq!(world.noted("C_Login "), 0);
    drop((login, outcome));
    answer(&world.log_in().1).unwrap();
    assert_eq!(world.noted("C_Login ran"), 1);
}
