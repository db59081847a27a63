use super::library::*;
use super::*;
use cryptoki_sys::*;

const THREES: CK_ULONG = 0x0303_0303_0303_0303;

#[test]
fn slots_and_tokens() {
    asks("C_GetSlotList 1", vec![5, 6], |f| f.slots(true));
    asks("C_GetSlotList 0", vec![5, 6], |f| f.slots(false));
    asks("C_GetMechanismList 4", vec![5, 6], |f| f.mechanisms(4));
    // The last member of each, as the library has written it: threes.
    asks("C_GetInfo", 3, |f| {
        f.info().map(|info| info.libraryVersion.minor)
    });
    asks("C_GetSlotInfo 4", 3, |f| {
        f.slot_info(4).map(|info| info.firmwareVersion.minor)
    });
    asks("C_GetTokenInfo 4", b'\x03', |f| {
        f.token_info(4).map(|info| info.utcTime[15])
    });
    asks("C_GetMechanismInfo 4 99", THREES, |f| {
        f.mechanism_info(4, 99).map(|info| info.flags)
    });
    asks("C_GetSessionInfo 7", THREES, |f| {
        f.session_info(S).map(|info| info.ulDeviceError)
    });
}

#[test]
fn events_of_slots() {
    // CKF_DONT_BLOCK is 1.
    asks("C_WaitForSlotEvent 1", Some(101), |f| f.slot_event());
    answer(CKR_NO_EVENT);
    assert_eq!(opened(list()).slot_event(), Ok(None));
    answer(CKR_OK);
}

#[test]
fn pins() {
    let (old, new) = (secret(b"1234"), secret(b"5678"));
    let label = format!("box{}", " ".repeat(29));
    asks(&format!("C_InitToken 4 1234 {label}"), (), |f| {
        f.init_token(4, Some(&old), b"box")
    });
    asks("C_InitPIN 7 1234", (), |f| f.init_pin(S, Some(&old)));
    asks("C_InitPIN 7 none:0", (), |f| f.init_pin(S, None));
    asks("C_SetPIN 7 1234 5678", (), |f| {
        f.set_pin(S, Some(&old), Some(&new))
    });
    asks("C_SetPIN 7 none:0 none:0", (), |f| f.set_pin(S, None, None));
    asks("C_Login 7 1 1234", (), |f| {
        f.login(S, CKU_USER, Some(&old), None)
    });
    asks("C_Login 7 1 none:0", (), |f| {
        f.login(S, CKU_USER, None, None)
    });
    asks("C_LoginUser 7 1 1234 alice", (), |f| {
        f.login(S, CKU_USER, Some(&old), Some(b"alice"))
    });
    asks("C_Logout 7", (), |f| f.logout(S));
}

#[test]
fn sessions() {
    // CKF_SERIAL_SESSION is 4, CKF_RW_SESSION 2.
    asks("C_OpenSession 9 4", 101, |f| f.open_session(9, true));
    asks("C_OpenSession 9 6", 101, |f| f.open_session(9, false));
    asks("C_CloseSession 7", (), |f| f.close_session(S));
    asks("C_SessionCancel 7 2048", (), |f| {
        f.session_cancel(S, CKF_SIGN)
    });
    asks("C_GetSessionValidationFlags 7 1", 101, |f| {
        f.validation_flags(S, 1)
    });
}

#[test]
fn begin_and_end_of_a_library() {
    let functions = opened(list());
    asks("C_Initialize argument", (), |f| f.initialize(None));
    asks("C_Initialize argument", (), |f| {
        f.initialize(Some(c"reserved"))
    });
    // For one thread at a time there is nothing to say.
    asks("C_Initialize", (), |f| {
        f.gate.serialize(true);
        f.initialize(None)
    });
    asks("C_Initialize argument", (), |f| {
        f.gate.serialize(true);
        f.initialize(Some(c"reserved"))
    });
    notes();
    functions.gate.close();
    assert_eq!(functions.finalize(), Ok(()));
    assert_eq!(notes(), ["C_Finalize"]);
    answer(CKR_GENERAL_ERROR);
    assert!(
        functions
            .finalize()
            .is_err_and(|failure| failure.is(CKR_GENERAL_ERROR))
    );
    answer(CKR_OK);
    // SAFETY: functions that are not there.
    assert_eq!(opened(unsafe { std::mem::zeroed() }).finalize(), Ok(()));
}

#[test]
fn a_session_with_the_handle_0_is_none() {
    hand_out(0);
    assert!(opened(list()).open_session(9, true).is_err());
    hand_out(101);
}
