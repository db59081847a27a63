//! Operations from end to end, in two C calls where the standard wants two.

use crate::world::*;
use cryptoki_engine::control::jobs::{Job, Told};
use cryptoki_engine::operation::answer::Answer;
use cryptoki_engine::operation::begun::Begun;
use cryptoki_engine::operation::login::Login;
use cryptoki_engine::operation::operation::Operation;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Failure, Reason};
use cryptoki_ffi::values::{Data, Value};
use cryptoki_sys::*;

#[test]
fn a_signature_is_two_calls_and_an_answer() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    let key = object(world.run(secret_key(false)));
    let before = world.module.noted("C_Sign");
    let mac = bytes(world.run(hmac(Some(key))));
    assert_eq!(mac.len(), 32);
    assert_eq!(bytes(world.run(hmac(Some(key)))), mac);
    assert_eq!(world.module.noted("C_Sign") - before, 4);
}

#[test]
fn what_is_signed_in_parts_is_the_same() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    let key = Some(object(world.run(secret_key(false))));
    let mac = bytes(world.run(hmac(key)));
    let begun = Begun {
        kind: Kind::Sign,
        number: 1,
    };
    let (mechanism, login) = (mechanism(CKM_SHA256_HMAC), Login::Without);
    world
        .run(Operation::init {
            begun,
            mechanism,
            key,
            login,
        })
        .unwrap();
    for part in [b"da", b"ta"] {
        let data = Data::copied(part);
        world.run(Operation::update { begun, data }).unwrap();
    }
    assert_eq!(
        bytes(world.run(Operation::final_ {
            begun,
            signature: None
        })),
        mac
    );
    // A step of an operation that is over is no step of the next one.
    let late = world.run(Operation::final_ {
        begun,
        signature: None,
    });
    assert!(matches!(
        late,
        Err(Failure::Own {
            reason: Reason::OperationNotInitialized,
            ..
        })
    ));
}

#[test]
fn objects_are_found_and_read_and_destroyed() {
    let Some((world, _sessions)) = World::with_sessions(2) else {
        return;
    };
    let key = object(world.run(secret_key(true)));
    let template = vec![(CKA_CLASS, Value::Ulong(CKO_SECRET_KEY))];
    let found = world.run(Operation::find { template, limit: 0 }).unwrap();
    assert!(
        matches!(&found, Answer::Objects(all) if *all == [key]),
        "{found:?}"
    );
    let kinds = vec![CKA_VALUE_LEN, CKA_VALUE];
    let read = world
        .run(Operation::attributes { object: key, kinds })
        .unwrap();
    assert!(
        matches!(&read, Answer::Attributes(all) if all.len() == 2),
        "{read:?}"
    );
    world.run(Operation::destroy { object: key }).unwrap();
    let gone = world.run(hmac(Some(key)));
    assert!(
        matches!(
            gone,
            Err(Failure::Own {
                reason: Reason::StaleHandle,
                ..
            })
        ),
        "{gone:?}"
    );
}

/// Others have their turn with the session, and an answer has an end.
#[test]
fn many_objects_are_read_in_turns() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    let large = || {
        let template = vec![
            (CKA_CLASS, Value::Ulong(CKO_DATA)),
            (CKA_VALUE, Value::Bytes(Data::copied(&[7; 600 << 10]))),
        ];
        object(world.run(Operation::create { template }))
    };
    let objects: Vec<_> = (0..4).map(|_| large()).collect();
    let read = |kinds: &[CK_ULONG]| {
        let (objects, kinds) = (objects.clone(), kinds.to_vec());
        match world.run(Operation::attributes_of { objects, kinds }) {
            Ok(Answer::Each(each)) => each.len(),
            other => panic!("{other:?}"),
        }
    };
    // So many are more than an answer has.
    assert!((1..=2).contains(&read(&[CKA_CLASS, CKA_VALUE])));
    world.module.control("C_GetAttributeValue delay=11");
    assert_eq!(read(&[CKA_CLASS]), 1);
}

#[test]
fn the_control_thread_tells_what_the_library_says() {
    let Some(world) = World::new() else { return };
    let Ok(Told::Library(info, _)) = world.ask(Job::LibraryInfo) else {
        panic!("no information")
    };
    assert_eq!(info.manufacturer, "SoftHSM");
    let Ok(Told::Slots(slots)) = world.ask(Job::Slots) else {
        panic!("no slots")
    };
    assert!(
        slots
            .iter()
            .any(|(slot, token)| slot.id == world.slot && matches!(token, Ok(Some(_))))
    );
    let Ok(Told::Mechanisms(all)) = world.ask(Job::Mechanisms(world.slot)) else {
        panic!("none")
    };
    assert!(all.contains(&CKM_SHA256_HMAC));
    let Err(failure) = world.ask(Job::TokenInfo(9999)).map(drop) else {
        panic!("a token")
    };
    assert!(failure.is(CKR_SLOT_ID_INVALID));
}
