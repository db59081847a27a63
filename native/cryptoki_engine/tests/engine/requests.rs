//! Queues, callers that give up, leases, and answers that are looked for.

use crate::world::*;
use cryptoki_engine::operation::answer::Answer;
use cryptoki_engine::operation::begun::Begun;
use cryptoki_engine::operation::login::Login;
use cryptoki_engine::operation::operation::Operation;
use cryptoki_engine::request::handshake::Cancelled;
use cryptoki_engine::request::lease::{Inbox, Lease};
use cryptoki_engine::request::request::{Cancel, Request};
use cryptoki_engine::session::status::{End, Event};
use cryptoki_engine::session::told::{SessionJob, SessionRequest};
use cryptoki_engine::site::State;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_sys::{CKM_SHA256, CKR_TOKEN_NOT_PRESENT};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

fn is_own<A>(outcome: &Result<A>, expected: Reason) -> bool {
    matches!(outcome, Err(Failure::Own { reason, .. }) if *reason == expected)
}

#[test]
fn who_gives_up_in_the_queue_was_not_executed_and_takes_no_place() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    world.module.control("C_GenerateRandom hang");
    let (_, hanging) = world.send(random());
    world.module.await_noted("C_GenerateRandom");
    let (second, answer_of_second) = world.send(random());
    assert_eq!(world.instance.waiting(), 1);
    assert_eq!(second.cancel(), Cancelled::Queued);
    assert_eq!(second.cancel(), Cancelled::Already);
    assert_eq!(world.instance.waiting(), 0);
    world.module.control("");
    assert_eq!(bytes(answer(&hanging)).len(), 8);
    assert_eq!(bytes(world.run(random())).len(), 8);
    assert!(answer_of_second.try_recv().is_err());
}

#[test]
fn who_gives_up_on_a_call_ends_its_session_and_not_the_instance() {
    let Some((world, sessions)) = World::with_sessions(2) else {
        return;
    };
    world.module.control("C_GenerateRandom hang count=1");
    let (hanging, _answer) = world.send(random());
    world.module.await_noted("C_GenerateRandom");
    assert_eq!(bytes(world.run(random())).len(), 8);
    assert_eq!(hanging.cancel(), Cancelled::Running);
    let runner = hanging.runner().unwrap();
    assert!(
        sessions
            .iter()
            .any(|session| session.status.id == runner.id)
    );
    assert!(runner.mark_overdue() && !runner.mark_overdue());
    world.module.control("");
    assert_eq!(world.event(), Event::Cleaning);
    assert_eq!(world.event(), Event::Ended(End::Overdue));
    assert_eq!(bytes(world.run(random())).len(), 8);
}

#[test]
fn a_full_queue_says_so_at_once_and_a_state_refuses_what_waits() {
    let Some(world) = World::new() else { return };
    let waiting: Vec<_> = (0..100).map(|_| world.send(random())).collect();
    let (sender, _answer) = channel();
    let one_more = Request::new(SessionJob::Run(random()), post(sender), None);
    assert!(is_own(&world.instance.submit(&one_more), Reason::Busy));
    world.instance.set_state(State::Locked);
    assert!(is_own(&world.instance.submit(&one_more), Reason::Locked));
    for (_request, refused) in waiting {
        assert!(is_own(&answer(&refused), Reason::Locked));
    }
}

#[test]
fn a_lease_serves_one_caller_and_what_it_leaves_is_cleaned() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    let (inbox, leased) = lease(&world);
    assert!(matches!(answer(&leased), Ok(Answer::Done)));
    let (_other, other) = world.send(random());
    let (sender, own) = channel();
    let digest = Operation::init {
        begun: Begun {
            kind: Kind::Digest,
            number: 1,
        },
        mechanism: mechanism(CKM_SHA256),
        key: None,
        login: Login::Without,
    };
    let digest = Request::new(SessionJob::Run(digest), post(sender), None);
    assert!(inbox.put(digest).is_ok());
    assert!(matches!(answer(&own), Ok(Answer::Done)));
    assert!(other.try_recv().is_err());
    let finals = world.module.noted("C_DigestFinal");
    inbox.shut();
    assert_eq!(bytes(answer(&other)).len(), 8);
    assert!(world.module.noted("C_DigestFinal") > finals);
}

#[test]
fn a_lease_that_leaves_nothing_behind_is_over_without_a_word() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    let (inbox, leased) = lease(&world);
    assert!(matches!(answer(&leased), Ok(Answer::Done)));
    inbox.shut();
    // Served by the same thread, afterwards.
    assert_eq!(bytes(world.run(random())).len(), 8);
    assert!(world.events.try_recv().is_err());
}

#[test]
fn a_session_that_is_lost_and_stays_so_is_not_leased() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    world
        .module
        .control("C_GetSessionInfo rv=0xB3\nC_OpenSession rv=0xE0");
    world.instance.site().note_loss();
    let (_inbox, leased) = lease(&world);
    assert!(answer(&leased).is_err_and(|failure| failure.is(CKR_TOKEN_NOT_PRESENT)));
}

#[test]
fn an_answer_that_is_looked_for_lies_there_and_one_that_is_late_comes() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    let looked_for = || {
        let request = Request::looked_for(SessionJob::Run(random()), None);
        world.instance.submit(&request).unwrap();
        request
    };
    let far = Instant::now() + Duration::from_secs(60);
    let (outcome, times) = looked_for().look(far).unwrap();
    assert_eq!(bytes(outcome).len(), 8);
    assert!(times.worked > 0);
    world.module.control("C_GenerateRandom hang");
    let request = looked_for();
    assert!(request.look(Instant::now()).is_none());
    let (sender, late) = channel();
    assert!(request.look_away(post(sender)).is_none());
    world.module.control("");
    assert_eq!(bytes(answer(&late)).len(), 8);
}

#[test]
fn a_session_that_nobody_holds_serves_nobody_however_much_waits() {
    let Some((world, sessions)) = World::with_sessions(1) else {
        return;
    };
    world.module.control("C_GenerateRandom hang count=1");
    let (_, hanging) = world.send(random());
    world.module.await_noted("C_GenerateRandom");
    let waiting: Vec<_> = (0..20).map(|_| world.send(random())).collect();
    drop(sessions);
    world.module.control("");
    assert_eq!(bytes(answer(&hanging)).len(), 8);
    assert_eq!(world.event(), Event::Cleaning);
    assert_eq!(world.event(), Event::Ended(End::Closed));
    assert_eq!(world.instance.waiting(), waiting.len());
}

#[test]
fn while_one_looks_for_requests_no_other_does() {
    let Some((world, _sessions)) = World::with_sessions(8) else {
        return;
    };
    assert_eq!(bytes(world.run(random())).len(), 8);
    // Until it does not look any more: then it is this thread that does.
    while !world.instance.hand.open() {
        std::thread::yield_now();
    }
    let (_, in_the_hand) = world.send(random());
    // The hand is full: these are for the sessions, which would all look when they have served.
    let others: Vec<_> = (0..64).map(|_| world.send(random())).collect();
    for (_request, other) in &others {
        assert_eq!(bytes(answer(other)).len(), 8);
    }
    let given = world.instance.hand.close().unwrap();
    assert!(in_the_hand.try_recv().is_err());
    world.instance.put_back(given);
    assert_eq!(bytes(answer(&in_the_hand)).len(), 8);
}

/// A lease that was asked for: where its requests go, and the answer.
fn lease(world: &World) -> (Inbox<SessionRequest>, Receiver<Result<Answer>>) {
    let (lease, inbox) = Lease::new(10);
    let (sender, leased) = channel();
    let request = Request::new(
        SessionJob::Lease(lease, std::sync::Arc::default()),
        post(sender),
        None,
    );
    world.instance.submit(&request).unwrap();
    (inbox, leased)
}

fn post(sender: Sender<Result<Answer>>) -> Box<Post<Answer>> {
    Box::new(Post(sender))
}
