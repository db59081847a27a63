//! What goes to a library in a process of its own is the same there, and what comes back is bounded.

use cryptoki_engine::operation::answer::Answer;
use cryptoki_engine::operation::begun::Begun;
use cryptoki_engine::operation::login::Login;
use cryptoki_engine::operation::operation::Operation;
use cryptoki_engine::process::link::{Broken, LIMIT, Link, read};
use cryptoki_engine::process::wire::{Answered, Ask, News};
use cryptoki_ffi::channel::Channel;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Failure, Reason};
use cryptoki_ffi::values::{Data, Field, Handle, LEVELS, Mechanism, Parameter, Secret, Value};

fn again<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    postcard::from_bytes(&postcard::to_stdvec(value).unwrap()).unwrap()
}

fn mechanism(handle: Handle) -> Mechanism {
    let fields = vec![
        Field::Ulong(7),
        Field::Bytes(Data::copied(b"salt")),
        Field::Struct(vec![Field::Handle(handle), Field::NewHandle]),
        Field::Template(vec![(3, Value::Ulongs(vec![1, 2]))]),
    ];
    Mechanism {
        kind: 0x80000001,
        parameter: Parameter::Fields(fields),
    }
}

#[test]
fn an_operation_is_the_same_with_its_handles_and_its_bytes() {
    let handle = Handle {
        number: 3,
        life: 4,
        generation: 5,
    };
    let operations = [
        Operation::sign {
            mechanism: mechanism(handle),
            key: Some(handle),
            data: Data::copied(&[9; 10_000]),
            login: Login::Pin(Secret::new(b"1234".to_vec())),
        },
        Operation::final_ {
            begun: Begun {
                kind: Kind::Verify,
                number: 6,
            },
            signature: Some(Data::copied(b"signature")),
        },
        Operation::session_info {},
    ];
    for operation in operations {
        let read: Operation = again(&operation);
        let bytes = |operation| postcard::to_stdvec(operation).unwrap();
        assert_eq!(bytes(&read), bytes(&operation));
        assert_eq!(read.handles(), operation.handles());
    }
}

#[test]
fn a_failure_is_the_same_and_names_no_function_that_there_is_not() {
    let failure = Failure::Rv {
        code: 0x30,
        function: "C_Sign",
    };
    assert_eq!(again(&failure), failure);
    let own = Failure::own(Reason::Busy, "the queue is full");
    assert_eq!(again(&own), own);
    let mut bytes = postcard::to_stdvec(&failure).unwrap();
    let at = bytes.windows(6).position(|part| part == b"C_Sign").unwrap();
    bytes[at] = b'X';
    assert!(postcard::from_bytes::<Failure>(&bytes).is_err());
}

#[test]
fn what_is_printed_of_an_operation_has_no_pin_and_no_data() {
    let operation = Operation::sign {
        mechanism: mechanism(Handle {
            number: 3,
            life: 4,
            generation: 5,
        }),
        key: None,
        data: Data::copied(b"plaintext"),
        login: Login::Pin(Secret::new(b"1234".to_vec())),
    };
    let printed = format!("{operation:?}");
    for secret in ["49, 50, 51, 52", "1234", "plaintext", "112, 108", "115, 97"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

fn deep(levels: usize) -> Parameter {
    let mut fields = vec![Field::NewHandle];
    for _ in 0..levels {
        fields = vec![Field::Struct(fields)];
    }
    Parameter::Fields(fields)
}

#[test]
fn what_is_nested_deeper_than_any_mechanism_is_refused() {
    let ask = |levels| {
        let mechanism = Mechanism {
            kind: 1,
            parameter: deep(levels),
        };
        let data = Data::copied(b"data");
        let ask = Ask::Perform(Operation::digest { mechanism, data });
        read::<Ask>(&postcard::to_stdvec(&ask).unwrap())
    };
    assert!(ask(LEVELS).is_ok());
    assert!(ask(LEVELS + 1).is_err_and(|broken| broken == Broken::Malformed));
    // More than a stack has room for, as only a stranger would write it.
    let mut bomb = vec![2, 4, 1, 2];
    for _ in 0..1 << 20 {
        bomb.extend([1, 6]);
    }
    assert!(read::<Ask>(&bomb).is_err());
    let mut answer = vec![0];
    answer.resize(1 << 20, 4);
    assert!(read::<Answered>(&answer).is_err());
}

#[test]
fn half_of_something_and_more_than_something_are_nothing() {
    let answered = Answered {
        outcome: Ok(Answer::Bytes(vec![7; 300].into())),
        news: vec![News::Counted(true, None)],
        epoch: 9,
        open: true,
        in_operation: false,
        fate: None,
        refusal: None,
    };
    let bytes = postcard::to_stdvec(&answered).unwrap();
    assert!(read::<Answered>(&bytes).is_ok());
    for end in 0..bytes.len() {
        assert!(read::<Answered>(&bytes[..end]).is_err(), "{end}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(read::<Answered>(&longer).is_err());
    // A count that is no count: nothing is made room for that is not there.
    for at in 0..bytes.len() {
        let mut wrong = bytes.clone();
        wrong[at..].iter_mut().take(9).for_each(|byte| *byte = 0xFF);
        let _ = read::<Answered>(&wrong);
    }
}

#[test]
fn large_ones_arrive_and_too_large_ones_are_not_waited_for() {
    let (one, other) = Channel::pair().unwrap();
    let (mut ask, mut answer) = (Link::asking(one), Link::new(other));
    let sent = vec![Answer::Bytes(vec![5; 3 << 20].into()), Answer::Done];
    let again = sent.clone();
    let sending = std::thread::spawn(move || {
        for answer in &again {
            ask.send(answer, None).unwrap();
        }
        let claim = u32::try_from(LIMIT + 1).unwrap().to_le_bytes();
        ask.channel().send(&claim, None).unwrap();
        ask
    });
    for sent in &sent {
        let come = answer.receive::<Answer>().unwrap();
        assert_eq!(postcard::to_stdvec(&come), postcard::to_stdvec(sent));
    }
    assert!(
        answer
            .receive::<Answer>()
            .is_err_and(|broken| broken == Broken::Malformed)
    );
    drop(sending.join().unwrap());
}

#[test]
fn lists_of_next_to_nothing_take_no_more_than_a_message_may() {
    let written = |count: usize| {
        // Of that variant, that many empty ones.
        let mut bytes = vec![5];
        let mut left = count;
        while left > 0x7F {
            bytes.push((left & 0x7F) as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
        bytes.resize(bytes.len() + count, 0);
        read::<Answer>(&bytes)
    };
    assert!(written(1 << 20).is_ok_and(|answer| matches!(answer, Answer::Written(_))));
    assert!(written(10 << 20).is_err_and(|broken| broken == Broken::Malformed));
    // Each message anew.
    assert!(written(1 << 20).is_ok());
}

#[test]
fn an_answer_has_little_more_than_its_question() {
    let (one, other) = Channel::pair().unwrap();
    let mut ask = Link::asking(one);
    ask.send(&Answer::Done, None).unwrap();
    let claim = (200u32 << 20).to_le_bytes();
    other.send(&claim, None).unwrap();
    let answer = ask.receive::<Answer>();
    assert!(answer.is_err_and(|broken| broken == Broken::Malformed));
}
