//! Tokens that are pulled and sessions that are lost: what the target does not know of.
//!
//! Sessions that are lost are closed in the target too, so that logins and session objects go with them.

use crate::call::{POLL, Scope};
use crate::rules::{Once, Rules};
use crate::target::{Answer, real};
use crate::{control, handles, lock, text};
use cryptoki_sys::*;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

#[derive(Clone, Copy, PartialEq)]
enum Life {
    Live,
    Forgotten,
    Pulled,
}

struct Session {
    slot: CK_SLOT_ID,
    life: Life,
}

static SESSIONS: Mutex<BTreeMap<CK_SESSION_HANDLE, Session>> = Mutex::new(BTreeMap::new());
/// Held for reading by calls inside the target, for writing by who takes sessions away from under them.
static GATE: RwLock<()> = RwLock::new(());
/// Makes counting sessions and opening one more a single step.
static OPENING: Mutex<()> = Mutex::new(());
/// Slots with an emulated event that nobody has fetched.
static EVENTS: Mutex<Vec<CK_SLOT_ID>> = Mutex::new(Vec::new());
/// How often the library was finalised: ends emulated waiting.
static FINALIZED: AtomicU64 = AtomicU64::new(0);

/// Marks a call as being inside the target.
pub fn enter() -> RwLockReadGuard<'static, ()> {
    GATE.read().unwrap_or_else(PoisonError::into_inner)
}

/// What a call answers because its slot, token or session is gone.
pub fn refusal(rules: &Rules, scope: Scope) -> Option<CK_RV> {
    let no_slot = |slot| {
        rules
            .absence(slot)
            .filter(|absence| absence.whole_slot)
            .map(|_| CKR_SLOT_ID_INVALID)
    };
    match scope {
        Scope::Library => None,
        Scope::Reader(slot) => no_slot(slot),
        Scope::Slot(slot) => {
            no_slot(slot).or_else(|| rules.absence(slot).map(|_| CKR_TOKEN_NOT_PRESENT))
        }
        Scope::Session(handle) => {
            let sessions = lock(&SESSIONS);
            let session = sessions.get(&handle)?;
            match session.life {
                Life::Live => None,
                Life::Forgotten => Some(CKR_SESSION_HANDLE_INVALID),
                Life::Pulled => Some(
                    rules
                        .absence(session.slot)
                        .map_or(CKR_SESSION_HANDLE_INVALID, |gone| gone.rv),
                ),
            }
        }
    }
}

/// The slot of a session.
pub fn slot_of(session: CK_SESSION_HANDLE) -> Option<CK_SLOT_ID> {
    lock(&SESSIONS).get(&session).map(|session| session.slot)
}

/// What a new control file does to tokens and sessions.
pub fn change(old: &Rules, new: &Rules) {
    take(Life::Pulled, |slot| new.absence(slot).is_some());
    for once in &new.once {
        match *once {
            Once::Forget => forget(),
            Once::Logout => logout(),
            Once::Replug(which) => take(Life::Pulled, |slot| which.is_none_or(|id| id == slot)),
        }
    }
    let replugged = |slot| {
        new.once
            .iter()
            .any(|once| matches!(*once, Once::Replug(id) if id.is_none_or(|id| id == slot)))
    };
    let changed = |slot| old.absence(slot).is_some() != new.absence(slot).is_some();
    if new.slot_events == Some(true)
        && (!old.absent.is_empty() || !new.absent.is_empty() || !new.once.is_empty())
    {
        let mut events = lock(&EVENTS);
        for slot in target_slots(CK_TRUE).unwrap_or_default() {
            if (changed(slot) || replugged(slot)) && !events.contains(&slot) {
                events.push(slot);
            }
        }
    }
}

/// A session that is there, for looks at the target.
pub fn some_session() -> Option<CK_SESSION_HANDLE> {
    let sessions = lock(&SESSIONS);
    let mut live = sessions.iter().filter(|(_, one)| one.life == Life::Live);
    live.next().map(|(handle, _)| *handle)
}

/// The token starts anew: all sessions and logins are lost.
pub fn forget() {
    take(Life::Forgotten, |_| true);
}

/// All logins are lost; sessions stay.
pub fn logout() {
    let _gate = GATE.write().unwrap_or_else(PoisonError::into_inner);
    logout_slots(&lock(&SESSIONS), |_| true);
}

/// Takes the sessions of some slots away, once no call is inside the target.
fn take(life: Life, which: impl Fn(CK_SLOT_ID) -> bool) {
    let _gate = GATE.write().unwrap_or_else(PoisonError::into_inner);
    let mut sessions = lock(&SESSIONS);
    let lost = |session: &Session| session.life == Life::Live && which(session.slot);
    handles::renumber(sessions.values().any(lost));
    logout_slots(&sessions, &which);
    for (handle, session) in sessions.iter_mut() {
        if session.life == Life::Live && which(session.slot) {
            let _ = real!(C_CloseSession(*handle));
            session.life = life;
        }
    }
}

fn logout_slots(
    sessions: &BTreeMap<CK_SESSION_HANDLE, Session>,
    which: impl Fn(CK_SLOT_ID) -> bool,
) {
    let live = sessions
        .iter()
        .filter(|(_, session)| session.life == Life::Live && which(session.slot));
    let one_a_slot: BTreeMap<_, _> = live
        .map(|(handle, session)| (session.slot, *handle))
        .collect();
    for handle in one_a_slot.into_values() {
        let _ = real!(C_Logout(handle));
    }
}

/// C_FindObjects: the handles as the client knows them.
pub(crate) unsafe fn find_objects(
    session: CK_SESSION_HANDLE,
    objects: *mut CK_OBJECT_HANDLE,
    n: CK_ULONG,
    len: *mut CK_ULONG,
) -> Answer {
    let rv = real!(C_FindObjects(session, objects, n, len))?;
    if rv == CKR_OK && control::current().search_endless && !objects.is_null() && !len.is_null() {
        // SAFETY: not null, and the caller has room for `n` handles.
        let room = unsafe { std::slice::from_raw_parts_mut(objects, n as usize) };
        // SAFETY: not null; the target has just written it.
        let found = unsafe { len.replace(n) } as usize;
        for nth in found..room.len() {
            room[nth] = if nth == 0 { 1 } else { room[nth - 1] };
        }
    }
    if rv == CKR_OK && !objects.is_null() && !len.is_null() {
        // SAFETY: not null, and the target has just written so many handles there.
        for object in unsafe { std::slice::from_raw_parts_mut(objects, *len as usize) } {
            handles::given(object);
        }
    }
    Ok(rv)
}

/// C_GetTokenInfo: with the flags and the label that the control file gives it.
pub(crate) unsafe fn get_token_info(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> Answer {
    let rv = real!(C_GetTokenInfo(slot, info))?;
    if rv == CKR_OK {
        let rules = control::current();
        // SAFETY: the target has just written the structure.
        let info = unsafe { &mut *info };
        info.flags = (info.flags & !rules.token_hides) | rules.token_flags;
        if let Some(label) = rules.token_label() {
            info.label.fill(b' ');
            let length = label.len().min(info.label.len());
            info.label[..length].copy_from_slice(&label.as_bytes()[..length]);
        }
        text::pad(&mut [
            &mut info.label,
            &mut info.manufacturerID,
            &mut info.model,
            &mut info.serialNumber,
        ]);
    }
    Ok(rv)
}

/// C_OpenSession: refuses more sessions than the slot takes, and remembers those it opens.
pub(crate) unsafe fn open_session(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    pointer: *mut c_void,
    notify: CK_NOTIFY,
    handle: *mut CK_SESSION_HANDLE,
) -> Answer {
    let max = control::current().max_sessions;
    let _one_at_a_time = lock(&OPENING);
    let live = || {
        lock(&SESSIONS)
            .values()
            .filter(|session| session.life == Life::Live && session.slot == slot)
            .count()
    };
    if max.is_some_and(|max| live() >= max) {
        return Err(CKR_SESSION_COUNT);
    }
    let rv = real!(C_OpenSession(slot, flags, pointer, notify, handle))?;
    if rv == CKR_OK && !handle.is_null() {
        // SAFETY: the target has just written the handle there.
        lock(&SESSIONS).insert(
            unsafe { *handle },
            Session {
                slot,
                life: Life::Live,
            },
        );
    }
    Ok(rv)
}

/// C_CloseSession: forgets the session.
pub(crate) unsafe fn close_session(session: CK_SESSION_HANDLE) -> Answer {
    let rv = real!(C_CloseSession(session))?;
    if rv == CKR_OK {
        lock(&SESSIONS).remove(&session);
    }
    Ok(rv)
}

/// C_CloseAllSessions: forgets the sessions of the slot.
pub(crate) unsafe fn close_all_sessions(slot: CK_SLOT_ID) -> Answer {
    let rv = real!(C_CloseAllSessions(slot))?;
    if rv == CKR_OK {
        lock(&SESSIONS).retain(|_, session| session.slot != slot);
    }
    Ok(rv)
}

/// C_Finalize: forgets everything.
pub(crate) unsafe fn finalize(pointer: *mut c_void) -> Answer {
    let rv = real!(C_Finalize(pointer))?;
    if rv == CKR_OK {
        lock(&SESSIONS).clear();
        lock(&EVENTS).clear();
        handles::forget();
        FINALIZED.fetch_add(1, Ordering::SeqCst);
        control::current().finalized.store(true, Ordering::SeqCst);
    }
    Ok(rv)
}

/// C_GetSlotInfo: a pulled token is not present.
pub(crate) unsafe fn get_slot_info(slot: CK_SLOT_ID, info: *mut CK_SLOT_INFO) -> Answer {
    let rv = real!(C_GetSlotInfo(slot, info))?;
    if rv == CKR_OK {
        // SAFETY: the target has just written the structure.
        let info = unsafe { &mut *info };
        if control::current().absence(slot).is_some() {
            info.flags &= !CKF_TOKEN_PRESENT;
        }
        text::pad(&mut [&mut info.slotDescription, &mut info.manufacturerID]);
    }
    Ok(rv)
}

/// C_GetSlotList: without pulled tokens and slots that are gone.
pub(crate) unsafe fn get_slot_list(
    present: CK_BBOOL,
    slots: *mut CK_SLOT_ID,
    len: *mut CK_ULONG,
) -> Answer {
    let rules = control::current();
    if rules.absent.is_empty() {
        return real!(C_GetSlotList(present, slots, len));
    }
    if len.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    let mut list = target_slots(present)?;
    list.retain(|slot| {
        rules
            .absence(*slot)
            .is_none_or(|gone| present == CK_FALSE && !gone.whole_slot)
    });
    // SAFETY: not null; the caller vouches for a valid length.
    let room = unsafe { len.replace(list.len() as CK_ULONG) } as usize;
    if !slots.is_null() {
        if room < list.len() {
            return Ok(CKR_BUFFER_TOO_SMALL);
        }
        // SAFETY: the caller has room for `room` slots, and the list is not longer.
        unsafe { std::ptr::copy_nonoverlapping(list.as_ptr(), slots, list.len()) };
    }
    Ok(CKR_OK)
}

/// `C_Login` of a token with a keypad, where no PIN is handed over.
///
/// # Safety
/// As for the function.
pub(crate) unsafe fn login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    pin_len: CK_ULONG,
) -> Answer {
    match &control::current().keypad {
        Some(_) if !pin.is_null() || pin_len != 0 => Err(CKR_PIN_INCORRECT),
        Some(typed) => {
            let typed = typed.as_bytes();
            let length = typed.len() as CK_ULONG;
            real!(C_Login(session, user, typed.as_ptr().cast_mut(), length))
        }
        None => real!(C_Login(session, user, pin, pin_len)),
    }
}

/// `C_LoginUser` of a token that knows its user by name, which no target does: the login of that user.
///
/// # Safety
/// As for the function.
pub(crate) unsafe fn login_user(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    pin_len: CK_ULONG,
    name: *mut CK_UTF8CHAR,
    name_len: CK_ULONG,
) -> Answer {
    let Some(wanted) = control::current().user_name.clone() else {
        return real!(C_LoginUser(session, user, pin, pin_len, name, name_len));
    };
    if name.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    // SAFETY: not null, and the caller vouches for the length.
    let given = unsafe { std::slice::from_raw_parts(name, name_len as usize) };
    if given != wanted.as_bytes() {
        return Err(CKR_PIN_INCORRECT);
    }
    real!(C_Login(session, user, pin, pin_len))
}

/// C_WaitForSlotEvent: the target's, none, or emulated from the control file.
pub(crate) unsafe fn wait_for_slot_event(
    flags: CK_FLAGS,
    slots: *mut CK_SLOT_ID,
    pointer: *mut c_void,
) -> Answer {
    let life = FINALIZED.load(Ordering::SeqCst);
    loop {
        match control::rules().slot_events {
            None => return real!(C_WaitForSlotEvent(flags, slots, pointer)),
            Some(false) => return Err(CKR_FUNCTION_NOT_SUPPORTED),
            Some(true) if slots.is_null() => return Err(CKR_ARGUMENTS_BAD),
            Some(true) => {}
        }
        let next = {
            let mut events = lock(&EVENTS);
            (!events.is_empty()).then(|| events.remove(0))
        };
        if let Some(slot) = next {
            // SAFETY: not null, and the caller vouches for the rest.
            unsafe { *slots = slot };
            return Err(CKR_OK);
        }
        if flags & CKF_DONT_BLOCK != 0 {
            return Err(CKR_NO_EVENT);
        }
        if FINALIZED.load(Ordering::SeqCst) != life {
            return Err(CKR_CRYPTOKI_NOT_INITIALIZED);
        }
        std::thread::sleep(POLL);
    }
}

/// The target's own slots. The error is its answer.
fn target_slots(present: CK_BBOOL) -> Result<Vec<CK_SLOT_ID>, CK_RV> {
    let ok = |rv| if rv == CKR_OK { Ok(()) } else { Err(rv) };
    let mut count: CK_ULONG = 0;
    ok(real!(C_GetSlotList(
        present,
        std::ptr::null_mut(),
        &raw mut count
    ))?)?;
    // Some libraries write a few more than they are told to.
    let mut slots = vec![0; count as usize + 16];
    ok(real!(C_GetSlotList(
        present,
        slots.as_mut_ptr(),
        &raw mut count
    ))?)?;
    slots.truncate(count as usize);
    Ok(slots)
}
