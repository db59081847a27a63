//! Everything that crosses arrives as it was, and what is no such thing, or half of one, is an error: no panic, and no more
//! memory than what has come may stand for.

use crate::examples::{Examples, again, bytes};
use cryptoki_engine::operation::operation::{Operation, TABLE};
use cryptoki_engine::process::link::{Broken, Link, read};
use cryptoki_engine::process::pieces;
use cryptoki_engine::process::wire::{
    Answered, Ask, Hello, Notice, Noticed, Order, Ordered, Ready, Start, VERSION,
};
use cryptoki_ffi::channel::Channel;
use cryptoki_ffi::values::{Data, Mechanism, Parameter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which adds up what a thread takes.
struct Counting;

thread_local! {
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all memory is the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = TAKEN.try_with(|taken| taken.set(taken.get() + layout.size()));
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What reading takes of memory.
pub fn taken(reading: impl FnOnce()) -> usize {
    let before = TAKEN.get();
    reading();
    TAKEN.get() - before
}

/// An item of a list may be so much larger than a byte that stands for it; and for each list that is announced, in each other
/// as deep as they may stand, no more than serde takes before the first item has come.
fn most(bytes: usize) -> usize {
    bytes * 1_000 + (20 << 20)
}

/// What reads each of them, for bytes that may be none.
const READERS: &[fn(&[u8])] = &[
    |bytes| drop(read::<Hello>(bytes)),
    |bytes| drop(read::<Start>(bytes)),
    |bytes| drop(read::<Ready>(bytes)),
    |bytes| drop(read::<Notice>(bytes)),
    |bytes| drop(read::<Noticed>(bytes)),
    |bytes| drop(read::<Order>(bytes)),
    |bytes| drop(read::<Ordered>(bytes)),
    |bytes| drop(read::<Ask>(bytes)),
    |bytes| drop(read::<Answered>(bytes)),
];

fn arrive<T: Examples + Serialize + DeserializeOwned>() -> Vec<Vec<u8>> {
    let examples = T::examples().into_iter();
    let all = examples.map(|example| {
        let sent = bytes(&example);
        let come = again(&example).unwrap_or_else(|broken| panic!("{broken:?}: {sent:?}"));
        assert_eq!(bytes(&come), sent);
        for end in 0..sent.len() {
            assert!(read::<T>(&sent[..end]).is_err(), "{end} of {sent:?}");
        }
        assert!(read::<T>(&[&sent[..], &[0]].concat()).is_err());
        sent
    });
    all.collect()
}

fn all() -> Vec<Vec<u8>> {
    [
        arrive::<Hello>(),
        arrive::<Start>(),
        arrive::<Ready>(),
        arrive::<Notice>(),
        arrive::<Noticed>(),
        arrive::<Order>(),
        arrive::<Ordered>(),
        arrive::<Ask>(),
        arrive::<Answered>(),
    ]
    .concat()
}

#[test]
fn each_arrives_as_it_was_and_half_of_it_does_not() {
    let operations = Operation::examples();
    for row in TABLE {
        let name = row.name.text();
        let is_named = |operation: &&Operation| format!("{operation:?}").starts_with(name);
        assert!(
            operations.iter().any(|operation| is_named(&operation)),
            "{name}"
        );
    }
    for operation in operations {
        let come = again(&operation).unwrap();
        assert_eq!(come.handles(), operation.handles());
        assert_eq!(come.logs_in(), operation.logs_in());
        assert_eq!(format!("{come:?}"), format!("{operation:?}"));
    }
    assert!(all().len() > TABLE.len());
}

/// Two builds that call what crosses the same would read each other.
#[test]
fn another_shape_is_another_version() {
    // But for what has the version of the package in it.
    let examples = all().split_off(Hello::examples().len());
    let shape = examples
        .concat()
        .iter()
        .fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
        });
    assert_eq!(
        (VERSION, shape),
        (4, 0xC005_1C6B_84E9_B8ED),
        "what crosses has another shape, or other examples: with another shape goes another VERSION"
    );
}

/// The same numbers in each run.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

/// As strangers would write it: of one kind read as another, changed, with counts of what is not there.
#[test]
fn what_was_changed_on_the_way_is_read_or_not_and_takes_no_more_memory() {
    let mut chance = Chance(0x5EED);
    for sent in all() {
        for _ in 0..24 {
            let mut wrong = sent.clone();
            for _ in 0..=chance.next(3) {
                let at = chance.next(wrong.len().max(1));
                match chance.next(3) {
                    0 => wrong
                        .iter_mut()
                        .skip(at)
                        .take(1)
                        .for_each(|byte| *byte ^= 1 << (at % 8)),
                    1 => wrong
                        .iter_mut()
                        .skip(at)
                        .take(9)
                        .for_each(|byte| *byte = 0xFF),
                    _ => wrong
                        .splice(at.min(wrong.len())..at.min(wrong.len()), [0x80, 4])
                        .for_each(drop),
                }
            }
            for reader in READERS {
                let taken = taken(|| reader(&wrong));
                assert!(taken <= most(wrong.len()), "{taken} for {wrong:?}");
            }
        }
    }
}

/// What is read of bytes that come one part after the other into a little room.
fn trickled<T: DeserializeOwned>(bytes: &[u8], length: usize, parts: usize) -> Result<T, Broken> {
    let (one, other) = Channel::pair().unwrap();
    let sent = bytes.to_vec();
    let sending = std::thread::spawn(move || {
        for part in sent.chunks(parts) {
            // Who has read enough is gone.
            let _ = one.send(part, None);
        }
    });
    let mut room = [0xAA; 24];
    let value = pieces::receive(&other, &mut room, 0..0, length, None);
    assert_eq!(room, [0; 24], "what was read is overwritten");
    drop(other);
    sending.join().unwrap();
    value
}

fn trickle<T: Examples + Serialize + DeserializeOwned>() {
    for example in T::examples() {
        let sent = bytes(&example);
        for parts in [1, 7, 1_000] {
            let come = trickled::<T>(&sent, sent.len(), parts);
            assert!(come.is_ok_and(|come| bytes(&come) == sent), "{sent:?}");
        }
        let half = sent.len() / 2;
        let why = |come: Result<T, Broken>| come.err();
        let cut = why(trickled::<T>(&sent[..half], sent.len(), 7));
        assert_eq!(cut, Some(Broken::Gone), "{sent:?}");
        let cut = why(trickled::<T>(&sent, sent.len().saturating_sub(1), 7));
        assert_eq!(cut, Some(Broken::Malformed), "{sent:?}");
        let longer = why(trickled::<T>(
            &[&sent[..], &[0]].concat(),
            sent.len() + 1,
            7,
        ));
        assert_eq!(longer, Some(Broken::Malformed), "{sent:?}");
    }
}

#[test]
fn what_comes_little_by_little_arrives_as_it_was_and_nothing_of_it_stays() {
    trickle::<Hello>();
    trickle::<Start>();
    trickle::<Notice>();
    trickle::<Noticed>();
    trickle::<Order>();
    trickle::<Ordered>();
    trickle::<Ask>();
    trickle::<Answered>();
}

#[test]
fn large_data_is_copied_on_neither_side() {
    const LONG: usize = 5 << 20;
    let kept = Data::copied(&vec![7; LONG]);
    let ask = || {
        Ask::Perform(Operation::digest {
            mechanism: Mechanism {
                kind: 1,
                parameter: Parameter::Raw(Data::copied(&vec![8; 100_000])),
            },
            data: kept.clone(),
        })
    };
    let (one, other) = Channel::pair().unwrap();
    let question = ask();
    let sending = std::thread::spawn(move || {
        let mut link = Link::asking(one);
        taken(|| link.send(&question, None).unwrap())
    });
    let mut link = Link::new(other);
    let mut come = None;
    let taken = taken(|| come = link.receive::<Ask>().ok());
    assert!(bytes(&come.unwrap()) == bytes(&ask()));
    // What is too long for the memory comes by itself: a first step of two, one of four, and the last one.
    assert!(taken < (2 << 20) + (4 << 20) + LONG + (1 << 20), "{taken}");
    let taken = sending.join().unwrap();
    assert!(taken < 100_000, "{taken}");
}

#[test]
fn noise_over_a_connection_ends_it_in_both_directions() {
    let mut chance = Chance(0xBAD);
    for round in 0..2_000 {
        let mut noise: Vec<_> = (0..chance.next(200))
            .map(|_| chance.next(256) as u8)
            .collect();
        // Half of it has a length that may be.
        if round % 2 == 0 && noise.len() > 4 {
            let length = (noise.len() - 4) as u32;
            noise[..4].copy_from_slice(&length.to_le_bytes());
        }
        for asks in [false, true] {
            let (one, other) = Channel::pair().unwrap();
            one.send(&noise, None).unwrap();
            drop(one);
            let taken = taken(|| {
                let mut link = if asks {
                    Link::asking(other)
                } else {
                    Link::new(other)
                };
                while link.receive::<Answered>().is_ok() {}
                while link.receive::<Ask>().is_ok() {}
            });
            // A first step of what was announced.
            assert!(taken <= most(noise.len()) + (2 << 20), "{taken}");
        }
    }
}
