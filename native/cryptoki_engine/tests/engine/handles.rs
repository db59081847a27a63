//! Session handles: made by opening, ended by closing, and only while they are ours.

use crate::world::*;
use cryptoki_engine::library::numbers::Standing;
use cryptoki_engine::library::session_handle::SessionHandle;
use cryptoki_engine::request::request::Request;
use cryptoki_engine::session::told::Close;
use cryptoki_sys::*;

#[test]
fn a_handle_that_is_dropped_is_closed_by_the_control_thread() {
    let Some(world) = World::new() else { return };
    let library = &world.instance.site().library;
    let closed = world.module.noted("C_CloseSession");
    let session = SessionHandle::open(library, world.slot, true).unwrap();
    let guest = session.guest();
    let info = guest.call(|functions, session| functions.session_info(session));
    assert_eq!(info.unwrap().slotID, world.slot);
    drop(session);
    // What is asked afterwards is answered afterwards.
    world.log_in().unwrap_err();
    assert_eq!(world.module.noted("C_CloseSession") - closed, 1);
    let late = guest.call(|functions, session| functions.session_info(session));
    assert!(late.is_err_and(|failure| failure.is(CKR_SESSION_HANDLE_INVALID)));
}

#[test]
fn a_session_is_not_closed_under_a_call_of_a_guest() {
    let Some(world) = World::new() else { return };
    let session = SessionHandle::open(&world.instance.site().library, world.slot, true).unwrap();
    let guest = session.guest();
    let closed = || world.module.noted("C_CloseSession");
    let before = closed();
    guest
        .call(|functions, number| {
            session.close();
            assert_eq!(closed(), before);
            functions.session_info(number)
        })
        .unwrap();
    assert_eq!(closed() - before, 1);
}

#[test]
fn the_last_user_finalises_and_no_handle_outlives_that() {
    let Some((world, sessions)) = World::with_sessions(1) else {
        return;
    };
    let World {
        module,
        attached,
        instance,
        ..
    } = world;
    for session in sessions {
        let (request, closed) = request(());
        session.closer.close(Close::of(request)).ok().unwrap();
        answer(&closed).unwrap();
    }
    let finalized = module.noted("C_Finalize");
    let (back, given): (std::sync::Arc<Request<(), ()>>, _) = request(());
    attached.detach(back.clone()).unwrap();
    // The library was initialised by the test before: whoever did that finalises it.
    answer(&given).unwrap();
    assert_eq!(module.noted("C_Finalize"), finalized);
    assert!(attached.detach(back).is_err());
    assert!(!instance.site().library.claims.any());
}

#[test]
fn objects_of_a_session_end_with_it_and_those_of_the_token_do_not() {
    let Some((world, sessions)) = World::with_sessions(1) else {
        return;
    };
    let of_session = object(world.run(secret_key(false)));
    let of_token = object(world.run(secret_key(true)));
    let site = world.instance.site();
    assert_eq!(site.standing(&of_session), Standing::Current);
    let (close, closed) = request(());
    sessions[0].closer.close(Close::of(close)).ok().unwrap();
    answer(&closed).unwrap();
    assert_eq!(site.standing(&of_session), Standing::Gone);
    assert_eq!(site.standing(&of_token), Standing::Current);
}

#[test]
fn who_closes_a_session_that_is_ending_is_answered() {
    let Some((world, sessions)) = World::with_sessions(1) else {
        return;
    };
    let hangs = || world.module.noted(" C_CloseSession hangs ");
    let before = hangs();
    world.module.control("C_CloseSession hang count=1");
    let closes = [(); 2].map(|()| {
        let (close, closed) = request(());
        sessions[0].closer.close(Close::of(close)).ok().unwrap();
        while hangs() == before {
            std::thread::yield_now();
        }
        closed
    });
    world.module.control("");
    for closed in closes {
        assert_eq!(answer(&closed), Ok(()));
    }
}

/// A library may give a number again at once: whoever closes the session that had it closes the new one.
#[test]
fn a_session_that_may_have_been_closed_in_the_place_of_another_is_looked_at() {
    let Some(world) = World::new() else { return };
    let library = &world.instance.site().library;
    let open = || SessionHandle::open(library, world.slot, true);
    let opens = || world.module.noted(" C_OpenSession ran ");
    let hangs = || world.module.noted(" C_OpenSession hangs ");
    let looks = || world.module.noted(" C_GetSessionInfo ");
    // It lives; or it does not, and another one is opened.
    for (then, opened) in [("", 1), ("C_GetSessionInfo rv=0xB3 count=1", 2)] {
        world.module.control("C_OpenSession hang count=1");
        let (opens_before, looks_before, hangs_before) = (opens(), looks(), hangs());
        std::thread::scope(|scope| {
            let opener = scope.spawn(open);
            while hangs() == hangs_before {
                std::thread::yield_now();
            }
            open().unwrap().close();
            world.module.control(then);
            let session = opener.join().unwrap().unwrap();
            assert_eq!(opens() - opens_before, 1 + opened);
            assert_eq!(looks() - looks_before, 1);
            session
                .call(|functions, session| functions.session_info(session))
                .unwrap();
            session.close();
        });
    }
}
