//! Which object a number means. A library may give the number of an object that is gone to the next one
//! (OpenSC's are pointers): a [`Handle`] has a generation, and it is good as long as its number means the
//! object that it was issued for.
//!
//! A generation ends when its object is destroyed here or ends with its session, when an object is made
//! under its number, and when the token starts anew or is logged in to again. What another program does to
//! the objects of a token is not seen before the library says so.

use cryptoki_ffi::values::Handle;
use cryptoki_sys::{CK_OBJECT_HANDLE, CK_SLOT_ID};
use serde::{Deserialize, Serialize};
use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// More objects than anybody holds; those that were found can be found again.
const KNOWN_LIMIT: usize = 1 << 20;
/// Ends that are remembered: of older ones it is only known that they are not good.
const GONE_LIMIT: usize = 1 << 16;
/// How long the end of a session waits for calls that use its objects. Whoever is inside of the library for
/// longer has been given its object.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// What becomes of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It is the one issued for its object.
    Current,
    /// Its object does not exist any more.
    Gone,
    /// Its object may have another handle by now.
    Unknown,
}

/// The objects of a library.
#[derive(Default)]
pub struct Numbers {
    state: Mutex<State>,
    /// Somebody has left an object that is about to end.
    left: Condvar,
}

#[derive(Default)]
struct State {
    /// In the order of the numbers, in which most libraries find their objects: neighbours are looked up together.
    known: BTreeMap<(CK_SLOT_ID, CK_OBJECT_HANDLE), Known>,
    /// Generations whose object does not exist any more.
    gone: BTreeSet<u64>,
    /// Slots in which somebody has been logged in.
    logged_in: HashSet<CK_SLOT_ID>,
}

struct Known {
    generation: u64,
    /// The claim of the session that the object ends with.
    maker: Option<u64>,
    /// The token may have started anew since: then its end says nothing of what has its number now.
    doubtful: bool,
    /// Calls that use it.
    users: usize,
    /// It is being destroyed, or its session closed: nobody is given it any more.
    ending: bool,
}

/// A generation of one library means nothing in another.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

/// So many are for a library in a process of its own: more than anybody makes or finds.
const FOR_A_PROCESS: u64 = 1 << 40;

/// Those of this process are nobody else's: of the `n`th of them, before there are any.
pub fn begin_generations(n: u64) {
    GENERATIONS.store(n.wrapping_add(1).wrapping_mul(FOR_A_PROCESS), Relaxed);
}

impl Known {
    fn new(maker: Option<u64>) -> Self {
        Self {
            // Unique in this process, and among those that have its handles.
            generation: GENERATIONS.fetch_add(1, Relaxed),
            maker,
            doubtful: false,
            users: 0,
            ending: false,
        }
    }
}

impl State {
    /// The entry of a handle that is good.
    fn good(&mut self, slot: CK_SLOT_ID, handle: &Handle) -> Option<&mut Known> {
        self.known
            .get_mut(&(slot, handle.number))
            .filter(|known| known.generation == handle.generation)
    }

    /// Uses objects no more; whether somebody may wait for that.
    fn leave(&mut self, slot: CK_SLOT_ID, handles: &[Handle]) -> bool {
        let mut ending = false;
        for handle in handles {
            if let Some(known) = self.good(slot, handle) {
                known.users = known.users.saturating_sub(1);
                ending |= known.ending;
            }
        }
        ending
    }

    fn bury(&mut self, generation: u64) {
        self.gone.insert(generation);
        if self.gone.len() > GONE_LIMIT {
            self.gone.pop_first();
        }
    }

    fn make_room(&mut self) {
        if self.known.len() >= KNOWN_LIMIT {
            self.known
                .retain(|_, known| known.maker.is_some() || known.users > 0 || known.ending);
        }
    }
}

impl Numbers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The generations of objects that were found; none of one that is about to end.
    pub fn found(
        &self,
        slot: CK_SLOT_ID,
        objects: &[CK_OBJECT_HANDLE],
    ) -> Vec<(CK_OBJECT_HANDLE, u64)> {
        let mut state = self.state();
        state.make_room();
        let mut issued = Vec::with_capacity(objects.len());
        for object in objects {
            let known = state
                .known
                .entry((slot, *object))
                .or_insert_with(|| Known::new(None));
            if !known.ending {
                issued.push((*object, known.generation));
            }
        }
        issued
    }

    /// The generation of an object that was made; what had its number before is gone. `maker` is the claim
    /// of the session that it ends with, if it does.
    pub fn made(&self, slot: CK_SLOT_ID, object: CK_OBJECT_HANDLE, maker: Option<u64>) -> u64 {
        let mut state = self.state();
        state.make_room();
        let known = Known::new(maker);
        let generation = known.generation;
        if let Some(before) = state.known.insert((slot, object), known)
            && !before.doubtful
        {
            state.bury(before.generation);
        }
        generation
    }

    /// Uses objects until the guard is dropped; none if one of the handles is not good.
    pub fn enter<'n, 'h>(
        &'n self,
        slot: CK_SLOT_ID,
        handles: &'h [Handle],
    ) -> Option<InUse<'n, 'h>> {
        let mut state = self.state();
        for (entered, handle) in handles.iter().enumerate() {
            match state.good(slot, handle).filter(|known| !known.ending) {
                Some(known) => known.users += 1,
                None => {
                    state.leave(slot, &handles[..entered]);
                    return None;
                }
            }
        }
        Some(InUse {
            numbers: self,
            slot,
            handles,
        })
    }

    /// What has become of a handle.
    pub fn standing(&self, slot: CK_SLOT_ID, handle: &Handle) -> Standing {
        let mut state = self.state();
        match state.good(slot, handle).map(|known| known.ending) {
            Some(false) => Standing::Current,
            Some(true) => Standing::Gone,
            None if state.gone.contains(&handle.generation) => Standing::Gone,
            None => Standing::Unknown,
        }
    }

    /// Begins to end an object that the caller, alone of all in the end, is using; none if somebody else has
    /// begun to. Waits until the others have left it, also when nobody waits for it any more: what was made and is
    /// not wanted goes, however long a call with it hangs. Whoever came later finds it ended.
    pub fn end(&self, slot: CK_SLOT_ID, handle: Handle) -> Option<Ending<'_>> {
        let mut state = self.state();
        let known = state.good(slot, &handle).filter(|known| !known.ending)?;
        known.ending = true;
        while state.good(slot, &handle)?.users > 1 {
            state = self
                .left
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Some(Ending {
            numbers: self,
            objects: vec![Ended {
                place: (slot, handle.number),
                generation: handle.generation,
                certain: true,
            }],
        })
    }

    /// Begins to end the objects that end with a session, and waits so long until nobody uses them.
    pub fn end_of(&self, maker: u64, patience: Duration) -> Ending<'_> {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        let mut objects = Vec::new();
        for (place, known) in &mut state.known {
            if known.maker == Some(maker) {
                known.ending = true;
                objects.push(Ended {
                    place: *place,
                    generation: known.generation,
                    certain: !known.doubtful,
                });
            }
        }
        let used = |state: &State| {
            objects.iter().any(|ended| {
                let known = state.known.get(&ended.place);
                known.is_some_and(|known| known.generation == ended.generation && known.users > 0)
            })
        };
        while used(&state) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                break;
            };
            let waited = self.left.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        Ending {
            numbers: self,
            objects,
        }
    }

    /// Whether objects end with a session.
    pub fn holds(&self, maker: u64) -> bool {
        let state = self.state();
        let mut known = state.known.values();
        known.any(|known| known.maker == Some(maker))
    }

    /// The library does not know the object of a handle. Those made here do not go without our doing.
    pub fn lost(&self, slot: CK_SLOT_ID, handle: &Handle) {
        let mut state = self.state();
        if let Entry::Occupied(entry) = state.known.entry((slot, handle.number)) {
            let known = entry.get();
            if known.generation == handle.generation && known.maker.is_none() && !known.ending {
                entry.remove();
            }
        }
    }

    /// Somebody has logged in. If somebody had before, there was a logout, which ends private objects.
    pub fn logged_in(&self, slot: CK_SLOT_ID) {
        let mut state = self.state();
        if !state.logged_in.insert(slot) {
            state
                .known
                .retain(|(of, _), known| *of != slot || known.ending);
        }
    }

    /// A session was lost: the token may have started anew.
    pub fn doubt(&self, slot: CK_SLOT_ID) {
        let mut state = self.state();
        state.known.retain(|(of, _), known| {
            known.doubtful |= *of == slot;
            *of != slot || known.maker.is_some() || known.ending
        });
    }

    /// The library, or the token of a slot, was initialised: no number means what it did.
    pub fn clear(&self, which: Option<CK_SLOT_ID>) {
        let mut state = self.state();
        let other = |slot: &CK_SLOT_ID| which.is_some_and(|which| which != *slot);
        state.known.retain(|(slot, _), _| other(slot));
        state.logged_in.retain(other);
        self.left.notify_all();
    }
}

/// Objects that a call uses.
pub struct InUse<'n, 'h> {
    numbers: &'n Numbers,
    slot: CK_SLOT_ID,
    handles: &'h [Handle],
}

impl Drop for InUse<'_, '_> {
    fn drop(&mut self) {
        if self.handles.is_empty() {
            return;
        }
        if self.numbers.state().leave(self.slot, self.handles) {
            self.numbers.left.notify_all();
        }
    }
}

struct Ended {
    place: (CK_SLOT_ID, CK_OBJECT_HANDLE),
    generation: u64,
    /// Its end is that of the object that the generation was given to.
    certain: bool,
}

/// Objects that are about to end. Dropped, their handles are not good any more, whatever has become of them.
pub struct Ending<'n> {
    numbers: &'n Numbers,
    objects: Vec<Ended>,
}

impl Ending<'_> {
    /// They are gone.
    pub fn gone(self) {
        let mut state = self.numbers.state();
        for ended in self.objects.iter().filter(|ended| ended.certain) {
            state.bury(ended.generation);
        }
    }

    /// They have stayed, and their handles are as good as before.
    pub fn stayed(mut self) {
        let mut state = self.numbers.state();
        for ended in std::mem::take(&mut self.objects) {
            if let Some(known) = state.known.get_mut(&ended.place)
                && known.generation == ended.generation
            {
                known.ending = false;
            }
        }
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.numbers.state();
        for ended in &self.objects {
            // An object that was made meanwhile may have the number.
            if let Entry::Occupied(entry) = state.known.entry(ended.place)
                && entry.get().generation == ended.generation
            {
                entry.remove();
            }
        }
        self.numbers.left.notify_all();
    }
}
