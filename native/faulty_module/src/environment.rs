//! The environment that the target sees: its own, while the process keeps what it has. Other libraries in the process may
//! be initialised at any moment, and would be given the tokens of this one.

use crate::config::config;
use crate::target::real;
use cryptoki_sys::CK_RV;
use std::ffi::c_void;

/// C_Initialize: the target finds in its environment what the file beside the library says.
pub(crate) unsafe fn initialize(pointer: *mut c_void) -> Result<CK_RV, CK_RV> {
    let _while = seen::by_target()?;
    real!(C_Initialize(pointer))
}

/// The target asks us, when it calls `getenv`. What it is linked with does not: it has the environment of the process.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod seen {
    use super::{CK_RV, config};
    use cryptoki_sys::CKR_GENERAL_ERROR;
    use plt_rs::DynamicLibrary;
    use std::collections::HashMap;
    use std::ffi::{CStr, CString, c_char, c_void};
    use std::sync::OnceLock;

    type Getenv = unsafe extern "C" fn(*const c_char) -> *mut c_char;

    /// For good.
    pub(super) struct Seen;

    /// At each C_Initialize: another copy of this library may have the same target.
    pub(super) fn by_target() -> Result<Seen, CK_RV> {
        static ENTRIES: OnceLock<Result<Vec<usize>, String>> = OnceLock::new();
        if config().environment.is_empty() {
            return Ok(Seen);
        }
        let entries = ENTRIES.get_or_init(entries).as_ref();
        let replaced = entries
            .map_err(Clone::clone)
            .and_then(|entries| entries.iter().try_for_each(|entry| replace(*entry)));
        replaced.map(|()| Seen).map_err(|error| {
            eprintln!("faulty_module: the target's environment: {error}");
            CKR_GENERAL_ERROR
        })
    }

    /// Where the loader has written the address of getenv for the target: each place from which it is called.
    fn entries() -> Result<Vec<usize>, String> {
        stay()?;
        let initialize = crate::target::functions().C_Initialize;
        let base =
            initialize.and_then(|function| Some(place(function as *const c_void)?.dli_fbase));
        let base = base.ok_or("where it lies is not known")? as usize;
        let mut loaded = plt_rs::collect_modules().into_iter();
        let loaded = loaded.find(|module| module.addr() == base);
        let target = DynamicLibrary::initialize(loaded.ok_or("it is not loaded")?)
            .map_err(|error| error.to_string())?;
        let symbols = target.symbols().ok_or("it has no symbols")?;
        let names = target.string_table();
        let is_getenv = |entry: &&plt_rs::elf64::DynRela| {
            let name = symbols.resolve_name(entry.symbol_index() as usize, names);
            name.is_some_and(|name| name == "getenv" || name == "secure_getenv")
        };
        let tables = [target.addend_relocs(), target.plt_rela()];
        let entries = tables
            .into_iter()
            .flatten()
            .flat_map(|table| table.entries());
        let entries = entries.filter(is_getenv);
        let entries: Vec<_> = entries
            .map(|entry| base + entry.r_offset as usize)
            .collect();
        match entries.is_empty() {
            true => Err("it reads none".into()),
            false => Ok(entries),
        }
    }

    fn place(function: *const c_void) -> Option<libc::Dl_info> {
        // SAFETY: all fields of the structure are pointers, which may be null.
        let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
        // SAFETY: any address may be asked about.
        (unsafe { libc::dladdr(function, &raw mut info) } != 0).then_some(info)
    }

    /// The target has an address of ours: this library is never unloaded.
    fn stay() -> Result<(), String> {
        let here = place(stay as *const c_void).ok_or("where we lie is not known")?;
        let how = libc::RTLD_NOLOAD | libc::RTLD_NODELETE | libc::RTLD_NOW;
        // SAFETY: the name is the loader's own.
        match unsafe { libc::dlopen(here.dli_fname, how) }.is_null() {
            true => Err("we are not loaded".into()),
            false => Ok(()),
        }
    }

    fn replace(entry: usize) -> Result<(), String> {
        // SAFETY: the size of a page can be asked for at any time.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let start = (entry / page * page) as *mut c_void;
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        // The loader may have made it read-only. It stays writable: something else on the page may have to be.
        // SAFETY: the page is the target's, which is never closed, and keeps what is on it.
        if unsafe { libc::mprotect(start, page, writable) } != 0 {
            return Err(std::io::Error::last_os_error().to_string());
        }
        // SAFETY: the loader wrote the address of a function of this type there, and the page can be written.
        unsafe { (entry as *mut Getenv).write_volatile(getenv) };
        Ok(())
    }

    /// `getenv` with the variables of the file beside the library before those of the process.
    unsafe extern "C" fn getenv(name: *const c_char) -> *mut c_char {
        static OWN: OnceLock<HashMap<CString, CString>> = OnceLock::new();
        let own = OWN.get_or_init(|| {
            let c = |text: &String| CString::new(text.as_str()).ok();
            let variables = config().environment.iter();
            variables
                .filter_map(|(name, value)| Some((c(name)?, c(value)?)))
                .collect()
        });
        // SAFETY: who calls getenv has a string that ends.
        match own.get(unsafe { CStr::from_ptr(name) }) {
            Some(value) => value.as_ptr().cast_mut(),
            // SAFETY: as above.
            None => unsafe { libc::getenv(name) },
        }
    }
}

/// Elsewhere in that of the process, for the time of C_Initialize: one library at a time.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
mod seen {
    use super::{CK_RV, config};
    use std::ffi::OsString;

    pub(super) struct Before(Vec<(&'static String, Option<OsString>)>);

    pub(super) fn by_target() -> Result<Before, CK_RV> {
        let wanted = &config().environment;
        let before = wanted
            .keys()
            .map(|name| (name, std::env::var_os(name)))
            .collect();
        for (name, value) in wanted {
            // SAFETY: a test library, in tests that initialise one library at a time.
            unsafe { std::env::set_var(name, value) };
        }
        Ok(Before(before))
    }

    impl Drop for Before {
        fn drop(&mut self) {
            for (name, value) in self.0.drain(..) {
                match value {
                    // SAFETY: as above.
                    Some(value) => unsafe { std::env::set_var(name, value) },
                    // SAFETY: as above.
                    None => unsafe { std::env::remove_var(name) },
                }
            }
        }
    }
}
