//! Faults that end a process.
#![allow(clippy::unwrap_used)]

mod support;

use cryptoki_sys::*;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use support::*;

#[test]
fn crashes() {
    let Some(_) = Module::copy("") else { return };
    for (how, signal) in [("segv", 11), ("abort", 6)] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_crashes"])
            .env("FAULTY_TEST_CRASH", how)
            .env("TMPDIR", root())
            .output()
            .unwrap();
        assert_eq!(child.status.signal(), Some(signal), "{how}: {child:?}");
    }
}

#[test]
fn child_that_crashes() {
    let (Ok(how), Some((module, list))) = (std::env::var("FAULTY_TEST_CRASH"), Module::ready())
    else {
        return;
    };
    module.control(&format!("C_GetInfo crash={how}"));
    let mut info = CK_INFO::default();
    ck!(list.C_GetInfo(&raw mut info));
}

#[test]
fn throws_an_exception_that_cxx_catches() {
    let Some(dir) = Module::copy("") else { return };
    let source = r#"
        #include <dlfcn.h>
        struct list { char version[8]; unsigned long (*functions[4])(void *); };
        int main(int, char **argv) {
            auto get = (unsigned long (*)(list **)) dlsym(dlopen(argv[1], RTLD_NOW), "C_GetFunctionList");
            list *l;
            get(&l);
            try { l->functions[0](nullptr); } catch (int n) { return n; }
            return 1;
        }"#;
    std::fs::write(dir.join("catch.cpp"), source).unwrap();
    std::fs::write(dir.join("control"), "C_Initialize crash=cxx").unwrap();
    let program = dir.join("catch");
    let Ok(built) = Command::new("c++")
        .arg(dir.join("catch.cpp"))
        .arg("-o")
        .arg(&program)
        .arg("-ldl")
        .status()
    else {
        return eprintln!("no C++ compiler: not tested");
    };
    assert!(built.success());
    let run = Command::new(program)
        .arg(dir.join("faulty.so"))
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(42), "{run:?}");
}
