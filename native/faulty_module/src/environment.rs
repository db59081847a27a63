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

/// The target asks us, when it calls `getenv`.
#[cfg(target_os = "linux")]
mod seen {
    use super::{CK_RV, config};
    use cryptoki_sys::CKR_GENERAL_ERROR;
    use std::collections::HashMap;
    use std::ffi::{CStr, CString, c_char};
    use std::sync::OnceLock;

    type Getenv = unsafe extern "C" fn(*const c_char) -> *mut c_char;

    /// For good.
    pub(super) struct Seen;

    pub(super) fn by_target() -> Result<Seen, CK_RV> {
        static REPLACED: OnceLock<Result<(), String>> = OnceLock::new();
        let replaced = REPLACED.get_or_init(|| match config().environment.is_empty() {
            true => Ok(()),
            false => replace(),
        });
        replaced.clone().map(|()| Seen).map_err(|error| {
            eprintln!("faulty_module: the target's environment: {error}");
            CKR_GENERAL_ERROR
        })
    }

    fn replace() -> Result<(), String> {
        let path = config().target.to_string_lossy();
        let loaded = plt_rs::collect_modules()
            .into_iter()
            .find(|module| module.name() == path)
            .ok_or("it is loaded under another name")?;
        let target =
            plt_rs::DynamicLibrary::initialize(loaded).map_err(|error| error.to_string())?;
        let entry = target
            .try_find_function("getenv")
            .ok_or("it reads none")?
            .r_offset as usize;
        let entry = target.base_addr() + entry;
        // SAFETY: the size of a page can be asked for at any time.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let start = (entry / page * page) as *mut libc::c_void;
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
#[cfg(not(target_os = "linux"))]
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
