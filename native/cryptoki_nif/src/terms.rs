//! Terms as the engine reads them.

use crate::inject;
use crate::pinned::Pinned;
use cryptoki_engine::library::info::Identity;
use cryptoki_engine::library::token_in_slot::TokenInSlot;
use cryptoki_engine::operation::read;
use cryptoki_engine::operation::words::Word;
use cryptoki_ffi::values::Data;
use rustler::types::tuple::get_tuple;
use rustler::{Atom, Binary, Env};
use std::sync::OnceLock;

/// A word is compared as an atom, never as text.
static WORDS: OnceLock<Vec<Atom>> = OnceLock::new();

/// Makes the atoms of all words.
pub fn prepare_words(env: Env) {
    // Too long is the only error there is.
    let atoms = Word::ALL
        .iter()
        .flat_map(|word| Atom::from_str(env, word.text()));
    let _ = WORDS.set(atoms.collect());
}

/// What is copied at once: pinning costs about as much as copying this.
const COPIED: usize = 4 << 10;

/// A term of the VM.
#[derive(Clone, Copy)]
pub struct Term<'a>(pub rustler::Term<'a>);

impl read::Term for Term<'_> {
    fn word(self) -> Option<Word> {
        inject::in_nif("decoding");
        let atom = Atom::from_term(self.0).ok()?;
        let at = WORDS.get()?.iter().position(|known| *known == atom)?;
        Word::ALL.get(at).copied()
    }

    fn number(self) -> Option<u64> {
        inject::in_nif("decoding");
        self.0.decode().ok()
    }

    fn data(self) -> Option<Data> {
        let binary = self.0.decode::<Binary>().ok()?;
        if binary.len() <= COPIED {
            return Some(Data::copied(&binary));
        }
        Pinned::new(self.0).map(Data::owned)
    }

    fn elements(self) -> Option<Vec<Self>> {
        let elements = get_tuple(self.0).ok()?;
        Some(elements.into_iter().map(Term).collect())
    }

    fn items(self) -> Option<Vec<Self>> {
        // rustler's iterator panics at the end of an improper list, which has no length.
        self.0.list_length().ok()?;
        let items = self.0.decode::<Vec<rustler::Term>>().ok()?;
        Some(items.into_iter().map(Term).collect())
    }
}

/// `{slot, {manufacturer, model, serial, label}, read_only}`
pub fn token_in_slot(term: rustler::Term) -> Option<TokenInSlot> {
    inject::in_nif("decoding");
    let (slot, token, read_only): (u64, _, bool) = term.decode().ok()?;
    let (manufacturer, model, serial, label) = token;
    Some(TokenInSlot {
        slot,
        token: Identity {
            manufacturer,
            model,
            serial,
            label,
        },
        read_only,
    })
}
