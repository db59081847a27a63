//! The numbers by which the client knows objects, where they are not the target's.

use crate::target::real;
use crate::{control, lock, token};
use cryptoki_sys::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers that are given again begin here: no target counts so far, and OpenSC's look so.
const FIRST: CK_OBJECT_HANDLE = 0x7F00_0000_0000;
/// The way from one to the next.
const STEP: CK_OBJECT_HANDLE = 0x40;

/// How client and target differ in the handles of objects: 0 not at all.
static SHIFT: AtomicU64 = AtomicU64::new(0);
static REUSE: Mutex<Reuse> = Mutex::new(Reuse {
    objects: BTreeMap::new(),
    free: BTreeSet::new(),
    made: 0,
});

/// The numbers of `handles reuse`.
struct Reuse {
    /// The target's handle of the object that a number means.
    objects: BTreeMap<CK_OBJECT_HANDLE, CK_OBJECT_HANDLE>,
    /// Numbers that mean nothing now.
    free: BTreeSet<CK_OBJECT_HANDLE>,
    /// How many numbers there are.
    made: CK_ULONG,
}

impl Reuse {
    /// The number of an object: its own, else one that is free by now, else a new one.
    fn number(&mut self, object: CK_OBJECT_HANDLE) -> CK_OBJECT_HANDLE {
        self.sweep();
        if let Some((number, _)) = self.objects.iter().find(|(_, known)| **known == object) {
            return *number;
        }
        let number = self.free.pop_first().unwrap_or_else(|| {
            self.made += 1;
            FIRST + STEP * self.made
        });
        self.objects.insert(number, object);
        number
    }

    /// Frees the numbers of objects that the target does not know any more.
    fn sweep(&mut self) {
        let Some(session) = token::some_session() else {
            return;
        };
        let gone = |object: CK_OBJECT_HANDLE| {
            let mut class = CK_ATTRIBUTE {
                type_: CKA_CLASS,
                ..Default::default()
            };
            let answer = real!(C_GetAttributeValue(session, object, &raw mut class, 1));
            matches!(
                answer,
                Ok(CKR_OBJECT_HANDLE_INVALID | CKR_KEY_HANDLE_INVALID)
            )
        };
        let free = &mut self.free;
        self.objects.retain(|number, object| {
            let gone = gone(*object);
            if gone {
                free.insert(*number);
            }
            !gone
        });
    }

    /// All numbers are free, for whatever objects come next.
    fn clear(&mut self) {
        self.free.extend(self.objects.keys().copied());
        self.objects.clear();
    }
}

/// Sessions may be lost, if there were `any`: objects have other numbers from now on.
pub fn renumber(any: bool) {
    if control::current().handles_shift {
        SHIFT.store(SHIFT.load(Ordering::SeqCst) % 7 + 1, Ordering::SeqCst);
    }
    if any {
        lock(&REUSE).clear();
    }
}

/// The library is finalised.
pub fn forget() {
    lock(&REUSE).clear();
}

/// The target's handle of an object. With `handles shift`: the handles the target gives are small numbers
/// one after the other, so with some bits turned round, what one object was called by is the name of another.
pub fn known(object: CK_OBJECT_HANDLE) -> CK_OBJECT_HANDLE {
    if let Some(known) = lock(&REUSE).objects.get(&object) {
        return *known;
    }
    match SHIFT.load(Ordering::SeqCst) {
        shift if shift == 0 || object == CK_INVALID_HANDLE => object,
        shift => (object - 1) ^ shift,
    }
}

/// Writes the client's handle of an object over the target's.
pub(crate) fn given(object: *mut CK_OBJECT_HANDLE) {
    // SAFETY: null, or the caller's place for the handle that the target has just written.
    let Some(object) = (unsafe { object.as_mut() }) else {
        return;
    };
    if *object == CK_INVALID_HANDLE {
        return;
    }
    if control::current().handles_reuse {
        *object = lock(&REUSE).number(*object);
        return;
    }
    match SHIFT.load(Ordering::SeqCst) {
        0 => {}
        shift => *object = (*object ^ shift) + 1,
    }
}
