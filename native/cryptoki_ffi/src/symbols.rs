//! The symbols of a library, and of no other: `dlsym` also looks in the libraries that it is linked with, of which
//! one may be a PKCS #11 library of its own (p11-kit's, behind GnuTLS and curl).

use libloading::os::unix::Library;
use std::ffi::{CStr, c_void};
use std::path::Path;

/// What was found under a name.
pub(crate) enum Whose<T> {
    /// The library's own.
    Own(T),
    /// That of another one, by its path.
    Of(String),
    /// Nothing.
    Nobodys,
}

/// The symbols of a library that is never unloaded.
pub(crate) struct Symbols {
    library: std::mem::ManuallyDrop<Library>,
    /// Where the library is in memory: under how many names it may be known, it is there once.
    base: Option<*mut c_void>,
}

impl Symbols {
    /// Of a library that was opened by this path; it stays loaded.
    pub(crate) fn of(library: Library, path: &Path) -> Self {
        let handle = library.into_raw();
        Self {
            base: base_of(handle, path),
            // SAFETY: the handle was the library's until now.
            library: std::mem::ManuallyDrop::new(unsafe { Library::from_raw(handle) }),
        }
    }

    /// A symbol.
    ///
    /// # Safety
    /// `T` is the type of what has this name: a pointer.
    pub(crate) unsafe fn get<T: Copy>(&self, name: &CStr) -> Whose<T> {
        // SAFETY: as the caller says.
        let found = unsafe { self.library.get::<T>(name.to_bytes_with_nul()) };
        let Ok(symbol) = found else {
            return Whose::Nobodys;
        };
        let value = *symbol;
        match object_of(symbol.as_raw_ptr()) {
            Some((base, _)) if Some(base) == self.base => Whose::Own(value),
            Some((_, name)) => Whose::Of(name),
            None => Whose::Nobodys,
        }
    }
}

/// The object that an address belongs to: where it begins, and its path.
fn object_of(address: *const c_void) -> Option<(*mut c_void, String)> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: any address may be asked about; zero is a value of every field.
    let info = unsafe {
        if libc::dladdr(address, info.as_mut_ptr()) == 0 {
            return None;
        }
        info.assume_init()
    };
    if info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: not null: a string that lives as long as the object.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Some((info.dli_fbase, name.to_string_lossy().into_owned()))
}

/// Where the object of a handle is: the loader says where its dynamic section lies.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn base_of(handle: *mut c_void, _path: &Path) -> Option<*mut c_void> {
    /// The beginning of `struct link_map` (`link.h`).
    #[repr(C)]
    struct LinkMap {
        address: usize,
        name: *const std::ffi::c_char,
        dynamic: *const c_void,
    }
    let mut map: *const LinkMap = std::ptr::null();
    // SAFETY: the handle is that of an open library; one pointer is written, to what lives as long as the library.
    let dynamic = unsafe {
        if libc::dlinfo(handle, libc::RTLD_DI_LINKMAP, (&raw mut map).cast()) != 0 {
            return None;
        }
        map.as_ref()?.dynamic
    };
    object_of(dynamic).map(|(base, _)| base)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
use elsewhere::base_of;

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod elsewhere {
    use super::{Path, c_void, object_of};

    /// The same where the loader does not say it: an object that is loaded from the file.
    pub(super) fn base_of(handle: *mut c_void, path: &Path) -> Option<*mut c_void> {
        let own = path.canonicalize().ok()?;
        let names = [c"C_GetFunctionList", c"C_GetInterface"];
        names.iter().find_map(|name| {
            // SAFETY: the handle is that of an open library.
            let symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
            let (base, file) = object_of(symbol)?;
            (Path::new(&file).canonicalize().ok()? == own).then_some(base)
        })
    }
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;
    use libloading::os::unix::RTLD_NOW;

    fn whose(library: &str, name: &CStr) -> String {
        // SAFETY: libraries of the system, whose symbols are not called.
        unsafe {
            let Ok(opened) = Library::open(Some(library), RTLD_NOW) else {
                return "not there".to_string();
            };
            let symbols = Symbols::of(opened, Path::new(library));
            match symbols.get::<*const c_void>(name) {
                Whose::Own(address) => format!("own {}", !address.is_null()),
                Whose::Of(path) => path.rsplit('/').next().unwrap_or("").to_string(),
                Whose::Nobodys => "nobody's".to_string(),
            }
        }
    }

    #[test]
    fn a_symbol_of_a_library_that_another_is_linked_with_is_told_apart() {
        assert_eq!(whose("libm.so.6", c"cos"), "own true");
        assert_eq!(whose("libm.so.6", c"malloc"), "libc.so.6");
        assert_eq!(whose("libc.so.6", c"malloc"), "own true");
        assert_eq!(whose("libm.so.6", c"C_GetFunctionList"), "nobody's");
    }

    #[test]
    fn an_address_that_is_in_no_object_is_nobodys() {
        assert!(object_of(std::ptr::without_provenance(8)).is_none());
        let main = object_of(whose as *const c_void);
        assert!(main.is_some_and(|(base, path)| !base.is_null() && !path.is_empty()));
    }
}
