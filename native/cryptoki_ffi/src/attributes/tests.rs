//! A library of one function, which answers in the ways that libraries do, by the number of the object.

use super::*;
use crate::attributes::wanted::ROOMS;
use crate::failure::Reason;
use std::cell::RefCell;

/// Answers rightly: a label, an empty identifier, a type; no other attribute.
const GOOD: CK_OBJECT_HANDLE = 1;
/// Its value is sensitive.
const SENSITIVE: CK_OBJECT_HANDLE = 2;
const GONE: CK_OBJECT_HANDLE = 3;
/// A device error for its identifier.
const BAD_ID: CK_OBJECT_HANDLE = 4;
/// A device error for everything.
const BAD: CK_OBJECT_HANDLE = 5;
/// Claims more than there can be.
const HUGE: CK_OBJECT_HANDLE = 6;
/// Says that it wrote a byte more than there was room for.
const OVERRUN: CK_OBJECT_HANDLE = 7;
/// Takes a question for a buffer that is too small, and tells no length.
const UNTOLD: CK_OBJECT_HANDLE = 8;
/// The same, and tells it.
const TOLD: CK_OBJECT_HANDLE = 9;
/// Never has enough room.
const ENDLESS: CK_OBJECT_HANDLE = 10;
/// Has a template of two attributes.
const TEMPLATE: CK_OBJECT_HANDLE = 11;
/// Has one of no attributes, of a part of one, of too many, of one without a value.
const EMPTY: CK_OBJECT_HANDLE = 12;
const ODD: CK_OBJECT_HANDLE = 13;
const MANY: CK_OBJECT_HANDLE = 14;
const HOLLOW: CK_OBJECT_HANDLE = 15;
/// The length of what a label is after it was told is none.
const FORGETS: CK_OBJECT_HANDLE = 16;
/// Fails in the second call.
const LATE: CK_OBJECT_HANDLE = 17;
/// Fails in the second call for its identifier.
const LATE_ID: CK_OBJECT_HANDLE = 19;
/// Has a class as well, and looks at all that it is asked for, or gives up at the first that it has not, or says so
/// of all after it.
const WHOLE: CK_OBJECT_HANDLE = 21;
const STOPS: CK_OBJECT_HANDLE = 22;
const SAYS_NONE: CK_OBJECT_HANDLE = 23;
/// The same, and its value is sensitive.
const WHOLE_SENSITIVE: CK_OBJECT_HANDLE = 24;
/// The same, and its label is longer than the room that it is given first.
const LONG_LABEL: CK_OBJECT_HANDLE = 25;
/// Tells lengths when it is asked for them alone.
const UNTOUCHED: CK_OBJECT_HANDLE = 26;
/// Has a class, and a modulus that is longer than any.
const LONG_MODULUS: CK_OBJECT_HANDLE = 28;
/// Says what it has written, and has written nothing.
const UNWRITTEN: CK_OBJECT_HANDLE = 27;
/// Has a class, and no label.
const NO_LABEL: CK_OBJECT_HANDLE = 29;
/// Has a template of a byte.
const BYTE: CK_OBJECT_HANDLE = 20;
/// Has exactly as much as there can be, of a template and of a value.
const MOST: CK_OBJECT_HANDLE = 18;

const SIZE: CK_ULONG = size_of::<CK_ATTRIBUTE>() as CK_ULONG;
const LONG: usize = 3_000;
const LONGER: usize = 5_000;

thread_local! {
    /// How many attributes each call asked for.
    static CALLS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

fn value(object: CK_OBJECT_HANDLE, kind: CK_ATTRIBUTE_TYPE) -> Result<Vec<u8>, CK_RV> {
    match (object, kind) {
        (
            WHOLE | STOPS | SAYS_NONE | WHOLE_SENSITIVE | LONG_LABEL | LONG_MODULUS | NO_LABEL,
            ck::CKA_CLASS,
        ) => Ok(vec![4; 8]),
        (SENSITIVE | WHOLE_SENSITIVE, ck::CKA_VALUE) => Err(ck::CKR_ATTRIBUTE_SENSITIVE),
        (GONE, _) => Err(ck::CKR_OBJECT_HANDLE_INVALID),
        (BAD, _) | (BAD_ID, ck::CKA_ID) => Err(ck::CKR_DEVICE_ERROR),
        (UNTOLD | TOLD | ENDLESS, _) => Ok(vec![7; LONG]),
        (LONG_LABEL, ck::CKA_LABEL) => Ok(vec![7; LONGER]),
        (LONG_MODULUS, ck::CKA_MODULUS) => Ok(vec![7; LONGER]),
        (MOST, ck::CKA_VALUE) => Ok(vec![7; LIMIT]),
        (NO_LABEL, ck::CKA_LABEL) => Err(ck::CKR_ATTRIBUTE_TYPE_INVALID),
        (_, ck::CKA_LABEL) => Ok(b"label".to_vec()),
        (_, ck::CKA_ID) => Ok(Vec::new()),
        (_, ck::CKA_KEY_TYPE) => Ok(vec![3; 8]),
        _ => Err(ck::CKR_ATTRIBUTE_TYPE_INVALID),
    }
}

/// One attribute, as C has it.
fn tell(object: CK_OBJECT_HANDLE, attribute: &mut CK_ATTRIBUTE) -> CK_RV {
    if attribute.type_ == ck::CKA_WRAP_TEMPLATE {
        return tell_template(object, attribute);
    }
    let bytes = match value(object, attribute.type_) {
        Ok(bytes) => bytes,
        Err(code) => {
            attribute.ulValueLen = ck::CK_UNAVAILABLE_INFORMATION;
            return code;
        }
    };
    let (given, length) = (attribute.ulValueLen, bytes.len() as CK_ULONG);
    if attribute.pValue.is_null() {
        match object {
            HUGE => attribute.ulValueLen = LIMIT as CK_ULONG + 1,
            UNTOLD | ENDLESS => return ck::CKR_BUFFER_TOO_SMALL,
            TOLD => {
                attribute.ulValueLen = length;
                return ck::CKR_ARGUMENTS_BAD;
            }
            _ => attribute.ulValueLen = length,
        }
        return ck::CKR_OK;
    }
    if object == LATE || object == LATE_ID && attribute.type_ == ck::CKA_ID {
        return ck::CKR_DEVICE_ERROR;
    }
    if given < length || object == ENDLESS {
        attribute.ulValueLen = ck::CK_UNAVAILABLE_INFORMATION;
        return ck::CKR_BUFFER_TOO_SMALL;
    }
    if object == UNWRITTEN {
        attribute.ulValueLen = length;
        return ck::CKR_OK;
    }
    // SAFETY: there is room for as many.
    unsafe {
        attribute
            .pValue
            .cast::<u8>()
            .copy_from(bytes.as_ptr(), bytes.len())
    };
    attribute.ulValueLen = match object {
        OVERRUN => given + 1,
        FORGETS => ck::CK_UNAVAILABLE_INFORMATION,
        UNTOUCHED => given,
        _ => length,
    };
    ck::CKR_OK
}

fn tell_template(object: CK_OBJECT_HANDLE, attribute: &mut CK_ATTRIBUTE) -> CK_RV {
    let size = match object {
        EMPTY => 0,
        ODD => SIZE + 1,
        BYTE => 1,
        MANY => 1_025 * SIZE,
        MOST => 1_024 * SIZE,
        HUGE => ck::CK_UNAVAILABLE_INFORMATION,
        TEMPLATE | HOLLOW => 2 * SIZE,
        _ => return ck::CKR_ATTRIBUTE_TYPE_INVALID,
    };
    if attribute.pValue.is_null() {
        attribute.ulValueLen = size;
        return ck::CKR_OK;
    }
    assert_eq!(attribute.ulValueLen, size);
    let inner = attribute.pValue.cast::<CK_ATTRIBUTE>();
    for at in 0..(size / SIZE) as usize {
        // SAFETY: there is room for as many.
        let one = unsafe { &mut *inner.add(at) };
        one.type_ = if at == 0 {
            ck::CKA_LABEL
        } else {
            ck::CKA_KEY_TYPE
        };
        if object == HOLLOW && at == 1 {
            one.ulValueLen = ck::CK_UNAVAILABLE_INFORMATION;
        } else {
            let code = tell(GOOD, one);
            assert_eq!(code, ck::CKR_OK);
        }
    }
    ck::CKR_OK
}

unsafe extern "C" fn get_attribute_value(
    _session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    CALLS.with_borrow_mut(|calls| calls.push(count as usize));
    // SAFETY: the caller's own array.
    let template = unsafe { std::slice::from_raw_parts_mut(template, count as usize) };
    let none = |attribute: &CK_ATTRIBUTE| value(object, attribute.type_).is_err();
    if let (STOPS | SAYS_NONE, Some(at)) = (object, template.iter().position(none)) {
        let rest = if object == STOPS {
            at..=at
        } else {
            at..=template.len() - 1
        };
        for attribute in &mut template[rest] {
            attribute.ulValueLen = ck::CK_UNAVAILABLE_INFORMATION;
        }
        for attribute in &mut template[..at] {
            tell(object, attribute);
        }
        return ck::CKR_ATTRIBUTE_TYPE_INVALID;
    }
    let told = template.iter_mut().map(|attribute| tell(object, attribute));
    // All are answered; one code is.
    told.fold(
        ck::CKR_OK,
        |before, code| if before == ck::CKR_OK { code } else { before },
    )
}

fn functions() -> Functions {
    // SAFETY: functions that are not there.
    let mut list: ck::CK_FUNCTION_LIST_3_2 = unsafe { std::mem::zeroed() };
    list.C_GetAttributeValue = Some(get_attribute_value);
    // SAFETY: the one function keeps to its declaration.
    let functions = unsafe { Functions::new(list, (2, 40), Vec::new()) };
    functions.gate.open();
    CALLS.take();
    functions
}

/// What is read of an object, in words, and how many attributes each call asked for.
fn read(
    object: CK_OBJECT_HANDLE,
    kinds: &[CK_ATTRIBUTE_TYPE],
) -> (Result<Vec<String>>, Vec<usize>) {
    let read = functions().attributes(1, object, kinds).map(|read| {
        assert!(read.iter().map(|(kind, _)| kind).eq(kinds));
        read.iter().map(|(_, value)| shown(value)).collect()
    });
    (read, CALLS.take())
}

fn shown(value: &Read) -> String {
    match value {
        Read::Bytes(bytes) if bytes.len() > 8 => format!("{} bytes", bytes.len()),
        Read::Bytes(bytes) => bytes.escape_ascii().to_string(),
        Read::Template(inner) => {
            let one =
                |(kind, value): &(CK_ATTRIBUTE_TYPE, Read)| format!("{kind}={}", shown(value));
            let shown: Vec<_> = inner.iter().take(2).map(one).collect();
            format!("{} of {}", shown.join(" "), inner.len())
        }
        Read::Nothing(why) => format!("{why:?}"),
    }
}

fn ok(words: &[&str]) -> Result<Vec<String>> {
    Ok(words.iter().map(|word| (*word).to_string()).collect())
}

fn misbehaved(outcome: &Result<Vec<String>>) -> bool {
    matches!(
        outcome,
        Err(Failure::Own {
            reason: Reason::ModuleMisbehaved,
            ..
        })
    )
}

const LABEL_ID: &[CK_ATTRIBUTE_TYPE] = &[ck::CKA_LABEL, ck::CKA_ID];

#[test]
fn one_call_for_all_where_all_can_be_read() {
    let all = [ck::CKA_LABEL, ck::CKA_ID, ck::CKA_KEY_TYPE];
    let bytes = "\\x03".repeat(8);
    assert_eq!(read(GOOD, &all), (ok(&["label", "", &bytes]), vec![7]));
}

/// As many as are asked for together; the object has three of them, an empty one among them.
const DESCRIBED: &[CK_ATTRIBUTE_TYPE] = &[
    ck::CKA_LABEL,
    ck::CKA_MODULUS,
    ck::CKA_ID,
    ck::CKA_EC_PARAMS,
    ck::CKA_PRIME,
    ck::CKA_BASE,
    ck::CKA_CHECK_VALUE,
    ck::CKA_KEY_TYPE,
];

fn described() -> Vec<String> {
    let (none, number) = ("TypeInvalid", "\\x03".repeat(8));
    let words = ["label", none, "", none, none, none, none, &number];
    words.map(String::from).to_vec()
}

#[test]
fn one_call_for_all_that_there_are() {
    assert_eq!(read(WHOLE, DESCRIBED), (Ok(described()), vec![17]));
}

#[test]
fn what_is_too_long_is_not_taken_for_what_is_not_there() {
    let (read, calls) = read(LONG_LABEL, DESCRIBED);
    let mut expected = described();
    expected[0] = format!("{LONGER} bytes");
    assert_eq!((read, calls), (Ok(expected), vec![17, 1, 1]));
}

#[test]
fn lengths_that_contradict_each_other_are_asked_for_first() {
    let (read, calls) = read(UNTOUCHED, LABEL_ID);
    assert_eq!(
        (read.map(|read| read[0].clone()), calls),
        (Ok("label".into()), vec![5, 2, 2])
    );
}

#[test]
fn whoever_has_many_wishes_is_asked_for_the_lengths_first() {
    let kinds = [ck::CKA_LABEL; ROOMS + 1];
    assert_eq!(read(WHOLE, &kinds).1, vec![ROOMS + 2, ROOMS + 1]);
    assert_eq!(read(WHOLE, &kinds[1..]).1, vec![2 * ROOMS + 1]);
}

#[test]
fn of_many_objects_the_lengths_of_what_is_short_are_not_asked_for() {
    let functions = functions();
    let read = |object, kinds: &[CK_ATTRIBUTE_TYPE]| {
        let mut wanted = Wanted::of_many(kinds).expect("room");
        let read = functions.attributes_of(1, object, &mut wanted);
        let read = read.map(|read| read.iter().map(|(_, value)| shown(value)).collect());
        (read, CALLS.take())
    };
    assert_eq!(read(WHOLE, DESCRIBED), (Ok(described()), vec![11]));
    assert_eq!(read(STOPS, DESCRIBED).0, Ok(described()));
    let mut expected = described();
    expected[0] = format!("{LONGER} bytes");
    assert_eq!(read(LONG_LABEL, DESCRIBED).0, Ok(expected));
    // A modulus that is too long is asked for alone where the code says that something is.
    let kinds = [ck::CKA_MODULUS, ck::CKA_LABEL];
    let words = ok(&[&format!("{LONGER} bytes"), "label"]);
    assert_eq!(read(LONG_MODULUS, &kinds), (words, vec![4, 1, 1]));
    // The length of the room is not that of the value.
    let kinds = [ck::CKA_KEY_TYPE, ck::CKA_LABEL];
    let words = ok(&[&"\\x03".repeat(8), "label"]);
    assert_eq!(read(UNTOUCHED, &kinds), (words, vec![4, 2, 2]));
}

#[test]
fn objects_are_read_one_after_the_other_as_the_library_takes_it() {
    let functions = functions();
    let mut wanted = Wanted::new(LABEL_ID).expect("room");
    let mut read = |object| {
        let read = functions.attributes_of(1, object, &mut wanted);
        (read.map(|read| shown(&read[0].1)), CALLS.take())
    };
    assert_eq!(read(WHOLE), (Ok("label".into()), vec![5]));
    // Nothing is left there of the one before.
    assert_eq!(
        read(UNWRITTEN),
        (Ok("\\0".repeat(5).replace('0', "x00")), vec![5])
    );
    // What did not do once is not tried again.
    assert_eq!(read(BAD_ID).1, vec![5, 2, 1, 1, 1]);
    assert_eq!(read(WHOLE), (Ok("label".into()), vec![2, 2]));
}

#[test]
fn a_library_that_does_not_go_on_is_asked_for_each() {
    for object in [GOOD, STOPS, SAYS_NONE] {
        let (read, calls) = read(object, DESCRIBED);
        assert_eq!(read, Ok(described()), "{object}");
        assert_eq!(calls[..3], [17, 9, 1]);
    }
}

#[test]
fn why_there_is_none_is_asked_where_there_are_several_reasons() {
    let kinds = [DESCRIBED, &[ck::CKA_VALUE]].concat();
    let mut expected = described();
    expected.push("TypeInvalid".into());
    let calls = vec![19, 1];
    assert_eq!(read(WHOLE, &kinds), (Ok(expected.clone()), calls));
    expected[8] = "Sensitive".into();
    assert_eq!(read(WHOLE_SENSITIVE, &kinds).0, Ok(expected));
}

#[test]
fn one_that_cannot_be_read_spoils_no_other() {
    let kinds = [ck::CKA_LABEL, ck::CKA_VALUE];
    assert_eq!(read(GOOD, &kinds).0, ok(&["label", "TypeInvalid"]));
    assert_eq!(read(SENSITIVE, &kinds).0, ok(&["label", "Sensitive"]));
    let failed = format!("Failed({})", ck::CKR_DEVICE_ERROR);
    assert_eq!(read(BAD_ID, LABEL_ID).0, ok(&["label", &failed]));
    assert_eq!(read(FORGETS, &[ck::CKA_LABEL]).0, ok(&["Unavailable"]));
    // In the second call as well.
    assert_eq!(read(LATE_ID, LABEL_ID).0, ok(&["label", &failed]));
    assert!(matches!(
        read(LATE, LABEL_ID).0,
        Err(Failure::Rv {
            code: ck::CKR_DEVICE_ERROR,
            ..
        })
    ));
    assert_eq!(read(LATE, &[ck::CKA_LABEL]).1, [1, 1]);
}

#[test]
fn what_every_attribute_answers_is_said_of_the_object() {
    for (object, code, calls) in [
        (BAD, ck::CKR_DEVICE_ERROR, vec![5, 2, 1, 1]),
        (GONE, ck::CKR_OBJECT_HANDLE_INVALID, vec![5]),
    ] {
        let (outcome, asked) = read(object, LABEL_ID);
        assert!(outcome.is_err_and(|failure| failure.is(code)));
        assert_eq!(asked, calls);
    }
    // Asking for it once more tells nothing.
    assert_eq!(read(BAD, &[ck::CKA_LABEL]).1, [1]);
}

#[test]
fn lengths_are_not_believed() {
    assert!(misbehaved(&read(HUGE, LABEL_ID).0));
    assert!(misbehaved(&read(OVERRUN, &[ck::CKA_LABEL]).0));
    assert!(misbehaved(&read(ODD, &[ck::CKA_WRAP_TEMPLATE]).0));
    assert!(misbehaved(&read(BYTE, &[ck::CKA_WRAP_TEMPLATE]).0));
    assert!(misbehaved(&read(MANY, &[ck::CKA_WRAP_TEMPLATE]).0));
    assert_eq!(
        read(MOST, &[ck::CKA_VALUE]).0,
        ok(&[&format!("{LIMIT} bytes")])
    );
}

#[test]
fn a_question_that_is_refused_is_asked_with_room() {
    let long = ok(&[&format!("{LONG} bytes")]);
    // For the lengths of all, alone, with room for a short one and with more.
    assert_eq!(read(UNTOLD, &[ck::CKA_LABEL]), (long.clone(), vec![1; 4]));
    assert_eq!(read(TOLD, &[ck::CKA_LABEL]), (long, vec![1; 3]));
    // 1 KiB, 64 KiB, 4 MiB, 16 MiB, and no more.
    let (outcome, calls) = read(ENDLESS, &[ck::CKA_LABEL]);
    assert_eq!(outcome, ok(&["Unavailable"]));
    assert_eq!(calls, vec![1; 6]);
}

#[test]
fn templates_are_read_in_three_calls() {
    let bytes = "\\x03".repeat(8);
    let two = format!("{}=label {}={bytes} of 2", ck::CKA_LABEL, ck::CKA_KEY_TYPE);
    assert_eq!(
        read(TEMPLATE, &[ck::CKA_WRAP_TEMPLATE]),
        (ok(&[&two]), vec![1; 3])
    );
    assert_eq!(
        read(EMPTY, &[ck::CKA_WRAP_TEMPLATE]),
        (ok(&[" of 0"]), vec![1])
    );
    assert_eq!(
        read(HOLLOW, &[ck::CKA_WRAP_TEMPLATE]).0,
        ok(&["Unavailable"])
    );
    assert_eq!(read(HUGE, &[ck::CKA_WRAP_TEMPLATE]).0, ok(&["Unavailable"]));
    assert_eq!(
        read(GOOD, &[ck::CKA_WRAP_TEMPLATE, ck::CKA_LABEL]).0,
        ok(&["TypeInvalid", "label"])
    );
    let (most, _calls) = read(MOST, &[ck::CKA_WRAP_TEMPLATE]);
    assert!(most.is_ok_and(|read| read[0].ends_with(" of 1024")));
}

mod alike;
