//! What is decided once, when the library is loaded: from the environment, or from a file beside the library.
//!
//! The file exists because `System.put_env/2` in a BEAM does not reach C's `getenv`: for a copy of the library at
//! `/tmp/x/lib.so`, `/tmp/x/lib.so.env` holds `NAME=value` lines and wins over the environment.

use crate::rules::Crash;
use cryptoki_sys::CK_VERSION;
use std::collections::HashMap;
use std::ffi::{CStr, OsStr, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;

const DEFAULT_TARGET: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// How C_GetFunctionList, C_GetInterface or C_GetInterfaceList answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Fault {
    /// As it should.
    #[default]
    None,
    /// With CKR_FUNCTION_FAILED.
    Fail,
    /// With CKR_OK and a null pointer.
    Null,
    /// Not at all.
    Crash(Crash),
}

impl Fault {
    fn of(word: &str) -> Option<Self> {
        match word {
            "fail" => Some(Fault::Fail),
            "null" => Some(Fault::Null),
            way => Crash::of(way).map(Fault::Crash),
        }
    }
}

/// FAULTY_LOAD, parsed: what goes wrong when function lists are handed out.
#[derive(Debug, Default)]
pub struct Load {
    /// Functions whose pointer is null.
    pub null: Vec<String>,
    /// What C_GetFunctionList does.
    pub list: Fault,
    /// What C_GetInterface does.
    pub interface: Fault,
    /// What C_GetInterfaceList does.
    pub interface_list: Fault,
    /// The interface structure has a null list.
    pub interface_without_list: bool,
    /// The version all lists claim to have.
    pub version: Option<CK_VERSION>,
    /// The version that the list of C_GetFunctionList claims, which has the functions of 2.40 and ends where nobody
    /// may read on.
    pub short_list: Option<CK_VERSION>,
}

/// Everything that is decided at load.
#[derive(Debug)]
pub struct Config {
    /// The real library.
    pub target: PathBuf,
    /// The control file.
    pub control: Option<PathBuf>,
    /// The journal.
    pub journal: Option<PathBuf>,
    /// Faults at load.
    pub load: Load,
    /// What the target finds in its environment before that of the process.
    pub environment: HashMap<String, String>,
}

/// The configuration, read at its first use.
pub fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(read)
}

fn read() -> Config {
    let mut beside = beside();
    let mut take = |name: &str| beside.remove(name).or_else(|| std::env::var(name).ok());
    Config {
        target: take("FAULTY_TARGET")
            .unwrap_or_else(|| DEFAULT_TARGET.into())
            .into(),
        control: take("FAULTY_CONTROL").map(PathBuf::from),
        journal: take("FAULTY_JOURNAL").map(PathBuf::from),
        load: parse_load(&take("FAULTY_LOAD").unwrap_or_default()).unwrap_or_else(|word| {
            eprintln!("faulty_module: FAULTY_LOAD: {word:?} is not known");
            Load {
                list: Fault::Fail,
                interface: Fault::Fail,
                interface_list: Fault::Fail,
                ..Load::default()
            }
        }),
        environment: beside,
    }
}

/// The lines of the file beside the library.
fn beside() -> HashMap<String, String> {
    // SAFETY: all fields of the structure are pointers, which may be null.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: any address may be asked about; the answer is used only if there is one.
    let known = unsafe { libc::dladdr(beside as *const c_void, &raw mut info) } != 0;
    if !known || info.dli_fname.is_null() {
        return HashMap::new();
    }
    // SAFETY: dladdr's name is a string that lives as long as the library.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    let mut path = OsStr::from_bytes(name.to_bytes()).to_owned();
    path.push(".env");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// `null=C_Sign,C_Digest;interface=fail;version=1.0`. The error is the word that is not known.
pub fn parse_load(text: &str) -> Result<Load, String> {
    let mut load = Load::default();
    for word in text
        .split(';')
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        let unknown = || word.to_owned();
        match word.split_once('=').unwrap_or((word, "")) {
            ("null", names) => {
                load.null = names
                    .split(',')
                    .map(|name| name.trim().to_owned())
                    .collect();
                if !load
                    .null
                    .iter()
                    .all(|name| crate::functions::NAMES.contains(&name.as_str()))
                {
                    return Err(unknown());
                }
            }
            ("no_list", "") => load.list = Fault::Fail,
            ("list", fault) => load.list = Fault::of(fault).ok_or_else(unknown)?,
            ("interface", "no_list") => load.interface_without_list = true,
            ("interface", fault) => {
                load.interface = Fault::of(fault).ok_or_else(unknown)?;
                if load.interface == Fault::Fail {
                    load.interface_list = Fault::Fail;
                }
            }
            ("interface_list", fault) => {
                load.interface_list = Fault::of(fault).ok_or_else(unknown)?;
            }
            ("version", version) => {
                load.version = Some(parse_version(version).ok_or_else(unknown)?)
            }
            ("short_list", version) => {
                load.short_list = Some(parse_version(version).ok_or_else(unknown)?);
            }
            _ => return Err(unknown()),
        }
    }
    Ok(load)
}

fn parse_version(text: &str) -> Option<CK_VERSION> {
    let (major, minor) = text.split_once('.')?;
    Some(CK_VERSION {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    })
}
