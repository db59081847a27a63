//! What is taken from a library that is loaded: which function list, how much of it, and what is not believed.
#![allow(clippy::unwrap_used)]

use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Failure, Reason};
use cryptoki_ffi::functions::Functions;
use cryptoki_ffi::loader::load;
use cryptoki_sys::CKR_FUNCTION_NOT_SUPPORTED;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds `loader/module.c`.
fn module(name: &str, offers: &[&str]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/loader/module.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&path, &source])
        .args(offers.iter().map(|offer| format!("-D{offer}")))
        .status();
    assert!(built.unwrap().success());
    path
}

/// The version in use, those of the interfaces, and whether the last functions of 2.40, 3.0 and 3.2 are there.
type Taken = ((u8, u8), Vec<(u8, u8)>, [bool; 3]);

fn taken(functions: &Functions) -> Taken {
    functions.gate.open();
    let is_there = |failure: Failure| !failure.is(CKR_FUNCTION_NOT_SUPPORTED);
    let last = [
        functions.slot_event().map(drop),
        functions.message_final(Kind::MessageVerify, 1),
        functions.validation_flags(1, 1).map(drop),
    ];
    (
        functions.interface,
        functions.interfaces.iter().map(|i| i.version).collect(),
        last.map(|outcome| outcome.is_err_and(is_there)),
    )
}

fn loaded(name: &str, offers: &[&str]) -> Taken {
    taken(&load(&module(name, offers), None).unwrap())
}

fn refusal(path: &Path, wanted: Option<(u8, u8)>) -> String {
    let failure = load(path, wanted).map(drop).unwrap_err();
    let reason = Reason::LibraryNotLoaded;
    assert!(matches!(&failure, Failure::Own { reason: given, .. } if *given == reason));
    failure.to_string()
}

const CLASSIC: &str = "CLASSIC=2,40";
const ALL: &str = r#"OFFERS={"PKCS 11",&v2_40,0},{"Vendor",&v3_0,0},{"PKCS 11",&v3_2,1}"#;

#[test]
fn the_best_interface_is_taken_and_as_much_as_its_version_has() {
    let all = module("all", &[CLASSIC, ALL]);
    let versions = vec![(2, 40), (3, 0), (3, 2)];
    for (wanted, version, there) in [
        (None, (3, 2), [true; 3]),
        (Some((3, 0)), (3, 0), [true, true, false]),
        (Some((2, 40)), (2, 40), [true, false, false]),
    ] {
        let functions = load(&all, wanted).unwrap();
        assert_eq!(taken(&functions), (version, versions.clone(), there));
    }
    let functions = load(&all, None).unwrap();
    let last = functions.interfaces.last().unwrap();
    assert_eq!((last.name.as_str(), last.flags), ("PKCS 11", 1));
    // Those that have nothing else.
    let v3_0 = loaded("v3_0", &[r#"OFFERS={"PKCS 11",&v3_0,0}"#]);
    assert_eq!(v3_0, ((3, 0), vec![(3, 0)], [true, true, false]));
    let v2_40 = loaded("v2_40", &[r#"OFFERS={"PKCS 11",&v2_40,0}"#]);
    assert_eq!(v2_40, ((2, 40), vec![(2, 40)], [true, false, false]));
}

/// The default of the library, asked for without a version.
#[test]
fn a_version_that_is_not_known_is_as_long_as_the_last_one_before_it() {
    let v3_1 = loaded("v3_1", &[r#"OFFERS={"PKCS 11",&v3_1,0}"#]);
    assert_eq!(v3_1, ((3, 1), vec![(3, 1)], [true, true, false]));
    let v3_3 = loaded("v3_3", &[r#"OFFERS={"PKCS 11",&v3_3,0}"#]);
    assert_eq!(v3_3, ((3, 3), vec![(3, 3)], [true; 3]));
    // Nothing is known of one before 2.
    let v1_0 = loaded("v1_0", &[CLASSIC, r#"OFFERS={"PKCS 11",&v1_0,0}"#]);
    assert_eq!(v1_0, ((2, 40), vec![(1, 0)], [true, false, false]));
}

#[test]
fn a_list_that_stands_alone_is_one_of_2_40_whatever_it_says() {
    for (said, version) in [("2,20", (2, 20)), ("2,40", (2, 40)), ("3,2", (2, 40))] {
        let taken = loaded(&format!("classic_{said}"), &[&format!("CLASSIC={said}")]);
        assert_eq!(taken, (version, vec![], [true, false, false]));
    }
    let none = module("classic_1", &["CLASSIC=1,0"]);
    assert!(refusal(&none, None).ends_with("gave no usable function list"));
}

#[test]
fn an_interface_that_is_not_there_is_refused_with_those_that_are() {
    let all = module("not_there", &[CLASSIC, ALL]);
    let sentence = refusal(&all, Some((3, 1)));
    assert!(
        sentence.ends_with(" has no interface 3.1, it has 2.40, 3.0, 3.2"),
        "{sentence}"
    );
    let sentence = refusal(&module("classic", &[CLASSIC]), Some((3, 0)));
    assert!(
        sentence.ends_with(" has no interface 3.0, it has 2.40"),
        "{sentence}"
    );
}

#[test]
fn answers_that_are_failures_give_nothing_though_something_was_written() {
    let failing = module("failing", &["CLASSIC=2,40", "ANSWER=6"]);
    assert!(refusal(&failing, None).ends_with("C_GetFunctionList answered 0x6"));
    let classic = ((2, 40), vec![], [true, false, false]);
    assert_eq!(
        loaded("no_interfaces", &[CLASSIC, ALL, "LISTED=6", "GOT=6"]),
        classic
    );
}

#[test]
fn a_list_of_interfaces_is_believed_as_far_as_it_can_be_true() {
    let versions = |name, offers, count: &str| loaded(name, &[CLASSIC, offers, count]).1;
    let all = vec![(2, 40), (3, 0), (3, 2)];
    // There is room for 64; what is left empty is none.
    assert_eq!(versions("as_many", ALL, "COUNT=64"), all);
    assert_eq!(versions("too_many", ALL, "COUNT=65"), []);
    let hollow = r#"OFFERS={0,&v3_0,0},{"PKCS 11",0,0},{"PKCS 11",&v3_2,0}"#;
    assert_eq!(versions("hollow", hollow, "COUNT=3"), [(3, 2)]);
}

#[test]
fn what_the_system_says_of_a_library_that_cannot_be_loaded_is_said() {
    let nowhere = refusal(Path::new("/nowhere/module.so"), None);
    assert!(nowhere.contains("/nowhere/module.so: "), "{nowhere}");
    assert!(nowhere.to_lowercase().contains("no such file"), "{nowhere}");
    let nothing = module("nothing", &[]);
    assert!(refusal(&nothing, None).ends_with("neither C_GetInterface nor C_GetFunctionList"));
}

/// Seen to fail: without the look the process ends with SIGBUS.
#[test]
fn a_file_that_was_cut_off_is_refused_wherever_it_was_cut() {
    let whole = std::fs::read(module("whole", &[])).unwrap();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cut.so");
    for of_ten in 1..9 {
        std::fs::write(&path, &whole[..whole.len() * of_ten / 10]).unwrap();
        let said = refusal(&path, None);
        assert!(said.contains("is cut off"), "{said}");
    }
}
