//! Objects that follow each other and have the same attributes.

use super::*;

#[test]
fn of_objects_that_are_alike_each_attribute_is_asked_for_once() {
    let functions = functions();
    let read = |object, wanted: &mut Wanted| {
        let read = functions.attributes_of(1, object, wanted);
        let words = |(_, value): &(_, Read)| shown(value);
        let read = read.map(|read| read.iter().rev().map(words).take(8).collect::<Vec<_>>());
        (read, CALLS.take())
    };
    // What another one has is read, and a longer row waited for; what a library says of a call, or has not looked at, is
    // what it was.
    for (object, calls) in [
        (LONG_LABEL, vec![9, 11, 1, 1]),
        (LONG_MODULUS, vec![9, 11, 1, 1]),
        (NO_LABEL, vec![9, 11]),
        (GONE, vec![9]),
        (BAD, vec![9, 11]),
        (SAYS_NONE, vec![9, 11, 9, 1]),
        (UNTOUCHED, vec![9, 11, 9, 1]),
    ] {
        let new = || Wanted::of_many(DESCRIBED).expect("room");
        let mut wanted = new();
        let row: Vec<_> = (0..5).map(|_| read(WHOLE, &mut wanted).1).collect();
        assert_eq!(row.concat(), [11, 11, 11, 11, 9]);
        let (found, asked) = read(object, &mut wanted);
        assert_eq!(
            (&asked[..calls.len()], found),
            (&calls[..], read(object, &mut new()).0)
        );
        let row = [NO_LABEL, WHOLE, WHOLE, WHOLE, WHOLE, WHOLE, WHOLE, WHOLE];
        let still = [LONG_LABEL, NO_LABEL].contains(&object);
        assert!(
            !still
                || row
                    .iter()
                    .all(|object| read(*object, &mut wanted).1 == [11])
        );
    }
    // That of the class is the last question.
    let kinds = [&[ck::CKA_CLASS], DESCRIBED].concat();
    let mut wanted = Wanted::of_many(&kinds).expect("room");
    let described: Vec<_> = described().into_iter().rev().collect();
    for (object, calls) in [WHOLE; 5].into_iter().zip([12, 12, 12, 12, 9]) {
        assert_eq!(
            read(object, &mut wanted),
            (Ok(described.clone()), vec![calls])
        );
    }
    assert_eq!(read(SAYS_NONE, &mut wanted).0, Ok(described));
    // Where it is not answered, what has no value was perhaps not looked at.
    let kinds = [ck::CKA_LABEL, ck::CKA_KEY_TYPE, ck::CKA_MODULUS];
    let mut wanted = Wanted::of_many(&kinds).expect("room");
    let row: Vec<_> = (0..5).map(|_| read(WHOLE, &mut wanted).1).collect();
    assert_eq!(row.concat(), [5, 5, 5, 5, 4]);
    assert_eq!(read(SAYS_NONE, &mut wanted).1[..2], [4, 5]);
}
