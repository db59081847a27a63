//! Every fault, seen by a client that loads the library as any PKCS #11 client does.
#![allow(clippy::unwrap_used)]

mod support;

use cryptoki_sys::*;
use std::time::{Duration, Instant};
use support::*;

#[test]
fn forwards_and_keeps_a_journal_without_secrets() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let session = open(list, slots(list, CK_TRUE)[0]).unwrap();
    assert_eq!(login(list, session), CKR_OK);
    assert_eq!(digest(list, session, Some(&mut [0; 32])), Ok(32));
    let mut wrong = *b"0000";
    assert_ne!(
        ck!(list.C_Login(session, CKU_USER, wrong.as_mut_ptr(), 4)),
        CKR_OK
    );
    assert_eq!(ck!(list.C_CloseSession(session)), CKR_OK);
    assert_eq!(module.noted("C_Login ran 0x0"), 1);
    assert_eq!(module.noted("C_Digest ran 0x0"), 1);
    assert!(!module.journal().contains(PIN));
    let first: Vec<String> = module
        .journal()
        .lines()
        .take(2)
        .map(str::to_owned)
        .collect();
    assert!(
        first[0].starts_with("1 ") && first[0].ends_with("C_Initialize ran 0x0"),
        "{first:?}"
    );
}

#[test]
fn answers_on_command() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let session = open(list, slots(list, CK_TRUE)[0]).unwrap();
    let answers = |control: &str, n: usize| -> Vec<bool> {
        module.control(control);
        (0..n).map(|_| random(list, session) != CKR_OK).collect()
    };
    assert_eq!(
        answers("C_GenerateRandom rv=0x30 count=1", 3),
        [true, false, false]
    );
    assert_eq!(
        answers("C_GenerateRandom rv=0x30 count=1", 2),
        [true, false],
        "a new file starts anew"
    );
    assert_eq!(
        answers("C_GenerateRandom rv=0x30 after=2 times=1", 4),
        [false, false, true, false]
    );
    assert_eq!(
        answers("C_GenerateRandom rv=48 every=2", 4),
        [false, true, false, true]
    );
    assert_eq!(answers("C_Gen* rv=0x30 # all that begin so", 1), [true]);
    assert_eq!(answers("C_Sign rv=0x30", 1), [false]);
    let some = answers("C_GenerateRandom rv=0x30 probability=0.5", 200)
        .iter()
        .filter(|fault| **fault)
        .count();
    assert!((50..150).contains(&some), "{some}");
    assert_eq!(module.noted("C_GenerateRandom faked 0x30"), 6 + some);

    let ran = module.noted("C_GenerateRandom ran");
    assert_eq!(answers("C_GenerateRandom rv=0x30 after_forward", 1), [true]);
    assert_eq!(module.noted("C_GenerateRandom ran"), ran + 1);

    module.control("C_GenerateRandom rv=0x30\nnonsense");
    assert_eq!(random(list, session), faulty_module::rules::CKR_BAD_CONTROL);
}

#[test]
fn delays() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let session = open(list, slots(list, CK_TRUE)[0]).unwrap();
    module.control("* delay=50");
    let start = Instant::now();
    assert_eq!(random(list, session), CKR_OK);
    assert!(start.elapsed() >= Duration::from_millis(50));
}

#[test]
fn hangs_until_released_and_holds_nobody_else_up() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let slot = slots(list, CK_TRUE)[0];
    let sessions: Vec<_> = (0..8).map(|_| open(list, slot).unwrap()).collect();
    for (rule, release, ran) in [
        ("hang", "", 0),
        ("hang after_forward", "", 8),
        ("hang", "release", 0),
    ] {
        let before = module.noted("C_GenerateRandom ran");
        module.control(&format!("C_GenerateRandom {rule}"));
        std::thread::scope(|scope| {
            let hanging: Vec<_> = sessions
                .iter()
                .map(|s| scope.spawn(|| random(list, *s)))
                .collect();
            let start = module.noted("C_GenerateRandom released");
            while module.noted("C_GenerateRandom hangs") < start + 8 {
                std::thread::yield_now();
            }
            let other = open(list, slot).unwrap();
            assert_eq!(digest(list, other, None), Ok(32));
            assert_eq!(ck!(list.C_CloseSession(other)), CKR_OK);
            assert_eq!(module.noted("C_GenerateRandom ran"), before + ran);
            assert!(hanging.iter().all(|thread| !thread.is_finished()));
            let start = Instant::now();
            match release {
                "" => module.control(""),
                _ => std::fs::write(module.dir.join("control.release"), "").unwrap(),
            }
            assert!(
                hanging
                    .into_iter()
                    .all(|thread| thread.join().unwrap() == CKR_OK)
            );
            assert!(
                start.elapsed() < Duration::from_millis(500),
                "{:?}",
                start.elapsed()
            );
        });
    }
}

#[test]
fn a_pulled_token_loses_sessions_and_login() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let (all, slot) = (slots(list, CK_FALSE), slots(list, CK_TRUE)[0]);
    let session = open(list, slot).unwrap();
    assert_eq!(login(list, session), CKR_OK);
    let mut event = 0;
    let mut wait =
        || ck!(list.C_WaitForSlotEvent(CKF_DONT_BLOCK, &raw mut event, std::ptr::null_mut()));
    module.control("slot_events off");
    assert_eq!(wait(), CKR_FUNCTION_NOT_SUPPORTED);
    module.control("slot_events on");
    assert_eq!(wait(), CKR_NO_EVENT);

    module.control(&format!("slot_events on\ntoken remove slot={slot}"));
    assert_eq!((wait(), wait()), (CKR_OK, CKR_NO_EVENT));
    assert_eq!(state(list, session), Err(CKR_DEVICE_REMOVED));
    assert_eq!(open(list, slot), Err(CKR_TOKEN_NOT_PRESENT));
    assert!(!slots(list, CK_TRUE).contains(&slot));
    assert_eq!(slots(list, CK_FALSE), all);
    let mut info = CK_SLOT_INFO::default();
    assert_eq!(ck!(list.C_GetSlotInfo(slot, &raw mut info)), CKR_OK);
    assert_eq!(info.flags & CKF_TOKEN_PRESENT, 0);
    let mut token = CK_TOKEN_INFO::default();
    assert_eq!(
        ck!(list.C_GetTokenInfo(slot, &raw mut token)),
        CKR_TOKEN_NOT_PRESENT
    );

    module.control("slot_events on\ntoken insert");
    assert_eq!((wait(), wait()), (CKR_OK, CKR_NO_EVENT));
    assert_eq!(state(list, session), Err(CKR_SESSION_HANDLE_INVALID));
    let session = open(list, slot).unwrap();
    assert_eq!(state(list, session), Ok(CKS_RW_PUBLIC_SESSION));
    assert_eq!(login(list, session), CKR_OK);

    module.control("slot_events on\ntoken replug");
    assert_eq!(wait(), CKR_OK);
    assert_eq!(state(list, session), Err(CKR_SESSION_HANDLE_INVALID));
    module.control("slot remove rv=0xE0");
    assert_eq!(slots(list, CK_FALSE), []);
    assert_eq!(
        ck!(list.C_GetSlotInfo(slot, &raw mut info)),
        CKR_SLOT_ID_INVALID
    );
    assert_eq!(state(list, session), Err(CKR_TOKEN_NOT_PRESENT));
    assert_eq!(event, slot);
}

#[test]
fn shows_flags_that_the_token_does_not_have_and_hides_those_that_it_has() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let slot = slots(list, CK_TRUE)[0];
    let flags = || {
        let mut token = CK_TOKEN_INFO::default();
        assert_eq!(ck!(list.C_GetTokenInfo(slot, &raw mut token)), CKR_OK);
        token.flags
    };
    let before = flags();
    assert_ne!(before & CKF_LOGIN_REQUIRED, 0);
    assert_eq!(before & CKF_USER_PIN_FINAL_TRY, 0);
    module.control("token without=0x4\ntoken flags=0x20000");
    assert_eq!(
        flags(),
        before & !CKF_LOGIN_REQUIRED | CKF_USER_PIN_FINAL_TRY
    );
    module.control("");
    assert_eq!(flags(), before);
}

#[test]
fn forgets_sessions_in_the_middle_of_load() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let slot = slots(list, CK_TRUE)[0];
    let keeper = open(list, slot).unwrap();
    assert_eq!(login(list, keeper), CKR_OK);
    module.control("C_GenerateRandom forget after=1000 count=1");
    let sessions: Vec<_> = (0..4).map(|_| open(list, slot).unwrap()).collect();
    std::thread::scope(|scope| {
        for session in sessions {
            scope.spawn(move || {
                let last = (0..100_000)
                    .map(|_| random(list, session))
                    .find(|rv| *rv != CKR_OK);
                assert_eq!(last, Some(CKR_SESSION_HANDLE_INVALID));
            });
        }
    });
    assert_eq!(state(list, keeper), Err(CKR_SESSION_HANDLE_INVALID));
    let session = open(list, slot).unwrap();
    assert_eq!(state(list, session), Ok(CKS_RW_PUBLIC_SESSION));
    assert_eq!(login(list, session), CKR_OK);
    module.control("logout");
    assert_eq!(state(list, session), Ok(CKS_RW_PUBLIC_SESSION));
    module.control("sessions forget");
    assert_eq!(state(list, session), Err(CKR_SESSION_HANDLE_INVALID));
    assert_eq!(
        ck!(list.C_CloseSession(session)),
        CKR_SESSION_HANDLE_INVALID
    );
}

#[test]
fn refuses_too_many_sessions() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let slot = slots(list, CK_TRUE)[0];
    module.control("sessions max=2");
    let sessions = [open(list, slot), open(list, slot)];
    assert_eq!(open(list, slot), Err(CKR_SESSION_COUNT));
    assert_eq!(ck!(list.C_CloseSession(sessions[0].unwrap())), CKR_OK);
    assert!(open(list, slot).is_ok());
    assert_eq!(ck!(list.C_CloseAllSessions(slot)), CKR_OK);
    assert!(open(list, slot).is_ok());
}

#[test]
fn some_faults_last_until_it_is_initialised_anew() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let slot = slots(list, CK_TRUE)[0];
    let label = || {
        let mut info = CK_TOKEN_INFO::default();
        let rv = ck!(list.C_GetTokenInfo(slot, &raw mut info));
        (rv == CKR_OK).then(|| String::from_utf8_lossy(&info.label).trim_end().to_owned())
    };
    let anew = || {
        assert_eq!(ck!(list.C_Finalize(std::ptr::null_mut())), CKR_OK);
        assert_eq!(ck!(list.C_Initialize(std::ptr::null_mut())), CKR_OK);
    };
    let own = label();
    module.control("token label=other");
    assert_eq!(label().as_deref(), Some("other"));
    anew();
    assert_eq!(label().as_deref(), Some("other"));
    for fault in ["token label=other", "C_GetTokenInfo rv=0xE1"] {
        module.control(&format!("{fault} until=initialize"));
        assert_ne!(label(), own);
        anew();
        assert_eq!(label(), own);
    }
    module.control("token label=other until=tomorrow");
    assert_eq!(random(list, 0), 0x8000_FA17);
}

#[test]
fn gives_garbage_of_the_length_that_was_there() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let session = open(list, slots(list, CK_TRUE)[0]).unwrap();
    let hash = |control: &str| {
        module.control(control);
        let mut buffer = [0xAA_u8; 40];
        assert_eq!(digest(list, session, Some(&mut buffer)), Ok(32));
        assert_eq!(buffer[32..], [0xAA; 8], "nothing beyond it");
        buffer
    };
    let right = hash("");
    let wrong = hash("lie C_Digest garbage times=1");
    assert_ne!(right, wrong);
    assert_ne!(hash("lie C_Digest garbage times=1"), wrong);
    assert_eq!(hash(""), right);
    // Also where the length is falsified as well.
    module.control("lie C_Digest length=+8\nlie C_Digest garbage");
    let mut buffer = [0xAA_u8; 40];
    assert_eq!(digest(list, session, Some(&mut buffer)), Ok(40));
    assert_ne!(buffer[..32], right[..32]);
    assert_eq!(buffer[32..], [0xAA; 8], "nothing beyond it");
}

#[test]
fn says_what_it_denied() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let session = open(list, slots(list, CK_TRUE)[0]).unwrap();
    module.control("C_GenerateRandom rv=0x30 after_forward count=1");
    assert_eq!(random(list, session), CKR_DEVICE_ERROR);
    assert_eq!(random(list, session), CKR_OK);
    assert_eq!(module.noted("C_GenerateRandom ran 0x0"), 2);
    assert_eq!(module.noted("C_GenerateRandom denied 0x30"), 1);
}

#[test]
fn lies_about_lengths_and_counts() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let session = open(list, slots(list, CK_TRUE)[0]).unwrap();
    assert_eq!(login(list, session), CKR_OK);
    let mut buffer = [0xAA_u8; 40];
    module.control("lie C_Digest length=+100");
    assert_eq!(digest(list, session, None), Ok(132));
    assert_eq!(
        ck!(list.C_DigestFinal(session, buffer.as_mut_ptr(), &mut 40)),
        CKR_OK
    );
    module.control("lie C_Digest length=huge only=data");
    assert_eq!(
        digest(list, session, Some(&mut buffer)),
        Ok(CK_ULONG::MAX / 2)
    );
    assert_eq!(buffer[32..], [0xAA; 8]);
    module.control("lie C_GetSlotList count=max times=1");
    let (mut ids, mut count) = ([7; 4], 4);
    assert_eq!(
        ck!(list.C_GetSlotList(CK_FALSE, ids.as_mut_ptr(), &raw mut count)),
        CKR_OK
    );
    assert_eq!((count, ids[3]), (CK_ULONG::MAX, 7));

    let mut value = *b"abc";
    let attribute = |type_: CK_ATTRIBUTE_TYPE, value: &mut [u8]| CK_ATTRIBUTE {
        type_,
        pValue: value.as_mut_ptr().cast(),
        ulValueLen: value.len() as CK_ULONG,
    };
    let mut class = CKO_DATA.to_ne_bytes();
    let mut template = [
        attribute(CKA_CLASS, &mut class),
        attribute(CKA_LABEL, &mut value),
    ];
    let (mut object, mut found) = (0, 0);
    assert_eq!(
        ck!(list.C_CreateObject(session, template.as_mut_ptr(), 2, &raw mut object)),
        CKR_OK
    );
    module.control("lie C_GetAttributeValue length=-1\nlie C_FindObjects count=5000");
    assert_eq!(
        ck!(list.C_GetAttributeValue(session, object, template.as_mut_ptr(), 2)),
        CKR_OK
    );
    assert_eq!(
        (template[0].ulValueLen, template[1].ulValueLen),
        (class.len() as CK_ULONG - 1, 2)
    );
    assert_eq!(
        ck!(list.C_FindObjectsInit(session, std::ptr::null_mut(), 0)),
        CKR_OK
    );
    assert_eq!(
        ck!(list.C_FindObjects(session, &raw mut object, 1, &raw mut found)),
        CKR_OK
    );
    assert_eq!(found, 5000);
}

#[test]
fn leaves_lengths_as_they_were_and_refuses_with_a_count() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let slot = slots(list, CK_TRUE)[0];
    let session = open(list, slot).unwrap();
    module.control("lie C_Digest length=untouched only=query");
    assert_eq!(digest(list, session, None), Ok(0));
    let mut buffer = [0; 40];
    assert_eq!(
        ck!(list.C_DigestFinal(session, buffer.as_mut_ptr(), &mut 40)),
        CKR_OK
    );
    assert_eq!(digest(list, session, Some(&mut buffer)), Ok(32));

    module.control("C_GetMechanismList rv=0x150 after_forward only=query");
    let mut count = 0;
    assert_eq!(
        ck!(list.C_GetMechanismList(slot, std::ptr::null_mut(), &raw mut count)),
        CKR_BUFFER_TOO_SMALL
    );
    let mut all = vec![0; count as usize];
    assert!(count > 10);
    assert_eq!(
        ck!(list.C_GetMechanismList(slot, all.as_mut_ptr(), &raw mut count)),
        CKR_OK
    );
    assert_eq!(count as usize, all.len());
}

#[test]
fn gives_other_handles() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let slot = slots(list, CK_TRUE)[0];
    module.control("lie C_OpenSession handle=0 times=1");
    assert_eq!(open(list, slot), Ok(0));
    let session = open(list, slot).unwrap();
    assert_ne!(session, 0);
    assert_eq!(login(list, session), CKR_OK);

    let pair = || {
        let (mut bits, mut pair) = (1024 as CK_ULONG, (7, 7));
        let mut public = [CK_ATTRIBUTE {
            type_: CKA_MODULUS_BITS,
            pValue: (&raw mut bits).cast(),
            ulValueLen: size_of::<CK_ULONG>() as CK_ULONG,
        }];
        let mut mechanism = CK_MECHANISM {
            mechanism: CKM_RSA_PKCS_KEY_PAIR_GEN,
            ..Default::default()
        };
        let rv = ck!(list.C_GenerateKeyPair(
            session,
            &raw mut mechanism,
            public.as_mut_ptr(),
            1,
            std::ptr::null_mut(),
            0,
            &raw mut pair.0,
            &raw mut pair.1
        ));
        assert_eq!(rv, CKR_OK);
        (pair.0 == 0, pair.1 == 0)
    };
    for (only, wrong) in [
        ("only=first", (true, false)),
        ("only=second", (false, true)),
        ("", (true, true)),
    ] {
        module.control(&format!("lie C_GenerateKeyPair handle=0 {only}"));
        assert_eq!(pair(), wrong);
    }

    let find = || {
        let (mut objects, mut found) = ([7; 64], 0);
        let none = std::ptr::null_mut();
        assert_eq!(ck!(list.C_FindObjectsInit(session, none, 0)), CKR_OK);
        let rv = ck!(list.C_FindObjects(session, objects.as_mut_ptr(), 64, &raw mut found));
        assert_eq!(rv, CKR_OK);
        assert_eq!(ck!(list.C_FindObjectsFinal(session)), CKR_OK);
        objects[..found as usize].to_vec()
    };
    module.control("");
    let own = find();
    assert_eq!(own.len(), 6);
    module.control("lie C_FindObjects handle=0");
    assert_eq!(find(), [0; 6]);
    module.control("search endless");
    let endless = find();
    assert_eq!(endless[1..6], own[1..6]);
    assert_eq!(endless[6..], [own[5]; 58]);
}
