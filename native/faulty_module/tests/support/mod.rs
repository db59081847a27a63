//! A copy of the library for each test, with its own control file, journal, token and copy of SoftHSM2, so that tests
//! can run side by side.
#![allow(dead_code, unused_imports, clippy::unwrap_used)]

use cryptoki_sys::*;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub const PIN: &str = "7391-pin";

/// A loaded copy of the library.
pub struct Module {
    pub dir: PathBuf,
    pub library: libloading::Library,
}

/// Calls a function of a list: `ck!(list.C_Login(session, ...))`.
macro_rules! ck {
    ($list:ident.$name:ident($($arg:expr),*)) => {
        // SAFETY: the test passes what PKCS #11 wants.
        unsafe { $list.$name.unwrap()($($arg),*) }
    };
}

pub(crate) use ck;

impl Module {
    /// A copy in a directory of its own; `None`, and the test passes, where SoftHSM2 is not installed.
    pub fn copy(load: &str) -> Option<PathBuf> {
        if !Path::new(SOFTHSM).exists() {
            eprintln!("no {SOFTHSM}: not tested");
            return None;
        }
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let dir = root().join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir_all(&dir).unwrap();
        let built = std::env::current_exe()
            .unwrap()
            .with_file_name("libfaulty_module.so");
        std::fs::copy(built, dir.join("faulty.so")).unwrap();
        std::fs::copy(SOFTHSM, dir.join("target.so")).unwrap();
        let d = dir.display();
        let env = format!(
            "FAULTY_TARGET={d}/target.so\nFAULTY_CONTROL={d}/control\nFAULTY_JOURNAL={d}/journal\nFAULTY_LOAD={load}\n"
        );
        std::fs::write(dir.join("faulty.so.env"), env).unwrap();
        Some(dir)
    }

    pub fn open(load: &str) -> Option<Module> {
        let dir = Module::copy(load)?;
        // SAFETY: the library under test.
        let library = unsafe { libloading::Library::new(dir.join("faulty.so")) }.unwrap();
        Some(Module { dir, library })
    }

    /// Opened and initialised, with its function list and a token.
    pub fn ready() -> Option<(Module, &'static CK_FUNCTION_LIST)> {
        let module = Module::open("")?;
        token(&module.dir);
        let list = module.list().unwrap();
        let mut args = CK_C_INITIALIZE_ARGS {
            flags: CKF_OS_LOCKING_OK,
            ..Default::default()
        };
        assert_eq!(ck!(list.C_Initialize((&raw mut args).cast())), CKR_OK);
        Some((module, list))
    }

    pub fn list(&self) -> Result<&'static CK_FUNCTION_LIST, CK_RV> {
        let mut list = std::ptr::null_mut();
        // SAFETY: the type is that of PKCS #11, the list lives for good.
        unsafe {
            let get = self
                .library
                .get::<CK_C_GetFunctionList>(b"C_GetFunctionList\0")
                .unwrap()
                .unwrap();
            let rv = get(&raw mut list);
            list.as_ref().filter(|_| rv == CKR_OK).ok_or(rv)
        }
    }

    /// Replaces the control file.
    pub fn control(&self, text: &str) {
        std::fs::write(self.dir.join("control.new"), text).unwrap();
        std::fs::rename(self.dir.join("control.new"), self.dir.join("control")).unwrap();
    }

    pub fn journal(&self) -> String {
        std::fs::read_to_string(self.dir.join("journal")).unwrap_or_default()
    }

    /// How many lines of the journal say this, e.g. `C_Sign ran`.
    pub fn noted(&self, what: &str) -> usize {
        self.journal()
            .lines()
            .filter(|line| line.contains(what))
            .count()
    }

    /// Waits until the journal says it.
    pub fn await_noted(&self, what: &str) {
        let start = Instant::now();
        while self.noted(what) == 0 {
            assert!(
                start.elapsed() < Duration::from_secs(300),
                "never noted: {what}"
            );
            std::thread::yield_now();
        }
    }
}

/// The slots with (or also without) a token.
pub fn slots(list: &CK_FUNCTION_LIST, present: CK_BBOOL) -> Vec<CK_SLOT_ID> {
    let (mut slots, mut count) = ([0; 16], 16);
    assert_eq!(
        ck!(list.C_GetSlotList(present, slots.as_mut_ptr(), &raw mut count)),
        CKR_OK
    );
    slots[..count as usize].to_vec()
}

pub fn open(list: &CK_FUNCTION_LIST, slot: CK_SLOT_ID) -> Result<CK_SESSION_HANDLE, CK_RV> {
    let mut session = 0;
    let flags = CKF_SERIAL_SESSION | CKF_RW_SESSION;
    match ck!(list.C_OpenSession(slot, flags, std::ptr::null_mut(), None, &raw mut session)) {
        CKR_OK => Ok(session),
        rv => Err(rv),
    }
}

pub fn login(list: &CK_FUNCTION_LIST, session: CK_SESSION_HANDLE) -> CK_RV {
    ck!(list.C_Login(
        session,
        CKU_USER,
        PIN.as_ptr().cast_mut(),
        PIN.len() as CK_ULONG
    ))
}

/// The state of a session (CKS_...), or what C_GetSessionInfo answers.
pub fn state(list: &CK_FUNCTION_LIST, session: CK_SESSION_HANDLE) -> Result<CK_STATE, CK_RV> {
    let mut info = CK_SESSION_INFO::default();
    match ck!(list.C_GetSessionInfo(session, &raw mut info)) {
        CKR_OK => Ok(info.state),
        rv => Err(rv),
    }
}

pub fn random(list: &CK_FUNCTION_LIST, session: CK_SESSION_HANDLE) -> CK_RV {
    let mut bytes = [0; 8];
    ck!(list.C_GenerateRandom(session, bytes.as_mut_ptr(), 8))
}

/// A SHA-256 of nothing; the length the library claims.
pub fn digest(
    list: &CK_FUNCTION_LIST,
    session: CK_SESSION_HANDLE,
    out: Option<&mut [u8]>,
) -> Result<CK_ULONG, CK_RV> {
    let mut mechanism = CK_MECHANISM {
        mechanism: CKM_SHA256,
        ..Default::default()
    };
    assert_eq!(ck!(list.C_DigestInit(session, &raw mut mechanism)), CKR_OK);
    let mut len = out.as_ref().map_or(0, |out| out.len() as CK_ULONG);
    let out = out.map_or(std::ptr::null_mut(), |out| out.as_mut_ptr());
    match ck!(list.C_Digest(session, [0_u8].as_mut_ptr(), 0, out, &raw mut len)) {
        CKR_OK => Ok(len),
        rv => Err(rv),
    }
}

/// Where everything is that the tests of this process make.
pub fn root() -> PathBuf {
    std::env::temp_dir().join(format!("faulty_module-{}", std::process::id()))
}

/// Makes a token in `dir` and tells the copy of SoftHSM2 there of it.
pub fn token(dir: &Path) {
    let (tokens, conf) = (dir.join("tokens"), dir.join("softhsm2.conf"));
    std::fs::create_dir_all(&tokens).unwrap();
    std::fs::write(
        &conf,
        format!(
            "directories.tokendir = {}\nlog.level = ERROR\n",
            tokens.display()
        ),
    )
    .unwrap();
    let made = Command::new("softhsm2-util")
        .args([
            "--init-token",
            "--free",
            "--label",
            "faulty",
            "--so-pin",
            "12345678",
            "--pin",
            PIN,
        ])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let env = dir.join("faulty.so.env");
    let known = std::fs::read_to_string(&env).unwrap();
    std::fs::write(env, format!("{known}SOFTHSM2_CONF={}\n", conf.display())).unwrap();
}

/// Removes what the tests left, when their process ends.
#[used]
#[unsafe(link_section = ".fini_array")]
static CLEAN: extern "C" fn() = {
    extern "C" fn clean() {
        let _ = std::fs::remove_dir_all(root());
    }
    clean
};
