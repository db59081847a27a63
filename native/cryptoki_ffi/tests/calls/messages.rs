use super::library::*;
use super::*;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::Result;
use cryptoki_ffi::messages::Message;
use cryptoki_ffi::values::Field;

const KINDS: [(Kind, &str); 4] = [
    (Kind::MessageEncrypt, "Encrypt"),
    (Kind::MessageDecrypt, "Decrypt"),
    (Kind::MessageSign, "Sign"),
    (Kind::MessageVerify, "Verify"),
];

/// Bytes as they are, "iv".
fn parameter() -> Parameter {
    Parameter::Raw(Data::copied(b"iv"))
}

fn message(text: &str) -> Message {
    (text.as_bytes().to_vec().into(), vec![])
}

#[test]
fn begin_and_end_of_messages() {
    for (kind, name) in KINDS {
        asks(&format!("C_Message{name}Init 7 99 iv 21"), (), |f| {
            f.init(kind, S, &mechanism(), K).map(drop)
        });
        asks(&format!("C_Message{name}Final 7"), (), |f| {
            f.message_final(kind, S)
        });
    }
    let functions = opened(list());
    assert!(functions.message_final(Kind::Sign, S).is_err());
}

#[test]
fn whole_messages() {
    let whole = |kind| {
        move |f: &cryptoki_ffi::functions::Functions| {
            f.message(kind, 0, S, &parameter(), b"more", b"data")
        }
    };
    for (kind, asked, given) in [
        (
            Kind::MessageEncrypt,
            "C_EncryptMessage 7 iv more data room",
            "C_EncryptMessage",
        ),
        (
            Kind::MessageDecrypt,
            "C_DecryptMessage 7 iv more data room",
            "C_DecryptMessage",
        ),
        (
            Kind::MessageSign,
            "C_SignMessage 7 iv data room",
            "C_SignMessage",
        ),
        (Kind::MessageVerify, "C_VerifyMessage 7 iv data more", ""),
    ] {
        asks(asked, message(given), whole(kind));
    }
    assert!(whole(Kind::Sign)(&opened(list())).is_err());
}

#[test]
fn messages_in_pieces() {
    for (kind, asked) in [
        (Kind::MessageEncrypt, "C_EncryptMessageBegin 7 iv more"),
        (Kind::MessageDecrypt, "C_DecryptMessageBegin 7 iv more"),
        (Kind::MessageSign, "C_SignMessageBegin 7 iv"),
        (Kind::MessageVerify, "C_VerifyMessageBegin 7 iv"),
    ] {
        asks(asked, vec![], |f| {
            f.message_begin(kind, S, &parameter(), b"more")
        });
    }
    let next = |kind, last: Option<&'static [u8]>| {
        move |f: &cryptoki_ffi::functions::Functions| -> Result<Message> {
            f.message_next(kind, 0, S, &parameter(), b"data", last)
        }
    };
    // CKF_END_OF_MESSAGE is 1.
    for (kind, name) in [
        (Kind::MessageEncrypt, "C_EncryptMessageNext"),
        (Kind::MessageDecrypt, "C_DecryptMessageNext"),
    ] {
        asks(
            &format!("{name} 7 iv data room 0"),
            message(name),
            next(kind, None),
        );
        asks(
            &format!("{name} 7 iv data room 1"),
            message(name),
            next(kind, Some(b"")),
        );
    }
    let (sign, verify) = (Kind::MessageSign, Kind::MessageVerify);
    asks("C_SignMessageNext 7 iv data", message(""), next(sign, None));
    asks(
        "C_SignMessageNext 7 iv data room",
        message("C_SignMessageNext"),
        next(sign, Some(b"")),
    );
    asks(
        "C_VerifyMessageNext 7 iv data none:0",
        message(""),
        next(verify, None),
    );
    asks(
        "C_VerifyMessageNext 7 iv data mark",
        message(""),
        next(verify, Some(b"mark")),
    );
    let functions = opened(list());
    assert!(next(Kind::Sign, None)(&functions).is_err());
    assert!(
        functions
            .message_begin(Kind::Sign, S, &parameter(), b"")
            .is_err()
    );
}

#[test]
fn what_may_be_written_into_a_parameter_is_given_back() {
    let fields = Parameter::Fields(vec![Field::InOut(Data::copied(b"nonce"))]);
    let functions = opened(list());
    let written = vec![secret(b"nonce")];
    let begun = functions.message_begin(Kind::MessageEncrypt, S, &fields, b"");
    assert_eq!(begun, Ok(written.clone()));
    let next = functions.message_next(Kind::MessageEncrypt, 0, S, &fields, b"", None);
    assert_eq!(next.unwrap().1, written);
    let whole = functions.message(Kind::MessageEncrypt, 0, S, &fields, b"", b"");
    assert_eq!(whole.unwrap().1, written);
}
