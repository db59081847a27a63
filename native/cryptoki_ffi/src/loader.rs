//! Loads a PKCS #11 library and takes its function list.

use crate::exit;
use crate::failure::{Failure, Reason, Result};
use crate::functions::{Functions, Interface};
use crate::symbols::{Symbols, Whose};
use crate::whole;
use cryptoki_sys as ck;
use cryptoki_sys::{
    CK_FUNCTION_LIST, CK_FUNCTION_LIST_3_0, CK_FUNCTION_LIST_3_2, CK_INTERFACE, CK_VERSION,
};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::ffi::CStr;
use std::path::Path;

/// The version of a list that no interface gives.
const CLASSIC: (u8, u8) = (2, 40);

/// Interfaces asked for by version, best first; then whatever the library calls its default.
const INTERFACES: &[Option<(u8, u8)>] = &[Some((3, 2)), Some((3, 0)), None];

fn refused(path: &Path, why: &str) -> Failure {
    let sentence = format!("{}{why}", path.display());
    Failure::own(Reason::LibraryNotLoaded, sentence)
}

/// What the dynamic loader says stands behind the error, which only says that it failed.
fn reason(error: &libloading::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

/// Loads the library for ever. Every symbol is bound now: a missing one is a sentence here, not an
/// exit of the VM with status 127 at the first call.
/// With `wanted`, only that version of the interface will do.
pub fn load(path: &Path, wanted: Option<(u8, u8)>) -> Result<Functions> {
    if let Some(bytes) = whole::missing(path) {
        let why = format!(" is cut off: {bytes} bytes or more are missing");
        return Err(refused(path, &why));
    }
    // An exit of the VM while constructors run must neither wait for the loader's lock nor run
    // destructors under them.
    exit::hook();
    let outside = exit::outside();
    // SAFETY: loading runs the library's constructors: that is what the user asked for by naming it.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|error| refused(path, &format!(": {}", reason(&error))))?;
    drop(outside);
    // Again, to run before the destructors that the constructors have registered.
    exit::hook();
    // Never unloaded: threads may be inside at any time, and destructors must not run under them.
    let symbols = Symbols::of(library, path);
    let interfaces = interfaces(&symbols);
    let (list, interface) = match best_interface(&symbols, wanted) {
        Some(found) => found,
        None => classic_list(&symbols, path)?,
    };
    if let Some(wanted) = wanted.filter(|wanted| *wanted != interface) {
        let mut there: Vec<_> = interfaces.iter().map(|one| dotted(one.version)).collect();
        if there.is_empty() {
            there.push(dotted(interface));
        }
        let (wanted, there) = (dotted(wanted), there.join(", "));
        let why = format!(" has no interface {wanted}, it has {there}");
        return Err(refused(path, &why));
    }
    // SAFETY: the library says that these are its functions, and it is never unloaded.
    Ok(unsafe { Functions::new(list, interface, interfaces) })
}

fn dotted((major, minor): (u8, u8)) -> String {
    format!("{major}.{minor}")
}

/// `C_GetInterfaceList`, as far as it can be believed.
fn interfaces(symbols: &Symbols) -> Vec<Interface> {
    // SAFETY: the standard fixes the type of the function with this name.
    let function = unsafe { symbols.get::<ck::CK_C_GetInterfaceList>(c"C_GetInterfaceList") };
    let Whose::Own(Some(get_list)) = function else {
        return Vec::new();
    };
    // Asked for at once, with more room than there are interfaces; what is left empty is none.
    let mut list = [CK_INTERFACE::default(); 64];
    let mut count = list.len() as ck::CK_ULONG;
    // SAFETY: there is room for as many as `count` says.
    let rv = unsafe { get_list(list.as_mut_ptr(), &mut count) };
    if rv != ck::CKR_OK || count as usize > list.len() {
        return Vec::new();
    }
    list.iter().filter_map(describe).collect()
}

fn describe(interface: &CK_INTERFACE) -> Option<Interface> {
    if interface.pInterfaceName.is_null() || interface.pFunctionList.is_null() {
        return None;
    }
    // SAFETY: the standard says that the name is a zero-terminated string and that every function
    // list begins with its version; both live as long as the library.
    let (name, version) = unsafe {
        (
            CStr::from_ptr(interface.pInterfaceName.cast()),
            *interface.pFunctionList.cast::<CK_VERSION>(),
        )
    };
    Some(Interface {
        name: name.to_string_lossy().into_owned(),
        version: (version.major, version.minor),
        flags: interface.flags,
    })
}

fn best_interface(
    symbols: &Symbols,
    wanted: Option<(u8, u8)>,
) -> Option<(CK_FUNCTION_LIST_3_2, (u8, u8))> {
    // SAFETY: the standard fixes the type of the function with this name.
    let function = unsafe { symbols.get::<ck::CK_C_GetInterface>(c"C_GetInterface") };
    let Whose::Own(Some(get_interface)) = function else {
        return None;
    };
    let asked: &[_] = if wanted.is_some() {
        &[wanted]
    } else {
        INTERFACES
    };
    asked.iter().find_map(|wanted| {
        let mut version = wanted.map(|(major, minor)| CK_VERSION { major, minor });
        let version = version
            .as_mut()
            .map_or(std::ptr::null_mut(), |version| version as *mut _);
        let mut interface: *mut CK_INTERFACE = std::ptr::null_mut();
        let mut name = *b"PKCS 11\0";
        // SAFETY: name and version live through the call; the library writes one pointer.
        let rv = unsafe { get_interface(name.as_mut_ptr(), version, &mut interface, 0) };
        if rv != ck::CKR_OK || interface.is_null() {
            return None;
        }
        // SAFETY: the library says this points to an interface, which lives as long as the library.
        let list = unsafe { (*interface).pFunctionList };
        copy(list.cast(), interface_size)
    })
}

fn classic_list(symbols: &Symbols, path: &Path) -> Result<(CK_FUNCTION_LIST_3_2, (u8, u8))> {
    // SAFETY: the standard fixes the type of the function with this name.
    let function = unsafe { symbols.get::<ck::CK_C_GetFunctionList>(c"C_GetFunctionList") };
    let get_function_list = match function {
        Whose::Own(Some(function)) => function,
        Whose::Of(other) => {
            let why = format!(
                " is a shared library but no PKCS #11 module: the C_GetFunctionList that it is linked with is that of {other}"
            );
            return Err(refused(path, &why));
        }
        Whose::Own(None) | Whose::Nobodys => {
            let why = " is a shared library but no PKCS #11 module: it has neither C_GetInterface nor C_GetFunctionList";
            return Err(refused(path, why));
        }
    };
    let mut list: *mut CK_FUNCTION_LIST = std::ptr::null_mut();
    // SAFETY: the library writes one pointer.
    let rv = unsafe { get_function_list(&mut list) };
    if rv != ck::CKR_OK {
        let why = format!(": C_GetFunctionList answered {rv:#x}");
        return Err(refused(path, &why));
    }
    let why = ": C_GetFunctionList gave no usable function list";
    copy(list, classic_size).ok_or_else(|| refused(path, why))
}

/// How long the list of an interface is, and the version that it says it has.
fn interface_size(version: (u8, u8)) -> Option<(usize, (u8, u8))> {
    match version {
        (2, _) => Some(size_of::<CK_FUNCTION_LIST>()),
        (3, 0..=1) => Some(size_of::<CK_FUNCTION_LIST_3_0>()),
        (3, _) => Some(size_of::<CK_FUNCTION_LIST_3_2>()),
        _ => None,
    }
    .map(|size| (size, version))
}

/// The same of the list that stands alone: as long as those of 2.40, whatever it says. Only interfaces have longer
/// ones, and some libraries write the version of the header here that they were built with.
fn classic_size(version: (u8, u8)) -> Option<(usize, (u8, u8))> {
    let version = match version {
        (0..=1, _) => return None,
        (2, _) => version,
        _ => CLASSIC,
    };
    Some((size_of::<CK_FUNCTION_LIST>(), version))
}

/// Copies the functions out; what an older list lacks stays `None`.
fn copy(
    list: *const CK_FUNCTION_LIST,
    size: impl FnOnce((u8, u8)) -> Option<(usize, (u8, u8))>,
) -> Option<(CK_FUNCTION_LIST_3_2, (u8, u8))> {
    if list.is_null() {
        return None;
    }
    // SAFETY: every version of the list begins with its version.
    let version = unsafe { (*list).version };
    let (size, version) = size((version.major, version.minor))?;
    let mut all = std::mem::MaybeUninit::<CK_FUNCTION_LIST_3_2>::zeroed();
    // SAFETY: a list of this version has this size, each newer list begins with the older one, and
    // zero is the version 0.0 and `None` for every function.
    let mut all = unsafe {
        std::ptr::copy_nonoverlapping(list.cast::<u8>(), all.as_mut_ptr().cast::<u8>(), size);
        all.assume_init()
    };
    (all.version.major, all.version.minor) = version;
    Some((all, version))
}
