//! What a library says of itself, its slots, tokens, mechanisms and sessions (sections 3.1 to 3.5).

use cryptoki::context::Info;
use cryptoki::slot::{Limit, SlotInfo, TokenInfo};
use cryptoki::types::Version;
use cryptoki_ffi::failure::{Class, Failure, Result};
use cryptoki_ffi::functions::{Functions, Interface};
use cryptoki_sys as ck;
use cryptoki_sys::{
    CK_FLAGS, CK_MECHANISM_TYPE, CK_SLOT_ID, CK_SLOT_INFO, CK_TOKEN_INFO, CK_ULONG,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number the token may not know.
#[derive(Clone, Debug)]
pub enum Count {
    /// It knows it.
    Known(u64),
    /// It does not.
    Unknown(Unknown),
}

/// A term is the number or the reason; what is read again says which of them it is.
impl Serialize for Count {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        match (self, to.is_human_readable()) {
            (Count::Known(number), true) => number.serialize(to),
            (Count::Unknown(why), true) => why.serialize(to),
            (Count::Known(number), false) => Ok::<_, Unknown>(*number).serialize(to),
            (Count::Unknown(why), false) => Err::<u64, _>(why).serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let count = Result::<u64, Unknown>::deserialize(from)?;
        Ok(count.map_or_else(Count::Unknown, Count::Known))
    }
}

/// Why a number is not known.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// There is no limit.
    Infinite,
    /// The token does not say.
    Unavailable,
}

/// What a library says of itself.
#[allow(missing_docs)] // Members as the standard calls them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LibraryInfo {
    pub cryptoki_version: (u8, u8),
    pub manufacturer: String,
    pub description: String,
    pub version: (u8, u8),
    pub interface: (u8, u8),
}

/// A slot.
#[allow(missing_docs)] // Members as the standard calls them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Slot {
    pub id: CK_SLOT_ID,
    pub description: String,
    pub manufacturer: String,
    pub flags: CK_FLAGS,
    pub hardware_version: (u8, u8),
    pub firmware_version: (u8, u8),
}

/// A token.
#[allow(missing_docs)] // Members as the standard calls them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Token {
    pub label: String,
    pub manufacturer: String,
    pub model: String,
    pub serial: String,
    pub flags: CK_FLAGS,
    pub max_session_count: Count,
    pub session_count: Count,
    pub max_rw_session_count: Count,
    pub rw_session_count: Count,
    pub max_pin_len: CK_ULONG,
    pub min_pin_len: CK_ULONG,
    pub total_public_memory: Count,
    pub free_public_memory: Count,
    pub total_private_memory: Count,
    pub free_private_memory: Count,
    pub hardware_version: (u8, u8),
    pub firmware_version: (u8, u8),
    pub utc_time: Option<String>,
}

/// A mechanism.
#[allow(missing_docs)] // Members as the standard calls them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MechanismInfo {
    pub min_key_size: CK_ULONG,
    pub max_key_size: CK_ULONG,
    pub flags: CK_FLAGS,
}

/// Whether there is a token in a slot, and which.
#[allow(missing_docs)] // Members as the standard calls them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Presence {
    pub id: CK_SLOT_ID,
    pub present: bool,
    pub serial: Option<String>,
    pub label: Option<String>,
}

/// What a session says of itself.
#[allow(missing_docs)] // Members as the standard calls them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionInfo {
    pub slot: CK_SLOT_ID,
    pub state: CK_ULONG,
    pub flags: CK_FLAGS,
    pub device_error: CK_ULONG,
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

/// `C_GetInfo`, and all interfaces that there are.
pub fn library(functions: &Functions) -> Result<(LibraryInfo, Vec<Interface>)> {
    let mut raw = functions.info()?;
    // The typed form refuses flags, which the standard has not defined so far.
    raw.flags = 0;
    let info = Info::try_from(raw)
        .map_err(|_| Failure::misbehaved("C_GetInfo", "gave no readable answer"))?;
    let info = LibraryInfo {
        cryptoki_version: version(info.cryptoki_version()),
        manufacturer: text(&raw.manufacturerID),
        description: text(&raw.libraryDescription),
        version: version(info.library_version()),
        interface: functions.interface,
    };
    Ok((info, functions.interfaces.clone()))
}

/// Every slot with its token: none where there is none, a failure where the slot or its token does not answer: the
/// others do.
pub fn slots(functions: &Functions) -> Result<Vec<(Slot, Result<Option<Token>>)>> {
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
        slots.push((slot, token.map(|token| token.as_ref().map(describe))));
    }
    Ok(slots)
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
pub fn token(functions: &Functions, slot: CK_SLOT_ID) -> Result<Token> {
    Ok(describe(&functions.token_info(slot)?))
}

/// What stays the same of a token, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    let info = TokenInfo::try_from(quiet).ok();
    let info = info.as_ref();
    let most = |of: fn(&TokenInfo) -> Limit| limit(info.map_or(Limit::Unavailable, of));
    Token {
        label: text(&raw.label),
        manufacturer: text(&raw.manufacturerID),
        model: text(&raw.model),
        serial: text(&raw.serialNumber),
        flags: raw.flags,
        max_session_count: most(TokenInfo::max_session_count),
        session_count: count(info.and_then(TokenInfo::session_count)),
        max_rw_session_count: most(TokenInfo::max_rw_session_count),
        rw_session_count: count(info.and_then(TokenInfo::rw_session_count)),
        max_pin_len: raw.ulMaxPinLen,
        min_pin_len: raw.ulMinPinLen,
        total_public_memory: count(info.and_then(TokenInfo::total_public_memory)),
        free_public_memory: count(info.and_then(TokenInfo::free_public_memory)),
        total_private_memory: count(info.and_then(TokenInfo::total_private_memory)),
        free_private_memory: count(info.and_then(TokenInfo::free_private_memory)),
        hardware_version: (raw.hardwareVersion.major, raw.hardwareVersion.minor),
        firmware_version: (raw.firmwareVersion.major, raw.firmwareVersion.minor),
        utc_time: clock.then(|| text(&raw.utcTime)),
    }
}

/// `C_GetMechanismInfo`
pub fn mechanism(
    functions: &Functions,
    slot: CK_SLOT_ID,
    kind: CK_MECHANISM_TYPE,
) -> Result<MechanismInfo> {
    let info = functions.mechanism_info(slot, kind)?;
    Ok(MechanismInfo {
        min_key_size: info.ulMinKeySize,
        max_key_size: info.ulMaxKeySize,
        flags: info.flags,
    })
}

/// `C_GetSessionInfo`
pub fn session(functions: &Functions, session: ck::CK_SESSION_HANDLE) -> Result<SessionInfo> {
    let info = functions.session_info(session)?;
    Ok(SessionInfo {
        slot: info.slotID,
        state: info.state,
        flags: info.flags,
        device_error: info.ulDeviceError,
    })
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

/// Looks at every slot. Some libraries only notice a change when asked for events before, others only when asked for
/// slots.
pub fn poll(functions: &Functions) -> Result<Vec<Presence>> {
    let mut slots = Vec::new();
    for id in functions.slots(false)? {
        let (_, token) = look(functions, id)?;
        let info = token.as_ref().ok().and_then(Option::as_ref);
        slots.push(Presence {
            id,
            // One that does not answer may have one.
            present: !matches!(token, Ok(None)),
            serial: info.map(|info| text(&info.serialNumber)),
            label: info.map(|info| text(&info.label)),
        });
    }
    Ok(slots)
}
