//! What a session makes of the answers of a library: the table, applied.

use crate::world::*;
use cryptoki_engine::library::session_handle::SessionHandle;
use cryptoki_engine::session::status::{End, Event};
use cryptoki_ffi::failure::{Class, Failure, Reason};
use cryptoki_sys::*;

/// Functions that have run, in the journal.
fn ran(world: &World, function: &str) -> usize {
    world.module.noted(&format!(" {function} "))
}

#[test]
fn a_session_that_was_gone_before_the_call_is_opened_anew_and_the_call_runs_once_more() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    world.module.control("C_GenerateRandom rv=0xB3 count=1");
    let before = ran(&world, "C_GenerateRandom");
    assert_eq!(bytes(world.run(random())).len(), 8);
    assert_eq!(ran(&world, "C_GenerateRandom") - before, 2);
    assert!(matches!(world.event(), Event::Reopened(failure) if failure.class() == Class::Session));
}

#[test]
fn one_that_went_during_the_call_is_opened_anew_and_the_call_is_handed_over() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    world.module.control("C_GenerateRandom rv=0xB0 count=1");
    let before = ran(&world, "C_GenerateRandom");
    assert!(
        world
            .run(random())
            .is_err_and(|failure| failure.is(CKR_SESSION_CLOSED))
    );
    assert_eq!(ran(&world, "C_GenerateRandom") - before, 1);
    assert!(matches!(world.event(), Event::Reopened(_)));
}

#[test]
fn what_a_call_before_has_left_is_cancelled_and_the_call_runs_once_more() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    let key = object(world.run(secret_key(true)));
    world.module.control("C_SignInit rv=0x90 count=1");
    assert_eq!(bytes(world.run(hmac(Some(key)))).len(), 32);
}

#[test]
fn a_pulled_token_ends_the_session_and_tells_its_owner() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    let epoch = world.instance.site().epoch();
    world.module.control("C_GenerateRandom rv=0x32 count=1");
    assert!(
        world
            .run(random())
            .is_err_and(|failure| failure.is(CKR_DEVICE_REMOVED))
    );
    assert_eq!(world.event(), Event::Cleaning);
    assert!(matches!(world.event(), Event::Lost(failure) if failure.is(CKR_DEVICE_REMOVED)));
    assert!(world.instance.site().epoch() > epoch);
}

#[test]
fn three_device_errors_in_a_row_are_trouble_and_reopen_the_session() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    world.module.control("C_GenerateRandom rv=0x30 count=3");
    for _ in 0..3 {
        assert!(
            world
                .run(random())
                .is_err_and(|failure| failure.is(CKR_DEVICE_ERROR))
        );
    }
    assert!(matches!(world.event(), Event::Failing(_)));
    assert!(matches!(world.event(), Event::Reopened(_)));
    assert_eq!(bytes(world.run(random())).len(), 8);
    assert_eq!(world.event(), Event::Working);
}

#[test]
fn session_keys_outlive_the_caller_that_gave_up_in_their_session() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    let key = object(world.run(secret_key(false)));
    world.module.control("C_GenerateRandom hang count=1");
    let (hanging, _answer) = world.send(random());
    world.module.await_noted("C_GenerateRandom");
    use cryptoki_engine::request::request::Cancel;
    hanging.cancel();
    world.module.control("");
    assert_eq!(world.event(), Event::Cleaning);
    assert_eq!(world.event(), Event::Ended(End::Overdue));
    let _other = world.open_session().unwrap();
    assert_eq!(bytes(world.run(hmac(Some(key)))).len(), 32);
}

#[test]
fn a_handle_of_an_earlier_life_is_stale() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    let key = object(world.run(secret_key(true)));
    world.instance.site().bump_epoch();
    let signed = world.run(hmac(Some(key)));
    assert!(
        matches!(
            signed,
            Err(Failure::Own {
                reason: Reason::StaleHandle,
                ..
            })
        ),
        "{signed:?}"
    );
}

/// Kryoptic calls it a general error when somebody else has logged us out.
#[test]
fn a_general_error_of_a_session_that_somebody_has_logged_out_is_a_lost_login() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    let key = Some(object(world.run(secret_key(false))));
    let is = |outcome: cryptoki_ffi::failure::Result<_>, code| {
        outcome.is_err_and(|failure: Failure| failure.is(code))
    };
    world.module.control("C_SignInit rv=0x5 count=1");
    assert!(is(world.run(hmac(key)), CKR_GENERAL_ERROR));
    let library = &world.instance.site().library;
    let other = SessionHandle::open(library, world.slot, true).unwrap();
    other
        .call(|functions, session| functions.logout(session))
        .unwrap();
    world.module.control("C_SignInit rv=0x5 count=1");
    assert!(is(world.run(hmac(key)), CKR_USER_NOT_LOGGED_IN));
    // Of what is no beginning it says nothing.
    world.module.control("C_GenerateRandom rv=0x5 count=1");
    assert!(is(world.run(random()), CKR_GENERAL_ERROR));
    world.module.control("C_SignInit rv=0x6 count=1");
    assert!(is(world.run(hmac(key)), CKR_FUNCTION_FAILED));
}
