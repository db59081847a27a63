//! What comes from the process of a library, and what goes to it, is read or refused, whatever it is; what was read is
//! written as it is read. By itself, and over a connection in both directions.
#![no_main]

use cryptoki_engine::process::link::{Link, read};
use cryptoki_engine::process::wire::{
    Answered, Ask, Hello, Notice, Noticed, Order, Ordered, Ready, Start,
};
use cryptoki_ffi::channel::Channel;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn stable<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(value) = read::<T>(bytes) else { return };
    let written = postcard::to_stdvec(&value).unwrap();
    let Ok(again) = read::<T>(&written) else {
        panic!("what was read is not read again")
    };
    assert!(postcard::to_stdvec(&again).unwrap() == written);
}

/// All of it, and then the end.
fn over_a_connection<T: DeserializeOwned>(bytes: &[u8], of: fn(Channel) -> Link) {
    let (one, other) = Channel::pair().unwrap();
    one.send(bytes, None).unwrap();
    drop(one);
    let mut link = of(other);
    while link.receive::<T>().is_ok() {}
    let _ = link.receive_with::<T>();
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 11 {
        0 => stable::<Hello>(bytes),
        1 => stable::<Start>(bytes),
        2 => stable::<Notice>(bytes),
        3 => stable::<Noticed>(bytes),
        4 => stable::<Order>(bytes),
        5 => stable::<Ordered>(bytes),
        6 => stable::<Ask>(bytes),
        7 => stable::<Answered>(bytes),
        8 => stable::<Ready>(bytes),
        9 => over_a_connection::<Ask>(bytes, Link::new),
        _ => over_a_connection::<Answered>(bytes, Link::asking),
    }
});
