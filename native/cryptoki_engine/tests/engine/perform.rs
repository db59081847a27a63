//! What becomes of a session and of what was asked of it, beside the answer.

use crate::world::*;
use cryptoki_engine::operation::answer::Answer;
use cryptoki_engine::operation::begun::Begun;
use cryptoki_engine::operation::login::Login;
use cryptoki_engine::operation::operation::{Key, Operation};
use cryptoki_engine::request::request::Request;
use cryptoki_engine::session::told::{Close, SessionJob};
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::values::{Data, Secret, Value};
use cryptoki_sys::*;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;

/// An RSA key of 1024 bits for raw signatures: of the session, or of the token where each use wants a login.
fn rsa(always_authenticate: bool) -> Operation {
    let token = (CKA_TOKEN, Value::Bool(always_authenticate));
    let public = vec![
        (CKA_MODULUS_BITS, Value::Ulong(1024)),
        (CKA_PUBLIC_EXPONENT, Value::Bytes(Data::copied(&[1, 0, 1]))),
        (CKA_VERIFY, Value::Bool(true)),
        token.clone(),
    ];
    let private = vec![
        (CKA_SIGN, Value::Bool(true)),
        (CKA_PRIVATE, Value::Bool(true)),
        (CKA_ALWAYS_AUTHENTICATE, Value::Bool(always_authenticate)),
        token,
    ];
    Operation::generate_key_pair {
        mechanism: mechanism(CKM_RSA_PKCS_KEY_PAIR_GEN),
        public,
        private,
    }
}

fn private_key(answer: Result<Answer>) -> Key {
    match answer.unwrap() {
        Answer::Pair(_public, private) => Some(private),
        other => panic!("{other:?}"),
    }
}

fn sign(kind: CK_MECHANISM_TYPE, key: Key, length: usize, login: Login) -> Operation {
    Operation::sign {
        mechanism: mechanism(kind),
        key,
        data: Data::copied(&vec![1; length]),
        login,
    }
}

#[test]
fn a_step_that_finds_no_login_has_lost_its_operation_and_another_call_has_not() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    let begun = Begun {
        kind: Kind::Digest,
        number: 1,
    };
    world
        .run(Operation::init {
            begun,
            mechanism: mechanism(CKM_SHA256),
            key: None,
            login: Login::Without,
        })
        .unwrap();
    world
        .module
        .control("C_DigestUpdate rv=0x101 count=1\nC_GenerateRandom rv=0x101 count=1");
    let beside = world.run(random());
    assert!(beside.is_err_and(|failure| failure.is(CKR_USER_NOT_LOGGED_IN)));
    let data = Data::copied(b"data");
    let lost = world.run(Operation::update { begun, data });
    assert!(
        matches!(
            lost,
            Err(Failure::Own {
                reason: Reason::SessionLost,
                ..
            })
        ),
        "{lost:?}"
    );
}

#[test]
fn what_only_looks_is_not_counted_as_work() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    let worked = || world.instance.site().counters.worked.load(SeqCst);
    let before = worked();
    world.run(Operation::session_info {}).unwrap();
    assert_eq!(worked(), before);
    world.run(random()).unwrap();
    assert_eq!(worked() - before, 1);
}

#[test]
fn raw_rsa_is_given_no_more_than_its_modulus_has() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    let key = private_key(world.run(rsa(false)));
    let sign = |length| world.run(sign(CKM_RSA_X_509, key, length, Login::Without));
    assert_eq!(bytes(sign(128)).len(), 128);
    let calls = world.module.noted("C_SignInit");
    let refused = sign(129);
    assert!(
        matches!(
            refused,
            Err(Failure::Own {
                reason: Reason::DataLenRange,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(world.module.noted("C_SignInit"), calls);
    // What is hashed may be as long as it likes.
    let hashed = self::sign(CKM_SHA256_RSA_PKCS, key, 300, Login::Without);
    assert_eq!(bytes(world.run(hashed)).len(), 128);
}

#[test]
fn a_refused_pin_that_nobody_heard_of_is_told_in_place_of_another_try() {
    let Some((world, _sessions)) = World::with_sessions(1) else {
        return;
    };
    let key = private_key(world.run(rsa(true)));
    let wrong = || Login::Pin(Secret::new(b"wrong pin".to_vec()));
    let operation = || sign(CKM_RSA_PKCS, key, 16, wrong());
    let (sender, unheard) = channel();
    drop(unheard);
    let request = Request::new(SessionJob::Run(operation()), Box::new(Post(sender)), None);
    world.instance.submit(&request).unwrap();
    // Served afterwards, by the same session.
    world.run(random()).unwrap();
    let tries = world.module.noted(" C_Login ");
    let told = world.run(operation());
    assert!(told.is_err_and(|failure| failure.is(CKR_PIN_INCORRECT)));
    assert_eq!(world.module.noted(" C_Login "), tries);
    // Heard once, it is a try again.
    let tried = world.run(operation());
    assert!(tried.is_err_and(|failure| failure.is(CKR_PIN_INCORRECT)));
    assert_eq!(world.module.noted(" C_Login ") - tries, 1);
}

#[test]
fn a_session_is_closed_when_its_owner_is_told_so() {
    let Some((world, sessions)) = World::with_sessions(1) else {
        return;
    };
    let before = world.module.noted("C_CloseSession");
    let (close, closed) = request(());
    sessions[0].closer.close(Close::of(close)).ok().unwrap();
    answer(&closed).unwrap();
    assert_eq!(world.module.noted("C_CloseSession") - before, 1);
}
