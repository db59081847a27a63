//! Operations, answers and failures written down and read again.

use cryptoki_engine::operation::begun::Begun;
use cryptoki_engine::operation::login::Login;
use cryptoki_engine::operation::operation::Operation;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Failure, Reason};
use cryptoki_ffi::values::{Data, Field, Handle, Mechanism, Parameter, Secret, Value};

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
