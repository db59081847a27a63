use super::library::*;
use super::*;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::functions::Functions;
use cryptoki_ffi::values::Field;

fn misbehaved<T>(outcome: Result<T>) -> bool {
    matches!(
        outcome,
        Err(Failure::Own {
            reason: Reason::ModuleMisbehaved,
            ..
        })
    )
}

#[test]
fn objects() {
    asks("C_CreateObject 7 3=a", 101, |f| {
        f.create(S, &template(b"a"))
    });
    asks("C_CreateObject 7 none:0", 101, |f| f.create(S, &vec![]));
    asks("C_CopyObject 7 21 3=a", 101, |f| {
        f.copy(S, K, &template(b"a"))
    });
    asks("C_DestroyObject 7 21", (), |f| f.destroy(S, K));
    asks("C_GetObjectSize 7 21", 101, |f| f.object_size(S, K));
    asks("C_SetAttributeValue 7 21 3=a", (), |f| {
        f.set_attributes(S, K, &template(b"a"))
    });
    asks("C_FindObjectsInit 7 3=a", (), |f| {
        f.find_init(S, &template(b"a"))
    });
    asks("C_FindObjects 7 2", vec![5, 6], |f| f.find_next(S, 2));
    asks("C_FindObjects 7 9", vec![5, 6], |f| f.find_next(S, 9));
    asks("C_FindObjectsFinal 7", (), |f| f.find_final(S));
}

#[test]
fn keys() {
    asks("C_GenerateKey 7 99 iv 3=a", 101, |f| {
        f.generate_key(S, &mechanism(), &template(b"a"))
    });
    asks("C_GenerateKeyPair 7 99 iv 3=a 3=b", (101, 102), |f| {
        f.generate_key_pair(S, &mechanism(), &template(b"a"), &template(b"b"))
    });
    asks("C_DeriveKey 7 99 iv 21 3=a", 101, |f| {
        f.derive_key(S, &mechanism(), K, &template(b"a"))
    });
    asks("C_UnwrapKey 7 99 iv 21 data 3=a", 101, |f| {
        f.unwrap_key(S, &mechanism(), K, b"data", None, &template(b"a"))
    });
    asks(
        "C_WrapKey 7 99 iv 21 22 room",
        (b"C_WrapKey".to_vec(), None),
        |f| f.wrap_key(S, &mechanism(), K, L, None),
    );
    asks("C_DecapsulateKey 7 99 iv 21 3=a data", 101, |f| {
        f.decapsulate_key(S, &mechanism(), K, b"data", &template(b"a"))
    });
    let encapsulated = (b"C_EncapsulateKey".to_vec(), 101);
    asks("C_EncapsulateKey 7 99 iv 21 3=a room", encapsulated, |f| {
        f.encapsulate_key(S, &mechanism(), K, &template(b"a"))
    });
    let wrapped = (b"C_WrapKeyAuthenticated".to_vec(), None);
    asks(
        "C_WrapKeyAuthenticated 7 99 iv 21 22 more room",
        wrapped,
        |f| f.wrap_key(S, &mechanism(), K, L, Some(b"more")),
    );
    asks(
        "C_UnwrapKeyAuthenticated 7 99 iv 21 data 3=a more",
        101,
        |f| f.unwrap_key(S, &mechanism(), K, b"data", Some(b"more"), &template(b"a")),
    );
}

/// A parameter with place for bytes and for a handle.
fn with_places() -> Mechanism {
    Mechanism {
        kind: 99,
        parameter: Parameter::Fields(vec![Field::InOut(Data::copied(b"iv")), Field::NewHandle]),
    }
}

#[test]
fn what_a_mechanism_makes_beside_the_key() {
    let functions = opened(list());
    let (key, beside) = functions
        .generate_beside(S, &with_places(), &vec![])
        .unwrap();
    assert_eq!(
        (key, beside.handles, beside.written),
        (101, vec![0], vec![secret(b"iv")])
    );
    let derived = functions.derive_beside(S, &with_places(), K, &vec![]);
    let (key, beside) = derived.unwrap();
    assert_eq!(
        (key, beside.handles, beside.written),
        (101, vec![0], vec![secret(b"iv")])
    );
    // Such a mechanism may make no key of its own.
    hand_out(0);
    let derived = functions.derive_beside(S, &with_places(), K, &vec![]);
    assert_eq!(derived.unwrap().0, 0);
    hand_out(101);
}

#[test]
fn no_object_has_the_handle_0() {
    let a = template(b"a");
    let calls: [&dyn Fn(&Functions) -> bool; 9] = [
        &|f| misbehaved(f.create(S, &a)),
        &|f| misbehaved(f.copy(S, K, &a)),
        &|f| misbehaved(f.generate_key(S, &mechanism(), &a)),
        &|f| misbehaved(f.generate_key_pair(S, &mechanism(), &a, &a)),
        &|f| misbehaved(f.derive_key(S, &mechanism(), K, &a)),
        &|f| misbehaved(f.unwrap_key(S, &mechanism(), K, b"", None, &a)),
        &|f| misbehaved(f.encapsulate_key(S, &mechanism(), K, &a)),
        &|f| misbehaved(f.decapsulate_key(S, &mechanism(), K, b"", &a)),
        &|f| misbehaved(f.unwrap_key(S, &mechanism(), K, b"", Some(b""), &a)),
    ];
    hand_out(0);
    for (n, call) in calls.iter().enumerate() {
        assert!(call(&opened(list())), "{n}");
    }
    hand_out(101);
}

#[test]
fn more_objects_than_were_asked_for_are_not_believed() {
    let mut list = list();
    list.C_FindObjects = Some(three);
    assert!(misbehaved(opened(list).find_next(S, 2)));
    assert_eq!(opened(list).find_next(S, 3).map(|found| found.len()), Ok(3));
}

unsafe extern "C" fn three(
    _session: CK_ULONG,
    objects: *mut CK_ULONG,
    room: CK_ULONG,
    count: *mut CK_ULONG,
) -> CK_ULONG {
    // SAFETY: as much room as the caller says.
    unsafe {
        (0..room.min(3) as usize).for_each(|at| objects.add(at).write(5));
        count.write(3);
    }
    0
}
