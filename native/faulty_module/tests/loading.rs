//! What goes wrong, or right, when a library is loaded.
#![allow(clippy::unwrap_used)]

mod support;

use cryptoki_sys::*;
use std::path::Path;
use std::process::Command;
use support::*;

#[test]
fn hands_out_faulty_lists() {
    let Some(module) = Module::open("null=C_Sign,C_Digest;version=1.0") else {
        return;
    };
    let list = module.list().unwrap();
    assert!(list.C_Sign.is_none() && list.C_Digest.is_none() && list.C_SignInit.is_some());
    assert_eq!((list.version.major, list.version.minor), (1, 0));
    let interface = |load: &str| {
        let module = Module::open(load).unwrap();
        let mut interface = std::ptr::null_mut();
        // SAFETY: the type is that of PKCS #11, the interface lives for good.
        unsafe {
            let get = module
                .library
                .get::<CK_C_GetInterface>(b"C_GetInterface\0")
                .unwrap()
                .unwrap();
            let rv = get(
                c"PKCS 11".as_ptr().cast_mut().cast(),
                std::ptr::null_mut(),
                &raw mut interface,
                0,
            );
            (
                rv,
                interface
                    .as_ref()
                    .map(|interface| interface.pFunctionList.is_null()),
            )
        }
    };
    assert_eq!(interface(""), (CKR_OK, Some(false)));
    assert_eq!(interface("interface=fail"), (CKR_FUNCTION_FAILED, None));
    assert_eq!(interface("interface=null"), (CKR_OK, None));
    assert_eq!(interface("interface=no_list"), (CKR_OK, Some(true)));
    let list = |load: &str| Module::open(load).unwrap().list().err();
    assert_eq!(list("no_list"), Some(CKR_FUNCTION_FAILED));
    assert_eq!(list("list=null"), Some(CKR_OK));
    assert_eq!(list("nonsense"), Some(CKR_FUNCTION_FAILED));
}

#[test]
fn hands_out_a_short_list_of_a_new_version() {
    let Some(module) = Module::open("short_list=3.2;interface=fail") else {
        return;
    };
    let list = module.list().unwrap();
    assert_eq!((list.version.major, list.version.minor), (3, 2));
    assert!(list.C_WaitForSlotEvent.is_some());
    let end = std::ptr::from_ref(list).addr() + size_of::<CK_FUNCTION_LIST>();
    // SAFETY: asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    assert_eq!(end % page, 0);
}

#[test]
fn hands_out_the_interfaces_of_the_target() {
    let target = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so";
    if !Path::new(target).exists() {
        return eprintln!("no {target}: not tested");
    }
    let Some(dir) = Module::copy("null=C_SessionCancel") else {
        return;
    };
    let env = std::fs::read_to_string(dir.join("faulty.so.env")).unwrap();
    std::fs::write(
        dir.join("faulty.so.env"),
        env.replace(&format!("{}/target.so", dir.display()), target),
    )
    .unwrap();
    // SAFETY: the types are those of PKCS #11; lists and interfaces live for good.
    unsafe {
        let library = libloading::Library::new(dir.join("faulty.so")).unwrap();
        let count = library
            .get::<CK_C_GetInterfaceList>(b"C_GetInterfaceList\0")
            .unwrap()
            .unwrap();
        let get = library
            .get::<CK_C_GetInterface>(b"C_GetInterface\0")
            .unwrap()
            .unwrap();
        let mut n = 0;
        assert_eq!(count(std::ptr::null_mut(), &raw mut n), CKR_OK);
        assert!(n >= 2, "{n}");
        let mut interface = std::ptr::null_mut();
        for (major, minor, rv) in [(2, 20, CKR_OK), (3, 0, CKR_OK), (7, 0, CKR_FUNCTION_FAILED)] {
            let mut version = CK_VERSION { major, minor };
            assert_eq!(
                get(
                    std::ptr::null_mut(),
                    &raw mut version,
                    &raw mut interface,
                    0
                ),
                rv,
                "{major}.{minor}"
            );
        }
        let list = (*interface)
            .pFunctionList
            .cast::<CK_FUNCTION_LIST_3_0>()
            .as_ref()
            .unwrap();
        assert_eq!((list.version.major, list.version.minor), (3, 0));
        assert!(list.C_LoginUser.is_some() && list.C_SessionCancel.is_none());
        let mut info = CK_INFO::default();
        assert_eq!(
            list.C_GetInfo.unwrap()(&raw mut info),
            CKR_CRYPTOKI_NOT_INITIALIZED
        );
        assert!(
            std::fs::read_to_string(dir.join("journal"))
                .unwrap()
                .contains("C_GetInfo ran 0x190")
        );
    }
}

#[test]
fn libraries_that_are_none() {
    let Some(dir) = Module::copy("") else { return };
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("c");
    let build = |name: &str, more: &[&str]| {
        let library = dir.join(name).with_extension("so");
        let source = sources.join(name).with_extension("c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .args(more)
            .status()
            .unwrap();
        assert!(built.success());
        // SAFETY: the library has no initialisers.
        unsafe {
            libloading::os::unix::Library::open(Some(library), libloading::os::unix::RTLD_NOW)
        }
    };
    let error = build("unresolved", &[]).unwrap_err().to_string();
    assert!(
        error.contains("faulty_symbol_that_nobody_defines"),
        "{error}"
    );
    let library = build("not_pkcs11", &[]).unwrap();
    // SAFETY: the symbol is only looked for.
    assert!(unsafe { library.get::<CK_C_GetFunctionList>(b"C_GetFunctionList") }.is_err());

    let other = dir.join("faulty.so").display().to_string();
    let linked = build("linked", &["-Wl,--no-as-needed", &other]).unwrap();
    // SAFETY: as above.
    assert!(unsafe { linked.get::<CK_C_GetFunctionList>(b"C_GetFunctionList") }.is_ok());
}

/// Whatever else is initialised meanwhile reads it.
#[test]
fn leaves_the_environment_of_the_process_as_it_is() {
    let Some(inner) = Module::open("") else {
        return;
    };
    token(&inner.dir);
    let dir = Module::copy("").unwrap();
    let (own, target) = (dir.join("target.so"), inner.dir.join("faulty.so"));
    let env = std::fs::read_to_string(dir.join("faulty.so.env")).unwrap();
    let env = env.replace(own.to_str().unwrap(), target.to_str().unwrap());
    std::fs::write(dir.join("faulty.so.env"), env + "ELSEWHERE=1\n").unwrap();
    // SAFETY: the library under test.
    let library = unsafe { libloading::Library::new(dir.join("faulty.so")) }.unwrap();
    let outer = Module { dir, library };
    inner.control("C_Initialize hang");
    std::thread::scope(|scope| {
        let list = outer.list().unwrap();
        let started = scope.spawn(|| ck!(list.C_Initialize(std::ptr::null_mut())));
        inner.await_noted("C_Initialize hangs");
        let seen = std::env::var_os("ELSEWHERE");
        inner.control("");
        assert_eq!(started.join().unwrap(), CKR_OK);
        assert_eq!(seen, None);
    });
}
