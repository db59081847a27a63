//! Handles whose number is given again.
#![allow(clippy::unwrap_used)]

use cryptoki_engine::library::numbers::{Numbers, Standing};
use cryptoki_ffi::values::Handle;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

const SLOT: u64 = 3;
const N: u64 = 7;
/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);
/// How many objects are known at once.
const LIMIT: usize = 1 << 20;

fn handle(generation: u64) -> Handle {
    Handle {
        number: N,
        life: 1,
        generation,
    }
}

fn found(numbers: &Numbers) -> Option<Handle> {
    let issued = numbers.found(SLOT, &[N]);
    issued.first().map(|(_, generation)| handle(*generation))
}

fn good(numbers: &Numbers, handle: Handle) -> bool {
    numbers.enter(SLOT, &[handle]).is_some()
}

fn destroy(numbers: &Numbers, handle: Handle) {
    let handles = [handle];
    let _in_use = numbers.enter(SLOT, &handles).unwrap();
    numbers.end(SLOT, handle).unwrap().gone();
}

#[test]
fn what_is_found_twice_is_the_same() {
    let numbers = Numbers::default();
    let first = found(&numbers).unwrap();
    assert_eq!(found(&numbers), Some(first));
    assert!(good(&numbers, first));
    assert!(numbers.enter(SLOT + 1, &[first]).is_none());
    assert_eq!(numbers.standing(SLOT, &first), Standing::Current);
}

/// Whoever destroys it waits for all that use it.
#[test]
fn an_object_is_not_used_by_who_is_refused_for_another_one() {
    let numbers = Numbers::default();
    let first = found(&numbers).unwrap();
    let other = Handle {
        number: N + 1,
        ..first
    };
    assert!(numbers.enter(SLOT, &[first, other]).is_none());
    destroy(&numbers, first);
    assert_eq!(numbers.standing(SLOT, &first), Standing::Gone);
}

#[test]
fn the_next_object_with_the_number_is_another_one() {
    let numbers = Numbers::default();
    let first = handle(numbers.made(SLOT, N, None));
    destroy(&numbers, first);
    assert_eq!(numbers.standing(SLOT, &first), Standing::Gone);
    let next = found(&numbers).unwrap();
    assert_ne!(next.generation, first.generation);
    assert!(!good(&numbers, first) && good(&numbers, next));
    // Made under a number that is known: somebody else has destroyed what had it.
    let last = handle(numbers.made(SLOT, N, None));
    assert!(!good(&numbers, next) && good(&numbers, last));
    assert_eq!(numbers.standing(SLOT, &next), Standing::Gone);
}

#[test]
fn an_object_is_destroyed_once_and_not_under_those_who_use_it() {
    let numbers = Arc::new(Numbers::default());
    let first = found(&numbers).unwrap();
    let handles = [first];
    let in_use = numbers.enter(SLOT, &handles).unwrap();
    let (ended, ends) = channel();
    let destroyer = std::thread::spawn({
        let numbers = numbers.clone();
        move || {
            let handles = [first];
            let _in_use = numbers.enter(SLOT, &handles).unwrap();
            let ending = numbers.end(SLOT, first).unwrap();
            ended.send(()).unwrap();
            ending.gone();
        }
    });
    while numbers.standing(SLOT, &first) == Standing::Current {
        std::thread::yield_now();
    }
    // From here on nobody gets it, and nobody else destroys it; whoever had it before goes on.
    assert_eq!(found(&numbers), None);
    assert!(!good(&numbers, first));
    assert!(numbers.end(SLOT, first).is_none());
    assert!(ends.try_recv().is_err());
    drop(in_use);
    ends.recv().unwrap();
    destroyer.join().unwrap();
    assert_eq!(numbers.standing(SLOT, &first), Standing::Gone);
}

#[test]
fn what_could_not_be_destroyed_is_still_there() {
    let numbers = Numbers::default();
    let first = found(&numbers).unwrap();
    numbers.end(SLOT, first).unwrap().stayed();
    assert!(good(&numbers, first));
    // Nobody knows: then it can be looked for.
    drop(numbers.end(SLOT, first).unwrap());
    assert_eq!(numbers.standing(SLOT, &first), Standing::Unknown);
}

#[test]
fn session_objects_end_with_their_session_and_others_do_not() {
    let numbers = Numbers::default();
    let mine = handle(numbers.made(SLOT, N, Some(1)));
    let other = numbers.made(SLOT, N + 1, Some(2));
    let stored = numbers.made(SLOT, N + 2, None);
    assert!(numbers.holds(1));
    let ending = numbers.end_of(1, LONG);
    // The library gives the number away before we know that the session is closed.
    let next = handle(numbers.made(SLOT, N, Some(2)));
    ending.gone();
    assert!(!numbers.holds(1));
    assert_eq!(numbers.standing(SLOT, &mine), Standing::Gone);
    assert!(good(&numbers, next));
    for (object, generation) in [(N + 1, other), (N + 2, stored)] {
        let handle = Handle {
            number: object,
            life: 1,
            generation,
        };
        assert!(good(&numbers, handle));
    }
}

#[test]
fn a_session_ends_when_those_who_use_its_objects_have_left_and_waits_for_nobody_else() {
    let numbers = Arc::new(Numbers::default());
    let made = |object, maker| Handle {
        number: object,
        life: 1,
        generation: numbers.made(SLOT, object, maker),
    };
    let (first, second) = ([made(N, Some(1))], [made(N + 1, Some(1))]);
    let uses_first = numbers.enter(SLOT, &first).unwrap();
    let _uses_second = numbers.enter(SLOT, &second).unwrap();
    let (ended, ends) = channel();
    let closer = std::thread::spawn({
        let numbers = numbers.clone();
        move || {
            numbers.end_of(1, LONG).gone();
            ended.send(()).unwrap();
        }
    });
    while numbers.standing(SLOT, &first[0]) == Standing::Current {
        std::thread::yield_now();
    }
    assert!(ends.recv_timeout(Duration::from_millis(50)).is_err());
    // The library gives one of the numbers to an object that does not end with the session.
    let next = [made(N + 1, None)];
    let _uses_next = numbers.enter(SLOT, &next).unwrap();
    drop(uses_first);
    ends.recv().unwrap();
    closer.join().unwrap();
    assert_eq!(numbers.standing(SLOT, &next[0]), Standing::Current);
}

#[test]
fn a_session_does_not_wait_for_ever_for_those_who_use_its_objects() {
    let numbers = Numbers::default();
    let mine = [handle(numbers.made(SLOT, N, Some(1)))];
    let _in_use = numbers.enter(SLOT, &mine).unwrap();
    numbers.end_of(1, Duration::ZERO).gone();
    assert_eq!(numbers.standing(SLOT, &mine[0]), Standing::Gone);
}

#[test]
fn what_is_said_of_an_object_is_said_of_no_other() {
    let numbers = Numbers::default();
    // The library does not know the one that had the number before.
    let before = found(&numbers).unwrap();
    let now = handle(numbers.made(SLOT, N, None));
    numbers.lost(SLOT, &before);
    assert_eq!(numbers.standing(SLOT, &now), Standing::Current);
    // One that was made in a session is there as long as that.
    let mine = handle(numbers.made(SLOT, N, Some(1)));
    numbers.lost(SLOT, &mine);
    assert_eq!(numbers.standing(SLOT, &mine), Standing::Current);
    // A session was lost: what was found with it may be another object, but no other token's.
    let found_in = |slot| Handle {
        number: N + 1,
        ..handle(numbers.found(slot, &[N + 1])[0].1)
    };
    let (here, elsewhere) = (found_in(SLOT), found_in(SLOT + 1));
    numbers.doubt(SLOT);
    assert_eq!(numbers.standing(SLOT, &here), Standing::Unknown);
    assert_eq!(numbers.standing(SLOT + 1, &elsewhere), Standing::Current);
    assert_eq!(numbers.standing(SLOT, &mine), Standing::Current);
}

#[test]
fn after_another_login_and_after_doubts_objects_are_looked_for() {
    let numbers = Numbers::default();
    numbers.logged_in(SLOT);
    let first = found(&numbers).unwrap();
    numbers.logged_in(SLOT);
    assert_eq!(numbers.standing(SLOT, &first), Standing::Unknown);
    let mine = handle(numbers.made(SLOT, N, Some(1)));
    numbers.doubt(SLOT);
    // It may have gone with the token, and its number be that of another object: not known to be gone.
    numbers.end_of(1, LONG).gone();
    assert_eq!(numbers.standing(SLOT, &mine), Standing::Unknown);
    let first = found(&numbers).unwrap();
    numbers.lost(SLOT, &first);
    assert_eq!(numbers.standing(SLOT, &first), Standing::Unknown);
    let first = found(&numbers).unwrap();
    numbers.clear(None);
    assert_eq!(numbers.standing(SLOT, &first), Standing::Unknown);
}

#[test]
fn a_token_that_is_initialised_takes_its_own_objects_and_logins_with_it() {
    const OTHER: u64 = SLOT + 1;
    let numbers = Numbers::default();
    let found_in = |slot| handle(numbers.found(slot, &[N])[0].1);
    numbers.logged_in(SLOT);
    numbers.logged_in(OTHER);
    let (mine, theirs) = (found_in(SLOT), found_in(OTHER));
    numbers.clear(Some(SLOT));
    assert_eq!(numbers.standing(SLOT, &mine), Standing::Unknown);
    assert_eq!(numbers.standing(OTHER, &theirs), Standing::Current);
    // The first login after it ends nothing; in the other slot it is the second.
    let mine = found_in(SLOT);
    numbers.logged_in(SLOT);
    numbers.logged_in(OTHER);
    assert_eq!(numbers.standing(SLOT, &mine), Standing::Current);
    assert_eq!(numbers.standing(OTHER, &theirs), Standing::Unknown);
}

#[test]
fn of_what_is_gone_the_oldest_is_forgotten() {
    let numbers = Numbers::default();
    let first = handle(numbers.made(SLOT, N, None));
    // Each ends the one before it.
    let made = |count: usize| {
        for _ in 0..count {
            numbers.made(SLOT, N, None);
        }
    };
    made(1 << 16);
    assert_eq!(numbers.standing(SLOT, &first), Standing::Gone);
    made(1);
    assert_eq!(numbers.standing(SLOT, &first), Standing::Unknown);
}

#[test]
fn what_is_known_has_a_limit_but_for_what_is_used_or_ends_with_a_session() {
    let numbers = Numbers::default();
    let of = |object| {
        let generation = numbers.found(SLOT, &[object])[0].1;
        Handle {
            number: object,
            life: 1,
            generation,
        }
    };
    let mine = handle(numbers.made(SLOT, N, Some(1)));
    let used = [of(N + 1)];
    let in_use = numbers.enter(SLOT, &used).unwrap();
    let unused = of(N + 2);
    let many: Vec<u64> = (100..100 + LIMIT as u64 - 3).collect();
    numbers.found(SLOT, &many[1..]);
    let _one_less = of(N + 2);
    assert_eq!(numbers.standing(SLOT, &unused), Standing::Current);
    numbers.found(SLOT, &many[..1]);
    let _as_many = of(N + 1);
    assert_eq!(numbers.standing(SLOT, &unused), Standing::Unknown);
    assert_eq!(numbers.standing(SLOT, &mine), Standing::Current);
    assert_eq!(numbers.standing(SLOT, &used[0]), Standing::Current);
    drop(in_use);
}
