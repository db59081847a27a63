//! What is large lies in memory that both processes have: who asks copies it in and out, who is asked uses it where it lies.
//! Whatever the other side does to it, and to what it says of it, is an error, or other bytes.

use crate::crossing::taken;
use crate::examples::bytes;
use cryptoki_engine::operation::answer::Answer;
use cryptoki_engine::operation::operation::Operation;
use cryptoki_engine::process::link::{Broken, Link};
use cryptoki_engine::process::wire::Ask;
use cryptoki_ffi::channel::Channel;
use cryptoki_ffi::shared::{HALF, Memory, Places};
use cryptoki_ffi::values::{Data, Mechanism, Parameter};
use cryptoki_ffi::wire::LARGE;
use std::process::Command;
use std::sync::Arc;
use std::thread::{JoinHandle, spawn};

/// What is said in the place of a length.
const OFFERED: u32 = 0x7FFF_FFFC;
const COMES: u32 = OFFERED + 1;
const TAKEN: u32 = OFFERED + 2;
const REFUSED: u32 = OFFERED + 3;
const LIES: u32 = 1 << 31;

const MEBIBYTE: usize = 1 << 20;

fn ask(data: &[u8]) -> Ask {
    Ask::Perform(Operation::digest {
        mechanism: Mechanism {
            kind: 1,
            parameter: Parameter::Absent,
        },
        data: Data::copied(data),
    })
}

fn data(ask: &Ask) -> Data {
    let Ask::Perform(Operation::digest { data, .. }) = ask else {
        panic!("another one")
    };
    data.clone()
}

/// Who answers the questions of a link, with its own end.
fn asked<T: Send + 'static>(
    work: impl FnOnce(Channel) -> T + Send + 'static,
) -> (Link, JoinHandle<T>) {
    let (one, other) = Channel::pair().unwrap();
    (Link::asking(one).sharing(), spawn(move || work(other)))
}

#[test]
fn what_is_large_is_used_where_it_lies_and_overwritten_by_who_asks() {
    let (mut link, other) = asked(|channel| {
        let mut link = Link::new(channel);
        // Until here it has not heard of the memory.
        assert!(data(&link.receive().unwrap())[..] == *b"small");
        link.send(&Answer::Done, None).unwrap();
        let mut kept = None;
        let took = taken(|| {
            kept = Some(data(&link.receive().unwrap()));
            link.send(&Answer::Bytes(vec![8; MEBIBYTE].into()), None)
                .unwrap();
        });
        (kept.unwrap(), took, link)
    });
    link.send(&ask(b"small"), None).unwrap();
    assert!(matches!(link.receive(), Ok(Answer::Done)));
    let question = ask(&[7; MEBIBYTE]);
    let took = taken(|| link.send(&question, None).unwrap());
    assert!(took < LARGE, "{took}");
    let Ok(Answer::Bytes(answer)) = link.receive::<Answer>() else {
        panic!("no bytes")
    };
    assert!(*answer == [8; MEBIBYTE]);
    let (kept, took, _other) = other.join().unwrap();
    // The answer was made there, and the question was not.
    assert!(took < MEBIBYTE + LARGE, "{took}");
    assert!(*kept == [7; MEBIBYTE]);
    link.overwrite();
    assert!(
        *kept == [0; MEBIBYTE],
        "it was another's, or is still there"
    );
}

#[test]
fn what_does_not_fit_goes_beside_it_and_what_comes_next_is_not_touched() {
    let (mut link, other) = asked(|channel| {
        let mut link = Link::new(channel);
        for length in [HALF + 1, HALF, LARGE, LARGE - 1] {
            assert!(*data(&link.receive().unwrap()) == *vec![7; length]);
            assert!(matches!(link.receive::<Ask>(), Ok(Ask::Abandon)));
            let lengths = [length, LARGE - 1, 1];
            let answers = lengths.map(|length| Answer::Bytes(vec![9; length].into()));
            link.send(&answers, None).unwrap();
        }
    });
    for length in [HALF + 1, HALF, LARGE, LARGE - 1] {
        link.send(&ask(&vec![7; length]), None).unwrap();
        link.send(&Ask::<Operation>::Abandon, None).unwrap();
        let answers: [Answer; 3] = link.receive().unwrap();
        let lengths = answers.map(|answer| match answer {
            Answer::Bytes(bytes) if bytes.iter().all(|byte| *byte == 9) => bytes.len(),
            _ => 0,
        });
        assert_eq!(lengths, [length, LARGE - 1, 1]);
    }
    other.join().unwrap();
}

fn hear(channel: &Channel) -> u32 {
    let mut word = [0; 4];
    assert_eq!(channel.receive(&mut word).unwrap(), 4);
    u32::from_le_bytes(word)
}

fn say(channel: &Channel, word: u32) {
    channel.send(&word.to_le_bytes(), None).unwrap();
}

/// Takes the memory by hand.
fn take(channel: &Channel) -> Arc<Memory> {
    assert_eq!(hear(channel), OFFERED);
    say(channel, OFFERED);
    let mut word = [0; 4];
    let (_, with) = channel.receive_with(&mut word).unwrap();
    assert_eq!(u32::from_le_bytes(word), COMES);
    let memory = Memory::of(&with.descriptor.unwrap()).unwrap();
    say(channel, TAKEN);
    assert_eq!(hear(channel), TAKEN);
    // The question, which is small.
    let length = hear(channel);
    assert_eq!(length & LIES, LIES);
    let mut question = vec![0; (length & !LIES) as usize];
    assert_eq!(channel.receive(&mut question).unwrap(), question.len());
    Arc::new(memory)
}

/// An answer of so many bytes, but for the bytes.
fn claim(length: usize) -> Vec<u8> {
    let answer = bytes(&Answer::Bytes(vec![0; length].into()));
    answer[..answer.len() - length].to_vec()
}

#[test]
fn what_is_changed_after_it_was_told_is_a_copy_by_then() {
    let (mut link, other) = asked(|channel| {
        let memory = take(&channel);
        let place = Places::of(false).next(MEBIBYTE).unwrap();
        memory.write(place, &[5; MEBIBYTE]);
        let claim = claim(MEBIBYTE);
        say(&channel, claim.len() as u32 | LIES);
        channel.send(&claim, None).unwrap();
        // Until it has been read.
        assert_eq!(channel.receive(&mut [0]).unwrap(), 1);
        memory.wipe(place);
    });
    link.send(&ask(&[7; MEBIBYTE]), None).unwrap();
    let Ok(Answer::Bytes(answer)) = link.receive::<Answer>() else {
        panic!("no bytes")
    };
    link.channel().send(&[1], None).unwrap();
    other.join().unwrap();
    assert!(*answer == [5; MEBIBYTE]);
}

/// None of it is read from beyond the memory, or waited for.
#[test]
fn who_tells_of_what_does_not_lie_there_is_not_believed() {
    for length in [HALF + 1, HALF + LARGE, 1 << 40, LARGE - 1] {
        let (mut link, other) = asked(move |channel| {
            take(&channel);
            let mut claim = claim(3);
            claim.truncate(1);
            // As postcard writes a number.
            let mut left = length;
            while left > 0x7F {
                claim.push((left & 0x7F) as u8 | 0x80);
                left >>= 7;
            }
            claim.push(left as u8);
            say(&channel, claim.len() as u32 | LIES);
            channel.send(&claim, None).unwrap();
            channel
        });
        link.send(&ask(&[7; MEBIBYTE]), None).unwrap();
        let took = taken(|| assert_eq!(link.receive::<Answer>().err(), Some(Broken::Malformed)));
        assert!(took < LARGE, "{took}");
        other.join().unwrap();
    }
    // And where there is no memory.
    let (one, other) = Channel::pair().unwrap();
    for asks in [true, false] {
        let (one, other) = Channel::pair().unwrap();
        say(&one, 3 | LIES);
        one.send(&[2, 1, 1], None).unwrap();
        let mut link = if asks {
            Link::asking(other)
        } else {
            Link::new(other)
        };
        assert_eq!(link.receive::<Answer>().err(), Some(Broken::Malformed));
    }
    say(&one, OFFERED);
    // Nobody but who asks may offer any.
    assert_eq!(
        Link::asking(other).receive::<Answer>().err(),
        Some(Broken::Malformed)
    );
}

#[test]
fn who_does_not_take_it_is_sent_all_and_who_says_something_else_is_no_worker() {
    let (mut link, other) = asked(|channel| {
        assert_eq!(hear(&channel), OFFERED);
        say(&channel, OFFERED);
        assert_eq!(hear(&channel), COMES);
        say(&channel, REFUSED);
        assert_eq!(hear(&channel), REFUSED);
        let mut link = Link::new(channel);
        for _ in 0..2 {
            assert!(*data(&link.receive().unwrap()) == [7; MEBIBYTE]);
            link.send(&Answer::Bytes(vec![8; MEBIBYTE].into()), None)
                .unwrap();
        }
    });
    for _ in 0..2 {
        link.send(&ask(&[7; MEBIBYTE]), None).unwrap();
        assert!(matches!(link.receive(), Ok(Answer::Bytes(bytes)) if *bytes == [8; MEBIBYTE]));
    }
    other.join().unwrap();
    for (first, second) in [(TAKEN, 0), (0, 0), (OFFERED, OFFERED), (OFFERED, 9)] {
        let (mut link, other) = asked(move |channel| {
            say(&channel, first);
            say(&channel, second);
            channel
        });
        let sent = link.send(&ask(&[7; MEBIBYTE]), None);
        assert_eq!(sent.err(), Some(Broken::Malformed), "{first} {second}");
        other.join().unwrap();
    }
}

/// In a process of its own, whose files may have no bytes.
#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn where_no_memory_can_be_had_all_goes_over_the_channel() {
    const TASK: &str = "CRYPTOKI_TEST_NO_MEMORY";
    const NAME: &str = "shared::where_no_memory_can_be_had_all_goes_over_the_channel";
    if std::env::var_os(TASK).is_none() {
        let limited = "ulimit -f 0; exec \"$0\" --exact \"$1\"";
        let this = std::env::current_exe().unwrap();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", limited]).arg(this).arg(NAME);
        let ended = shell.env(TASK, "1").output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        return;
    }
    let (mut link, other) = asked(|channel| {
        let mut link = Link::new(channel);
        assert!(*data(&link.receive().unwrap()) == [7; MEBIBYTE]);
        let answer = Answer::Bytes(vec![8; MEBIBYTE].into());
        link.send(&answer, None).unwrap();
        link
    });
    link.send(&ask(&[7; MEBIBYTE]), None).unwrap();
    assert!(matches!(link.receive(), Ok(Answer::Bytes(bytes)) if *bytes == [8; MEBIBYTE]));
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(!maps.contains("memfd:cryptoki"));
    drop(other.join());
}
