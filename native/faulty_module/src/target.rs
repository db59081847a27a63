//! The real library, and the lists handed out in place of its own.

use crate::config::config;
use crate::functions::{List, wrap};
use cryptoki_sys::*;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::ffi::CStr;
use std::sync::OnceLock;

/// What the target answered (`Ok`), or what is answered in its place (`Err`).
pub type Answer = Result<CK_RV, CK_RV>;

/// Calls a function of the target: `Ok` with what it answered, `Err` if it has no such function.
macro_rules! real {
    ($name:ident($($arg:expr),*)) => {
        match $crate::target::functions().$name {
            // SAFETY: the arguments are the caller's, who vouches for them, or made here as PKCS #11 wants them.
            Some(function) => Ok(unsafe { function($($arg),*) }),
            None => Err(cryptoki_sys::CKR_FUNCTION_NOT_SUPPORTED),
        }
    };
}
pub(crate) use real;

const STANDARD: &CStr = c"PKCS 11";

/// A library that is loaded for good.
pub struct Target {
    functions: List,
    list: *mut CK_FUNCTION_LIST,
    interfaces: Vec<CK_INTERFACE>,
    default: usize,
}

// SAFETY: everything it points to is leaked and never written again.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// The target, loaded at the first call; `None`, and a line on stderr, if it cannot be.
pub fn target() -> Option<&'static Target> {
    static TARGET: OnceLock<Option<Target>> = OnceLock::new();
    let load = || {
        Target::load()
            .inspect_err(|error| eprintln!("faulty_module: no target: {error}"))
            .ok()
    };
    TARGET.get_or_init(load).as_ref()
}

/// The target's own functions; none as long as it is not loaded.
pub fn functions() -> &'static List {
    static NONE: OnceLock<List> = OnceLock::new();
    target().map_or_else(
        || NONE.get_or_init(List::default),
        |target| &target.functions,
    )
}

impl Target {
    /// Our list in place of the target's 2.40 list.
    pub fn list(&self) -> *mut CK_FUNCTION_LIST {
        self.list
    }

    /// Our interfaces in place of the target's.
    pub fn interfaces(&self) -> &[CK_INTERFACE] {
        &self.interfaces
    }

    /// The interface asked for; the target's default one if neither name nor version is.
    pub fn interface(
        &self,
        name: Option<&CStr>,
        version: Option<&CK_VERSION>,
        flags: CK_FLAGS,
    ) -> Option<*mut CK_INTERFACE> {
        let fits = |interface: &&CK_INTERFACE| {
            let same_version = |wanted: &CK_VERSION| {
                !interface.pFunctionList.is_null() && key(wanted) == key(&version_of(interface))
            };
            name.is_none_or(|name| name == name_of(interface))
                && version.is_none_or(same_version)
                && flags & !interface.flags == 0
        };
        let default = self.interfaces.get(self.default).into_iter();
        let found = default.chain(&self.interfaces).find(fits)?;
        Some(std::ptr::from_ref(found).cast_mut())
    }

    fn load() -> Result<Target, String> {
        let text = |error: libloading::Error| error.to_string();
        // SAFETY: the target's initialisers run; it is the library the test named.
        let library = unsafe { Library::open(Some(&config().target), RTLD_NOW | RTLD_LOCAL) }
            .map_err(text)?;
        // SAFETY: the type is that of PKCS #11.
        let get =
            unsafe { library.get::<CK_C_GetFunctionList>(b"C_GetFunctionList\0") }.map_err(text)?;
        let mut list = std::ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        let rv = get.map_or(CKR_FUNCTION_NOT_SUPPORTED, |get| unsafe {
            get(&raw mut list)
        });
        if rv != CKR_OK || list.is_null() {
            return Err(format!("C_GetFunctionList answers {rv:#x}"));
        }
        // SAFETY: the target says that a list is there.
        let own = unsafe { read(list.cast()) };
        let (found, default) = interfaces(&library);
        // Never closed: threads may be inside it until the process ends.
        std::mem::forget(library);

        let mut target = Target {
            functions: own,
            list: match config().load.short_list {
                Some(version) => cut_off(&own, version)?,
                None => publish(&own).cast(),
            },
            interfaces: Vec::new(),
            default,
        };
        for original in &found {
            let mut interface = *original;
            if name_of(original) == STANDARD && !original.pFunctionList.is_null() {
                // SAFETY: the target says that a list of its version is there.
                let list = unsafe { read(original.pFunctionList.cast()) };
                if key(&list.version) > key(&target.functions.version) {
                    target.functions = list;
                }
                interface.pFunctionList = publish(&list).cast();
            }
            target.interfaces.push(interface);
        }
        if target.interfaces.is_empty() {
            let name = STANDARD.as_ptr().cast_mut().cast();
            target.interfaces.push(CK_INTERFACE {
                pInterfaceName: name,
                pFunctionList: target.list.cast(),
                flags: 0,
            });
        }
        if config().load.interface_without_list {
            target
                .interfaces
                .iter_mut()
                .for_each(|interface| interface.pFunctionList = std::ptr::null_mut());
        }
        Ok(target)
    }
}

/// The target's interfaces and the place of the default one; none if it knows nothing of interfaces.
fn interfaces(library: &Library) -> (Vec<CK_INTERFACE>, usize) {
    // SAFETY: the types are those of PKCS #11.
    let found = unsafe {
        (
            library.get::<CK_C_GetInterfaceList>(b"C_GetInterfaceList\0"),
            library.get::<CK_C_GetInterface>(b"C_GetInterface\0"),
        )
    };
    let (Ok(Some(list)), Ok(Some(get))) = (found.0.map(|f| *f), found.1.map(|f| *f)) else {
        return (Vec::new(), 0);
    };
    let mut count: CK_ULONG = 0;
    // SAFETY: without a buffer only the count is written.
    if unsafe { list(std::ptr::null_mut(), &raw mut count) } != CKR_OK {
        return (Vec::new(), 0);
    }
    let mut all = vec![CK_INTERFACE::default(); count as usize];
    // SAFETY: the buffer has room for `count`.
    if unsafe { list(all.as_mut_ptr(), &raw mut count) } != CKR_OK {
        return (Vec::new(), 0);
    }
    all.truncate(count as usize);
    let mut default = std::ptr::null_mut::<CK_INTERFACE>();
    // SAFETY: null name and version ask for the default.
    let rv = unsafe {
        get(
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            &raw mut default,
            0,
        )
    };
    // SAFETY: null, or the target's own structure.
    let chosen = unsafe { default.as_ref() }.filter(|_| rv == CKR_OK);
    let place = chosen.and_then(|chosen| {
        all.iter()
            .position(|one| one.pFunctionList == chosen.pFunctionList)
    });
    (all, place.unwrap_or(0))
}

/// Copies a list of any version; the newer functions stay empty.
///
/// # Safety
/// `list` points to a list that is as long as its version says.
unsafe fn read(list: *const CK_FUNCTION_LIST) -> List {
    let mut copy = List::default();
    // SAFETY: every list begins with its version.
    let version = unsafe { (*list).version };
    let size = match key(&version) {
        (0..=2, _) => size_of::<CK_FUNCTION_LIST>(),
        (3, 0..=1) => size_of::<CK_FUNCTION_LIST_3_0>(),
        _ => size_of::<CK_FUNCTION_LIST_3_2>(),
    };
    // SAFETY: the caller vouches for the source; older lists are the beginning of the newest, which `copy` is.
    unsafe { std::ptr::copy_nonoverlapping(list.cast::<u8>(), (&raw mut copy).cast::<u8>(), size) };
    copy
}

/// Our list in place of `original`: leaked, since the caller may keep it for good.
fn publish(original: &List) -> *mut List {
    let load = &config().load;
    let mut list = wrap(original, &load.null);
    list.C_GetFunctionList = Some(crate::C_GetFunctionList);
    list.C_GetInterfaceList = original
        .C_GetInterfaceList
        .map(|_| crate::C_GetInterfaceList as _);
    list.C_GetInterface = original.C_GetInterface.map(|_| crate::C_GetInterface as _);
    list.version = load.version.unwrap_or(original.version);
    Box::into_raw(Box::new(list))
}

/// Our list, with the functions of 2.40 and another version, at the end of a page behind which nobody may read.
fn cut_off(original: &List, version: CK_VERSION) -> Result<*mut CK_FUNCTION_LIST, String> {
    const SIZE: usize = size_of::<CK_FUNCTION_LIST>();
    let whole = publish(original).cast::<CK_FUNCTION_LIST>();
    // SAFETY: asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: two new pages, of which only the first is used.
    unsafe {
        let pages = libc::mmap(std::ptr::null_mut(), 2 * page, access, flags, -1, 0);
        if pages == libc::MAP_FAILED
            || libc::mprotect(pages.byte_add(page), page, libc::PROT_NONE) != 0
        {
            return Err("no pages for a list".to_owned());
        }
        let list = pages.byte_add(page - SIZE).cast::<CK_FUNCTION_LIST>();
        list.copy_from_nonoverlapping(whole, 1);
        (*list).version = version;
        Ok(list)
    }
}

fn name_of(interface: &CK_INTERFACE) -> &CStr {
    if interface.pInterfaceName.is_null() {
        return c"";
    }
    // SAFETY: not null, and the target's interface names are strings that stay.
    unsafe { CStr::from_ptr(interface.pInterfaceName.cast()) }
}

fn version_of(interface: &CK_INTERFACE) -> CK_VERSION {
    // SAFETY: every function list begins with its version, and the caller has looked that there is one.
    unsafe { *interface.pFunctionList.cast::<CK_VERSION>() }
}

fn key(version: &CK_VERSION) -> (u8, u8) {
    (version.major, version.minor)
}
