//! Memory that two processes have: what is large is copied into it once, and used where it lies.
//!
//! Whoever has made it believes nothing of it: it only copies, and looks at what it has copied. The other one can neither
//! cut it off nor make holes in it, by which a copy would be a signal. One half is for what is asked, one for the answers.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

/// So many bytes, and more, are no part of a message that is put together: they are used from where they are.
pub const LARGE: usize = 64 << 10;
/// What a half holds: a mebibyte, and as much again.
pub const HALF: usize = 2 << 20;
const WHOLE: usize = 2 * HALF;
/// Where something may begin: a line of a cache.
const LINE: usize = 64;

/// A mapping of it, until it is dropped.
pub struct Memory(NonNull<u8>);

// SAFETY: it is a number of an address, and what is there is only copied, or lent to one at a time.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// That of whoever has made it.
    pub fn of(descriptor: &impl AsFd) -> Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let descriptor = descriptor.as_fd().as_raw_fd();
        let nowhere = std::ptr::null_mut();
        // SAFETY: a new mapping, in nobody's place.
        let at = unsafe { libc::mmap(nowhere, WHOLE, access, libc::MAP_SHARED, descriptor, 0) };
        if at == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        let memory = Self(NonNull::new(at.cast()).ok_or(ErrorKind::OutOfMemory)?);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        // SAFETY: the mapping of just now; no core is to have it, and no process that a library makes of itself.
        unsafe {
            libc::madvise(at, WHOLE, libc::MADV_DONTDUMP);
            libc::madvise(at, WHOLE, libc::MADV_DONTFORK);
        }
        Ok(memory)
    }

    /// Where a place begins; none: it is not all within.
    fn at(&self, place: Place) -> Option<*mut u8> {
        let end = place.begin.checked_add(place.length)?;
        // SAFETY: it is within the mapping.
        (end <= WHOLE).then(|| unsafe { self.0.as_ptr().add(place.begin) })
    }

    /// Copies bytes there, unless they are there.
    pub fn write(&self, place: Place, bytes: &[u8]) {
        let at = self.at(place).filter(|_| bytes.len() == place.length);
        if let Some(at) = at.filter(|at| bytes.as_ptr() != *at) {
            // SAFETY: so much is there; what is written lies elsewhere, or further on.
            unsafe { at.copy_from(bytes.as_ptr(), bytes.len()) };
        }
    }

    /// Copies what is there, whatever it is by now, behind other bytes that have room for it.
    pub fn read(&self, place: Place, bytes: &mut Vec<u8>) {
        let room = bytes.spare_capacity_mut();
        if let Some(at) = self.at(place).filter(|_| room.len() >= place.length) {
            // SAFETY: so much is there and has room; the bytes are set now.
            unsafe {
                at.copy_to_nonoverlapping(room.as_mut_ptr().cast(), place.length);
                bytes.set_len(bytes.len() + place.length);
            }
        }
    }

    /// Overwrites what is there.
    pub fn wipe(&self, place: Place) {
        if let Some(at) = self.at(place) {
            // SAFETY: so much is there. Another process may see it, so it is done.
            unsafe { at.write_bytes(0, place.length) };
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody has a part of it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), WHOLE) };
    }
}

/// Bytes in it, of one who believes the other side: it leaves them alone until it is answered.
#[derive(Clone)]
pub struct Lent {
    memory: Arc<Memory>,
    place: Place,
}

impl Lent {
    /// Those at a place.
    pub fn of(memory: &Arc<Memory>, place: Place) -> Self {
        let memory = memory.clone();
        Self { memory, place }
    }

    /// Overwrites them.
    pub fn wipe(&self) {
        self.memory.wipe(self.place);
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} bytes", self.place.length)
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        let Some(at) = self.memory.at(self.place) else {
            return &[];
        };
        // SAFETY: so much is there as long as the memory, and nobody writes to it meanwhile.
        unsafe { std::slice::from_raw_parts(at, self.place.length) }
    }
}

thread_local! {
    static ROOM: RefCell<Option<Arc<Memory>>> = const { RefCell::new(None) };
    /// An output is kept of which nobody was told.
    static LEFT: Cell<bool> = const { Cell::new(false) };
}

/// Where the first large output of this thread is written, until there is an answer: it is the first piece of it.
pub fn make_room(memory: Option<&Arc<Memory>>) {
    // A library that says that it wrote more than it did would hand it to somebody else.
    if let Some(memory) = memory.filter(|_| LEFT.take()) {
        let (begin, length) = (HALF, HALF);
        memory.wipe(Place { begin, length });
    }
    ROOM.set(memory.cloned());
}

/// The output that was kept is sent: whoever has it overwrites it.
pub fn sent() {
    LEFT.set(false);
}

/// Room for an output, which is overwritten unless it is kept.
pub struct Room(Lent);

impl Room {
    /// It; none: it is not large, or there is none.
    pub fn take(length: usize) -> Option<Self> {
        let place = Places::of(false).next(length)?;
        let memory = ROOM.take()?;
        Some(Self(Lent { memory, place }))
    }

    /// Where it begins.
    pub fn pointer(&self) -> *mut u8 {
        let at = self.0.memory.at(self.0.place);
        at.unwrap_or(std::ptr::null_mut())
    }

    /// So much was written, which is not large after all; none: there is no room for that.
    pub fn copy(self, length: usize) -> Option<Vec<u8>> {
        let written = self.0.as_ref().get(..length)?;
        Some(written.to_vec())
    }

    /// So much was written, and stays; none: there is no room for that.
    pub fn keep(mut self, length: usize) -> Option<Lent> {
        let rest = self.0.as_ref().get(length..)?;
        let begin = self.0.place.begin;
        let rest = Place {
            begin: begin + length,
            length: rest.len(),
        };
        let memory = self.0.memory.clone();
        self.0.place = rest;
        LEFT.set(true);
        let place = Place { begin, length };
        Some(Lent { memory, place })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.wipe();
    }
}

/// A part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    begin: usize,
    length: usize,
}

impl Place {
    /// How long it is.
    pub fn length(self) -> usize {
        self.length
    }
}

/// The places of one message: both sides reckon them from nothing but the lengths.
#[derive(Clone, Copy)]
pub struct Places {
    begin: usize,
    used: usize,
}

impl Places {
    /// Those of a question, or of an answer.
    pub fn of(asked: bool) -> Self {
        let begin = if asked { 0 } else { HALF };
        Self { begin, used: 0 }
    }

    /// That of the next piece; none: it does not lie here.
    pub fn next(&mut self, length: usize) -> Option<Place> {
        let left = HALF - self.used;
        if length < LARGE || length > left {
            return None;
        }
        let begin = self.begin + self.used;
        self.used += length.next_multiple_of(LINE).min(left);
        Some(Place { begin, length })
    }

    /// All of them until now; none: there was none.
    pub fn all(self) -> Option<Place> {
        let Self { begin, used } = self;
        let all = Place {
            begin,
            length: used,
        };
        (used > 0).then_some(all)
    }
}

/// Memory that another process is to have, too.
pub struct Offer {
    memory: Memory,
    descriptor: OwnedFd,
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Offer {
    /// New memory.
    pub fn new() -> Result<Self> {
        use std::os::fd::FromRawFd;
        // Where files have to be smaller the answer would be a signal.
        if most_of_a_file() < WHOLE as u64 {
            return Err(ErrorKind::FileTooLarge.into());
        }
        // Older kernels do not know the first, newer ones may insist on it.
        let flags = [libc::MFD_NOEXEC_SEAL, libc::MFD_ALLOW_SEALING];
        let made = flags.into_iter().find_map(|flags| {
            // SAFETY: a name, and numbers.
            let made =
                unsafe { libc::memfd_create(c"cryptoki".as_ptr(), flags | libc::MFD_CLOEXEC) };
            // SAFETY: a descriptor of just now.
            (made >= 0).then(|| unsafe { OwnedFd::from_raw_fd(made) })
        });
        let file = std::fs::File::from(made.ok_or_else(Error::last_os_error)?);
        file.set_len(WHOLE as u64)?;
        seal(&file, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW)?;
        Ok(Self {
            memory: Memory::of(&file)?,
            descriptor: file.into(),
        })
    }

    /// The other side has it: from now on it can only be written to, by who has it now, and all of it is there.
    pub fn taken(self) -> Result<Memory> {
        seal(
            &self.descriptor,
            libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SEAL,
        )?;
        loop {
            // SAFETY: the descriptor is ours.
            match unsafe { libc::posix_fallocate(self.descriptor.as_raw_fd(), 0, WHOLE as i64) } {
                0 => return Ok(self.memory),
                libc::EINTR => {}
                error => return Err(Error::from_raw_os_error(error)),
            }
        }
    }
}

/// How large a file may become.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn most_of_a_file() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes there.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    limit.rlim_cur
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn seal(descriptor: &impl AsRawFd, seals: libc::c_int) -> Result<()> {
    // SAFETY: sets what can be done with a descriptor of ours.
    match unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Offer {
    /// Here there is none.
    pub fn new() -> Result<Self> {
        Err(ErrorKind::Unsupported.into())
    }

    /// The other side has it.
    pub fn taken(self) -> Result<Memory> {
        Ok(self.memory)
    }
}

impl Offer {
    /// To be handed over with [`crate::channel::Channel::send`].
    pub fn as_descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    /// Both sides of it, and the descriptor that another process would have.
    fn both() -> (Memory, Arc<Memory>, std::fs::File) {
        let offer = Offer::new().unwrap();
        let come = offer.as_descriptor().try_clone_to_owned().unwrap();
        let other = Arc::new(Memory::of(&come).unwrap());
        (offer.taken().unwrap(), other, come.into())
    }

    #[test]
    fn what_one_writes_the_other_has_without_a_copy_until_it_is_overwritten() {
        let (ours, theirs, _file) = both();
        let mut places = Places::of(true);
        assert_eq!(places.next(LARGE - 1), None);
        let places = [LARGE + 1, HALF - LARGE - LINE].map(|length| places.next(length));
        let [first, last] = places.map(Option::unwrap);
        ours.write(first, &[7; LARGE + 1]);
        ours.write(last, &vec![8; last.length]);
        let [a, b] = [first, last].map(|place| Lent::of(&theirs, place));
        assert!(*a.as_ref() == [7; LARGE + 1] && b.as_ref().iter().all(|byte| *byte == 8));
        assert_eq!(a.as_ref().as_ptr(), theirs.at(first).unwrap().cast_const());
        ours.wipe(first);
        assert!(*a.as_ref() == [0; LARGE + 1] && b.as_ref()[0] == 8);
    }

    #[test]
    fn no_place_is_beyond_its_half() {
        for asked in [true, false] {
            let mut places = Places::of(asked);
            assert_eq!((places.next(HALF + 1), places.all()), (None, None));
            while let Some(place) = places.next(LARGE + 1) {
                let half = if asked { 0..HALF } else { HALF..WHOLE };
                assert!(half.contains(&place.begin) && place.begin + place.length <= half.end);
            }
            assert!(HALF - places.used <= LARGE);
        }
    }

    /// Else whoever copies would be ended by a signal.
    #[test]
    fn whoever_has_it_cannot_take_any_of_it_away() {
        let (ours, theirs, file) = both();
        let place = Places::of(false).next(HALF).unwrap();
        theirs.write(place, &vec![9; HALF]);
        assert!(file.set_len(0).is_err() && file.set_len(2 * WHOLE as u64).is_err());
        assert!(file.write_at(b"a", 0).is_err() && seal(&file, libc::F_SEAL_WRITE).is_err());
        let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: a descriptor, and the mapping of the test.
        unsafe {
            assert_ne!(libc::fallocate(file.as_raw_fd(), hole, 0, WHOLE as i64), 0);
            let at = theirs.at(place).unwrap().cast();
            assert_ne!(libc::madvise(at, HALF, libc::MADV_REMOVE), 0);
        }
        assert!(Memory::of(&file).is_err());
        let mut copy = Vec::with_capacity(HALF);
        ours.read(place, &mut copy);
        assert!(copy == vec![9; HALF]);
    }

    #[test]
    fn no_core_has_it_and_no_child() {
        let (ours, _theirs, _file) = both();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let begin = format!("{:x}-", ours.0.as_ptr().addr());
        let of_it = &maps[maps.find(&begin).unwrap()..];
        let flags = of_it.lines().find(|line| line.starts_with("VmFlags"));
        for wanted in ["dd", "dc"] {
            assert!(flags.unwrap().split(' ').any(|flag| flag == wanted));
        }
    }

    #[test]
    fn an_output_that_was_not_sent_is_gone_before_the_next() {
        let (ours, theirs, _file) = both();
        let place = Places::of(false).next(LARGE).unwrap();
        for (told, left) in [(true, 9), (false, 0)] {
            make_room(Some(&theirs));
            assert!(Room::take(LARGE).unwrap().keep(LARGE).is_some());
            theirs.write(place, &[9; LARGE]);
            if told {
                sent();
            }
            make_room(Some(&theirs));
            let mut copy = Vec::with_capacity(LARGE);
            ours.read(place, &mut copy);
            assert!(copy == vec![left; LARGE]);
        }
        make_room(None);
    }

    #[test]
    fn what_is_not_kept_of_an_output_is_overwritten() {
        let (ours, theirs, _file) = both();
        let place = Places::of(false).next(2 * LARGE).unwrap();
        let seen = |at: usize| {
            let mut copy = Vec::with_capacity(2 * LARGE);
            ours.read(place, &mut copy);
            copy[at]
        };
        let write = || {
            make_room(Some(&theirs));
            let room = Room::take(2 * LARGE).unwrap();
            assert!(Room::take(2 * LARGE).is_none(), "one at a time");
            // SAFETY: the room is as large.
            unsafe { room.pointer().write_bytes(5, 2 * LARGE) };
            assert_eq!((seen(0), seen(2 * LARGE - 1)), (5, 5));
            room
        };
        let kept = write().keep(LARGE).unwrap();
        assert_eq!(kept.as_ref(), [5; LARGE]);
        assert_eq!((seen(LARGE - 1), seen(LARGE)), (5, 0));
        assert_eq!(write().copy(LARGE - 1), Some(vec![5; LARGE - 1]));
        assert_eq!((seen(0), seen(LARGE - 1)), (0, 0));
        let more = 2 * LARGE + 1;
        assert!(write().keep(more).is_none() && write().copy(more).is_none());
        assert_eq!(seen(0), 0);
        make_room(None);
        assert!(Room::take(2 * LARGE).is_none());
    }
}
