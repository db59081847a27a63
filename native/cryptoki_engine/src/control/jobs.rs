//! What can be asked of a library beside the operations of its sessions.

use crate::control::administration;
use crate::control::task::on_control;
use crate::inject;
use crate::library::info::{self, LibraryInfo, MechanismInfo, Presence, Slot, Token};
use crate::library::initialization::Initialization;
use crate::library::lanes::Task;
use crate::library::library::Library;
use crate::operation::read::{Argument, Term};
use crate::operation::words::Word;
use crate::request::request::Request;
use cryptoki_ffi::failure::Result;
use cryptoki_ffi::functions::Interface;
use cryptoki_ffi::values::{Data, Secret};
use cryptoki_ffi::wire::many;
use cryptoki_sys::{CK_MECHANISM_TYPE, CK_SLOT_ID, CK_USER_TYPE};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A job.
#[derive(Serialize, Deserialize)]
pub enum Job {
    /// `C_GetInfo`
    LibraryInfo,
    /// Every slot with its token.
    Slots,
    /// `C_GetTokenInfo`
    TokenInfo(CK_SLOT_ID),
    /// `C_GetMechanismList`
    Mechanisms(CK_SLOT_ID),
    /// `C_GetMechanismInfo`
    MechanismInfo(CK_SLOT_ID, CK_MECHANISM_TYPE),
    /// `C_InitToken`: the PIN of the security officer, the label.
    InitToken(CK_SLOT_ID, Option<Secret>, Data),
    /// `C_InitPIN`: the PIN of the security officer, the new one.
    InitPin(CK_SLOT_ID, Option<Secret>, Option<Secret>),
    /// `C_SetPIN`: who logs in for it, the old PIN, the new one.
    SetPin(
        CK_SLOT_ID,
        Option<CK_USER_TYPE>,
        Option<Secret>,
        Option<Secret>,
    ),
    /// Slot events, without waiting for any, and every slot.
    Poll,
    /// Slot events alone.
    Events,
    /// `C_Finalize` and `C_Initialize`, for a library that has got stuck.
    Reinitialize,
}

/// What it answers.
#[derive(Serialize, Deserialize)]
pub enum Told {
    /// That it is done.
    Done,
    /// What the library says of itself.
    Library(
        LibraryInfo,
        #[serde(deserialize_with = "many")] Vec<Interface>,
    ),
    /// The slots with their tokens.
    Slots(#[serde(deserialize_with = "many")] Vec<(Slot, Result<Option<Token>>)>),
    /// A token.
    Token(Token),
    /// Mechanisms.
    Mechanisms(#[serde(deserialize_with = "many")] Vec<CK_MECHANISM_TYPE>),
    /// A mechanism.
    Mechanism(MechanismInfo),
    /// Which slots have a token.
    Presence(#[serde(deserialize_with = "many")] Vec<Presence>),
    /// How many slot events there were so far; none where the library cannot say.
    Events(Option<u64>),
}

impl Job {
    /// Reads one: a tuple of its name and its arguments.
    pub fn read<T: Term>(term: T) -> Option<Self> {
        let elements = term.elements()?;
        let (name, arguments) = elements.split_first()?;
        Some(match (name.word()?, arguments) {
            (Word::library_info, []) => Job::LibraryInfo,
            (Word::slots, []) => Job::Slots,
            (Word::token_info, [slot]) => Job::TokenInfo(Argument::read(*slot)?),
            (Word::mechanisms, [slot]) => Job::Mechanisms(Argument::read(*slot)?),
            (Word::mechanism_info, [slot, kind]) => {
                Job::MechanismInfo(Argument::read(*slot)?, Argument::read(*kind)?)
            }
            (Word::init_token, [slot, so_pin, label]) => Job::InitToken(
                Argument::read(*slot)?,
                Argument::read(*so_pin)?,
                Argument::read(*label)?,
            ),
            (Word::init_pin, [slot, so_pin, pin]) => Job::InitPin(
                Argument::read(*slot)?,
                Argument::read(*so_pin)?,
                Argument::read(*pin)?,
            ),
            (Word::set_pin, [slot, user, old, new]) => Job::SetPin(
                Argument::read(*slot)?,
                Argument::read(*user)?,
                Argument::read(*old)?,
                Argument::read(*new)?,
            ),
            (Word::poll, []) => Job::Poll,
            (Word::events, []) => Job::Events,
            (Word::reinitialize, []) => Job::Reinitialize,
            _ => return None,
        })
    }

    fn run(self, library: &Arc<Library>, state: &mut Initialization) -> Result<Told> {
        inject::place("control work");
        let functions = &library.functions;
        match self {
            Job::LibraryInfo => {
                info::library(functions).map(|(info, interfaces)| Told::Library(info, interfaces))
            }
            Job::Slots => info::slots(functions).map(Told::Slots),
            Job::TokenInfo(slot) => info::token(functions, slot).map(Told::Token),
            Job::Mechanisms(slot) => functions.mechanisms(slot).map(Told::Mechanisms),
            Job::MechanismInfo(slot, kind) => {
                info::mechanism(functions, slot, kind).map(Told::Mechanism)
            }
            Job::InitToken(slot, so_pin, label) => {
                administration::init_token(library, slot, so_pin.as_ref(), &label)
                    .map(|()| Told::Done)
            }
            Job::InitPin(slot, so_pin, pin) => {
                administration::init_pin(library, slot, so_pin.as_ref(), pin.as_ref())
                    .map(|()| Told::Done)
            }
            Job::SetPin(slot, user, old, new) => {
                administration::set_pin(library, slot, user, old.as_ref(), new.as_ref())
                    .map(|()| Told::Done)
            }
            Job::Poll => {
                library.take_slot_events();
                info::poll(functions).map(Told::Presence)
            }
            Job::Events => Ok(Told::Events(library.take_slot_events())),
            Job::Reinitialize => state.reinitialize(library).map(|()| Told::Done),
        }
    }

    /// A task that does it for a request.
    pub fn task(library: Arc<Library>, request: Arc<Request<Job, Told>>) -> Task<Initialization> {
        on_control(request, move |state, job: Job| job.run(&library, state))
    }
}
