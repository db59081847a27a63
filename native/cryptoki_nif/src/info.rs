//! The information structures as maps (sections 3.1 to 3.5).

use crate::request::encode_failure;
use cryptoki::context::Info;
use cryptoki::slot::{Limit, SlotInfo, TokenInfo};
use cryptoki::types::Version;
use cryptoki_ffi::failure::{Class, Failure, Result};
use cryptoki_ffi::functions::Functions;
use cryptoki_ffi::names::NAMES;
use cryptoki_sys as ck;
use cryptoki_sys::{
    CK_FLAGS, CK_MECHANISM_TYPE, CK_SLOT_ID, CK_SLOT_INFO, CK_TOKEN_INFO, CK_ULONG,
};
use rustler::{Atom, Encoder, Env, Term};
use serde::Serialize;

mod atoms {
    // Every key and value below, made at load: the bridge falls back to strings for unknown atoms.
    rustler::atoms! {
        __struct__, cryptoki_version, manufacturer, description, version, interface, id, flags,
        hardware_version, firmware_version, token, label, model, serial, max_session_count,
        session_count, max_rw_session_count, rw_session_count, max_pin_len, min_pin_len,
        total_public_memory, free_public_memory, total_private_memory, free_private_memory,
        utc_time, min_key_size, max_key_size, present, infinite, unavailable,
        state, slot, device_error, nil, interfaces, name, error,
    }
}

/// Makes the atoms, of which the first use of one makes all, and those of errors: a function that fails for the
/// first time after months makes none.
pub fn prepare_atoms(env: Env) {
    atoms::nil();
    for name in NAMES {
        // Too long is the only error there is.
        let _ = Atom::from_str(env, name);
    }
}

/// A number the token may not know.
#[derive(Serialize)]
#[serde(untagged)]
enum Count {
    Known(u64),
    Unknown(Unknown),
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Unknown {
    Infinite,
    Unavailable,
}

#[derive(Serialize)]
struct Library {
    cryptoki_version: (u8, u8),
    manufacturer: String,
    description: String,
    version: (u8, u8),
    interface: (u8, u8),
}

#[derive(Serialize)]
struct Interface<'a> {
    name: &'a str,
    version: (u8, u8),
    flags: CK_FLAGS,
}

#[derive(Serialize)]
struct Slot {
    id: CK_SLOT_ID,
    description: String,
    manufacturer: String,
    flags: CK_FLAGS,
    hardware_version: (u8, u8),
    firmware_version: (u8, u8),
}

#[derive(Serialize)]
struct Token {
    label: String,
    manufacturer: String,
    model: String,
    serial: String,
    flags: CK_FLAGS,
    max_session_count: Count,
    session_count: Count,
    max_rw_session_count: Count,
    rw_session_count: Count,
    max_pin_len: CK_ULONG,
    min_pin_len: CK_ULONG,
    total_public_memory: Count,
    free_public_memory: Count,
    total_private_memory: Count,
    free_private_memory: Count,
    hardware_version: (u8, u8),
    firmware_version: (u8, u8),
    utc_time: Option<String>,
}

#[derive(Serialize)]
struct Mechanism {
    min_key_size: CK_ULONG,
    max_key_size: CK_ULONG,
    flags: CK_FLAGS,
}

#[derive(Serialize)]
struct Presence {
    id: CK_SLOT_ID,
    present: bool,
    serial: Option<String>,
    label: Option<String>,
}

#[derive(Serialize)]
struct Session {
    slot: CK_SLOT_ID,
    state: CK_ULONG,
    flags: CK_FLAGS,
    device_error: CK_ULONG,
}

/// A serialised structure as a plain map.
fn map<'a>(env: Env<'a>, structure: &impl Serialize) -> Result<Term<'a>> {
    let failed = |what: &str| Failure::misbehaved("serde", what);
    let term = rustler::serde::to_term(env, structure).map_err(|_| failed("could not encode"))?;
    let key = atoms::__struct__().encode(env);
    term.map_remove(key).map_err(|_| failed("gave no map"))
}

fn version(version: Version) -> (u8, u8) {
    (version.major(), version.minor())
}

/// Blank-padded text; what is no UTF-8 is replaced, what follows a zero byte is dropped.
fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned()
}

fn limit(limit: Limit) -> Count {
    match limit {
        Limit::Max(count) => Count::Known(count),
        Limit::Unavailable => Count::Unknown(Unknown::Unavailable),
        Limit::Infinite => Count::Unknown(Unknown::Infinite),
    }
}

fn count<T: TryInto<u64>>(count: Option<T>) -> Count {
    match count.and_then(|count| count.try_into().ok()) {
        Some(count) => Count::Known(count),
        None => Count::Unknown(Unknown::Unavailable),
    }
}

/// `C_GetInfo`
pub fn library<'a>(env: Env<'a>, functions: &Functions) -> Result<Term<'a>> {
    let mut raw = functions.info()?;
    // The typed form refuses flags, which the standard has not defined so far.
    raw.flags = 0;
    let info = Info::try_from(raw)
        .map_err(|_| Failure::misbehaved("C_GetInfo", "gave no readable answer"))?;
    let library = Library {
        cryptoki_version: version(info.cryptoki_version()),
        manufacturer: text(&raw.manufacturerID),
        description: text(&raw.libraryDescription),
        version: version(info.library_version()),
        interface: functions.interface,
    };
    let interfaces: Result<Vec<_>> = functions
        .interfaces
        .iter()
        .map(|offered| {
            let interface = Interface {
                name: &offered.name,
                version: offered.version,
                flags: offered.flags,
            };
            map(env, &interface)
        })
        .collect();
    put(
        map(env, &library)?,
        atoms::interfaces(),
        interfaces?.encode(env),
    )
}

/// A map with one more entry.
fn put<'a>(map: Term<'a>, key: Atom, value: Term<'a>) -> Result<Term<'a>> {
    map.map_put(key, value)
        .map_err(|_| Failure::misbehaved("serde", "gave no map"))
}

/// Every slot with its token, `nil` where there is none, `{:error, failure}` where the slot or its token does not
/// answer: the others do.
pub fn slots<'a>(env: Env<'a>, functions: &Functions) -> Result<Term<'a>> {
    let mut slots = Vec::new();
    for id in functions.slots(false)? {
        let (raw, token) = look(functions, id)?;
        let info = SlotInfo::from(raw);
        let slot = Slot {
            id,
            description: text(&raw.slotDescription),
            manufacturer: text(&raw.manufacturerID),
            flags: raw.flags,
            hardware_version: version(info.hardware_version()),
            firmware_version: version(info.firmware_version()),
        };
        let token = match token {
            Ok(Some(info)) => map(env, &describe(&info))?,
            Ok(None) => atoms::nil().encode(env),
            Err(failure) => (atoms::error(), encode_failure(env, &failure)).encode(env),
        };
        let map = map(env, &slot)?;
        slots.push(put(map, atoms::token(), token)?);
    }
    Ok(slots.encode(env))
}

/// A slot and its token; none when it has none or was pulled while we looked. What is wrong with this slot alone is no
/// failure of the look.
fn look(
    functions: &Functions,
    id: CK_SLOT_ID,
) -> Result<(CK_SLOT_INFO, Result<Option<CK_TOKEN_INFO>>)> {
    let slot = match of_slot(functions.slot_info(id))? {
        Ok(slot) => slot,
        Err(failure) => return Ok((CK_SLOT_INFO::default(), Err(failure))),
    };
    if slot.flags & ck::CKF_TOKEN_PRESENT == 0 {
        return Ok((slot, Ok(None)));
    }
    let token = match of_slot(functions.token_info(id))? {
        Ok(info) => Ok(Some(info)),
        Err(failure) if failure.class() == Class::Absent => Ok(None),
        Err(failure) => Err(failure),
    };
    Ok((slot, token))
}

/// Whether it is the slot, or the library as a whole.
fn of_slot<T>(outcome: Result<T>) -> Result<Result<T>> {
    match outcome {
        Err(failure @ Failure::Own { .. }) => Err(failure),
        Err(failure) if failure.class() == Class::NotInitialized => Err(failure),
        answered => Ok(answered),
    }
}

/// `C_GetTokenInfo`
pub fn token<'a>(env: Env<'a>, functions: &Functions, slot: CK_SLOT_ID) -> Result<Term<'a>> {
    map(env, &describe(&functions.token_info(slot)?))
}

/// What stays the same of a token, wherever it is.
#[derive(PartialEq, Eq)]
pub struct Identity {
    /// The manufacturer's name.
    pub manufacturer: String,
    /// The model.
    pub model: String,
    /// The serial number.
    pub serial: String,
    /// The label.
    pub label: String,
}

/// Which token it is.
pub fn identity(raw: &CK_TOKEN_INFO) -> Identity {
    Identity {
        manufacturer: text(&raw.manufacturerID),
        model: text(&raw.model),
        serial: text(&raw.serialNumber),
        label: text(&raw.label),
    }
}

fn describe(raw: &CK_TOKEN_INFO) -> Token {
    let clock = raw.flags & ck::CKF_CLOCK_ON_TOKEN != 0;
    // The time goes its own way: the typed form refuses the whole token for a malformed one.
    let quiet = CK_TOKEN_INFO {
        flags: raw.flags & !ck::CKF_CLOCK_ON_TOKEN,
        ..*raw
    };
    let mut token = Token {
        label: text(&raw.label),
        manufacturer: text(&raw.manufacturerID),
        model: text(&raw.model),
        serial: text(&raw.serialNumber),
        flags: raw.flags,
        max_session_count: count::<u64>(None),
        session_count: count::<u64>(None),
        max_rw_session_count: count::<u64>(None),
        rw_session_count: count::<u64>(None),
        max_pin_len: raw.ulMaxPinLen,
        min_pin_len: raw.ulMinPinLen,
        total_public_memory: count::<u64>(None),
        free_public_memory: count::<u64>(None),
        total_private_memory: count::<u64>(None),
        free_private_memory: count::<u64>(None),
        hardware_version: (raw.hardwareVersion.major, raw.hardwareVersion.minor),
        firmware_version: (raw.firmwareVersion.major, raw.firmwareVersion.minor),
        utc_time: clock.then(|| text(&raw.utcTime)),
    };
    if let Ok(info) = TokenInfo::try_from(quiet) {
        token.max_session_count = limit(info.max_session_count());
        token.session_count = count(info.session_count());
        token.max_rw_session_count = limit(info.max_rw_session_count());
        token.rw_session_count = count(info.rw_session_count());
        token.total_public_memory = count(info.total_public_memory());
        token.free_public_memory = count(info.free_public_memory());
        token.total_private_memory = count(info.total_private_memory());
        token.free_private_memory = count(info.free_private_memory());
    }
    token
}

/// `C_GetMechanismInfo`
pub fn mechanism<'a>(
    env: Env<'a>,
    functions: &Functions,
    slot: CK_SLOT_ID,
    kind: CK_MECHANISM_TYPE,
) -> Result<Term<'a>> {
    let info = functions.mechanism_info(slot, kind)?;
    map(
        env,
        &Mechanism {
            min_key_size: info.ulMinKeySize,
            max_key_size: info.ulMaxKeySize,
            flags: info.flags,
        },
    )
}

/// `C_GetSessionInfo`
pub fn session<'a>(
    env: Env<'a>,
    functions: &Functions,
    session: ck::CK_SESSION_HANDLE,
) -> Result<Term<'a>> {
    let info = functions.session_info(session)?;
    map(
        env,
        &Session {
            slot: info.slotID,
            state: info.state,
            flags: info.flags,
            device_error: info.ulDeviceError,
        },
    )
}

/// Takes the slot events there are: how many; `None` where the library cannot say.
pub fn take_events(functions: &Functions) -> Option<usize> {
    for taken in 0..64 {
        match functions.slot_event() {
            Ok(Some(_)) => {}
            Ok(None) => return Some(taken),
            Err(_) => return None,
        }
    }
    Some(64)
}

/// Looks at every slot. Some libraries only notice a change when asked for events before, others only when asked for slots.
pub fn poll<'a>(env: Env<'a>, functions: &Functions) -> Result<Term<'a>> {
    let mut slots = Vec::new();
    for id in functions.slots(false)? {
        let (_, token) = look(functions, id)?;
        let presence = Presence {
            id,
            // One that does not answer may have one.
            present: !matches!(token, Ok(None)),
            serial: token_text(&token, |info| &info.serialNumber),
            label: token_text(&token, |info| &info.label),
        };
        slots.push(map(env, &presence)?);
    }
    Ok(slots.encode(env))
}

fn token_text(
    token: &Result<Option<CK_TOKEN_INFO>>,
    field: impl Fn(&CK_TOKEN_INFO) -> &[u8],
) -> Option<String> {
    let info = token.as_ref().ok()?.as_ref()?;
    Some(text(field(info)))
}
