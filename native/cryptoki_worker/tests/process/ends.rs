//! How a process ends, what goes with it, and what it is when it does not.

use crate::isolated::{Isolated, await_that, exists, signal, stop, why};
use crate::world::{answer, random, request};
use cryptoki_engine::control::jobs::{Job, Told};
use cryptoki_ffi::failure::Reason;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::sync::mpsc::channel;

#[test]
fn what_the_library_has_started_ends_with_it() {
    let Some(world) = Isolated::ready(None) else {
        return;
    };
    let (keeper, process) = (world.keeper(), world.process_of_library());
    let mut helper = Command::new("/bin/sleep");
    let mut helper = helper.arg("600").process_group(keeper).spawn().unwrap();
    signal(process, libc::SIGKILL);
    assert_eq!(helper.wait().unwrap().signal(), Some(libc::SIGKILL));
    await_that(|| !exists(keeper));
}

#[test]
fn where_the_vm_is_gone_the_keeper_ends_its_group() {
    let (first, ours) = cryptoki_ffi::channel::Channel::pair().unwrap();
    let (note, heard) = cryptoki_ffi::channel::Channel::pair().unwrap();
    let mut keeper = Command::new(env!("CARGO_BIN_EXE_cryptoki_worker"))
        .process_group(0)
        .stdin(first.into_owned())
        .stdout(note.into_owned())
        .spawn()
        .unwrap();
    let mut helper = Command::new("/bin/sleep");
    helper.arg("600").process_group(keeper.id().cast_signed());
    let mut helper = helper.spawn().unwrap();
    drop((ours, heard));
    assert_eq!(helper.wait().unwrap().signal(), Some(libc::SIGKILL));
    keeper.wait().unwrap();
}

#[test]
fn one_that_does_not_end_is_taken_for_ended_and_another_is_started() {
    let Some(world) = Isolated::ready(None) else {
        return;
    };
    let _session = world.session().unwrap();
    let (keeper, process) = (world.keeper(), world.process_of_library());
    world.control("C_GenerateRandom hang");
    let hanging = world.send(random());
    await_that(|| world.noted("C_GenerateRandom hangs") > 0);
    // As a driver would keep it, it says nothing of an end.
    stop(keeper);
    world.worker.kill("a test wants it");
    let detail = why(answer(&hanging), Reason::LibraryCrashed);
    assert!(
        detail.contains(&format!("see process {keeper}")),
        "{detail}"
    );
    world.control("");
    assert!(matches!(
        answer(&world.job(Job::Reinitialize)),
        Ok(Told::Done)
    ));
    assert_ne!(world.process_of_library(), process);
    answer(&world.log_in().1).unwrap();
    let _session = world.session().unwrap();
    assert!(world.signs());
    // It was only stopped, and ends when nobody waits for it any more.
    await_that(|| !exists(keeper) && !exists(process));
}

#[test]
fn the_end_is_bounded_of_one_that_was_started_meanwhile_too() {
    let Some(world) = Isolated::started(None) else {
        return;
    };
    let first = world.process_of_library();
    world.worker.kill("a test wants it");
    await_that(|| !exists(first));
    world.control("C_Initialize hang");
    // The control thread has not begun to start it when it is closed.
    let (go_on, held_up) = channel::<()>();
    world.worker.lanes.tell(Box::new(move |_| {
        let _ = held_up.recv();
    }));
    let starting = world.job(Job::Reinitialize);
    let (closing, closed) = request(());
    world.held.give_back(closing).unwrap();
    drop(go_on);
    assert!(answer(&starting).is_err());
    assert_eq!(answer(&closed), Ok(()));
}
