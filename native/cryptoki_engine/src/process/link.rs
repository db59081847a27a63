//! A connection on which one side asks and the other answers. What comes is bounded, and overwritten when it was read. With
//! its first large question whoever asks offers memory for what is large, and does without where the other side has none.

pub use crate::process::pieces::Broken;

use crate::process::pieces::{self, Shared};
use cryptoki_ffi::channel::{Channel, With};
use cryptoki_ffi::shared::{Memory, Offer, Place, Places, make_room};
use cryptoki_ffi::values::Secret;
use cryptoki_ffi::wire::{LARGE, begin_message};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;
use zeroize::{Zeroize, Zeroizing};

/// What a question may have.
pub const LIMIT: usize = 1 << 30;
/// What an answer may have beyond its question: as much as is taken from a library in the VM, and as much around it.
const BEYOND: usize = 128 << 20;
/// Most are no longer than this.
const SMALL: usize = 8 << 10;
/// The length.
const HEADER: usize = 4;
/// In the place of one: what is large lies in the memory that both sides have.
const LIES: u32 = 1 << 31;
/// In the place of one, and longer than any: memory is offered, comes, was taken, was not.
const OFFERED: u32 = LIES - 4;
const COMES: u32 = OFFERED + 1;
const TAKEN: u32 = COMES + 1;
const REFUSED: u32 = TAKEN + 1;

/// An end of it.
pub struct Link {
    channel: Arc<Channel>,
    /// What has come.
    come: Secret,
    filled: usize,
    asks: bool,
    /// What an answer may have.
    most: usize,
    /// What both sides have for what is large.
    memory: Option<Arc<Memory>>,
    /// It is offered with the first question that is large.
    offers: bool,
    /// What of it the last question and its answer have taken, of who asks.
    taken: [Option<Place>; 2],
}

impl Link {
    /// Of whoever is asked.
    pub fn new(channel: Channel) -> Self {
        Self {
            channel: Arc::new(channel),
            come: Zeroizing::new(vec![0; SMALL]),
            filled: 0,
            asks: false,
            most: BEYOND,
            memory: None,
            offers: false,
            taken: [None; 2],
        }
    }

    /// Of whoever asks.
    pub fn asking(channel: Channel) -> Self {
        Self {
            asks: true,
            ..Self::new(channel)
        }
    }

    /// Of whoever asks, with memory for what is large, which it overwrites.
    pub fn sharing(self) -> Self {
        Self {
            offers: true,
            ..self
        }
    }

    /// The channel.
    pub fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// Sends something, and an end of another channel with it.
    pub fn send<T: Serialize>(&mut self, what: &T, with: Option<&Channel>) -> Result<(), Broken> {
        let (mut length, mut taken) = self.measure(what)?;
        if self.offers && length >= LARGE {
            self.offer()?;
            (length, taken) = self.measure(what)?;
        }
        if self.asks {
            self.most += HEADER + length;
            if taken.is_some() {
                self.overwrite();
                self.taken[0] = taken;
            }
        } else if HEADER + length > self.most {
            return Err(Broken::TooLong);
        }
        let length_of = u32::try_from(length).map_err(|_| Broken::TooLong)?;
        let header = length_of | taken.map_or(0, |_| LIES);
        let shared = taken.and_then(|_| self.shared(self.asks));
        let sent = pieces::send(
            &self.channel,
            with.map(Channel::as_descriptor),
            &header.to_le_bytes(),
            length,
            shared,
            what,
        );
        sent.map_err(|_| Broken::Gone)
    }

    /// How much of something goes over the channel, and what of the memory it takes.
    fn measure<T: Serialize>(&self, what: &T) -> Result<(usize, Option<Place>), Broken> {
        let places = self.shared(self.asks).map(|shared| shared.places);
        match pieces::measure(what, places) {
            Ok((length, places)) if length <= LIMIT => Ok((length, places.and_then(Places::all))),
            _ => Err(Broken::TooLong),
        }
    }

    /// The memory for a question, or for an answer.
    fn shared(&self, asked: bool) -> Option<Shared> {
        let memory = self.memory.clone()?;
        let (places, believes) = (Places::of(asked), !self.asks);
        Some(Shared {
            memory,
            places,
            believes,
        })
    }

    /// Overwrites what the last question and its answer have left in the memory.
    pub fn overwrite(&mut self) {
        let taken = std::mem::take(&mut self.taken).into_iter().flatten();
        if let Some(memory) = &self.memory {
            taken.for_each(|place| memory.wipe(place));
        }
    }

    /// What is large of an answer is to be written into the memory at once.
    pub fn make_room(&self) {
        make_room(self.memory.as_ref());
    }

    /// Offers memory for what is large, once: without it that goes over the channel.
    fn offer(&mut self) -> Result<(), Broken> {
        self.offers = false;
        let Ok(offer) = Offer::new() else {
            return Ok(());
        };
        self.say(OFFERED, None)?;
        if self.hear()?.0 != OFFERED {
            return Err(Broken::Malformed);
        }
        self.say(COMES, Some(offer.as_descriptor()))?;
        let memory = match self.hear()?.0 {
            TAKEN => offer.taken().ok(),
            REFUSED => None,
            _ => return Err(Broken::Malformed),
        };
        self.memory = memory.map(Arc::new);
        self.say(self.has_memory(), None)
    }

    fn has_memory(&self) -> u32 {
        self.memory.as_ref().map_or(REFUSED, |_| TAKEN)
    }

    /// Takes memory that is offered. A descriptor comes with the word that it belongs to, which is asked for; whether it is used
    /// is for the other side to say, once both have it.
    fn take(&mut self) -> Result<(), Broken> {
        self.say(OFFERED, None)?;
        let (word, with) = self.hear()?;
        let come = with.descriptor.filter(|_| word == COMES);
        let memory = come.and_then(|come| Memory::of(&come).ok());
        self.memory = memory.map(Arc::new);
        self.say(self.has_memory(), None)?;
        if self.hear()?.0 != TAKEN {
            self.memory = None;
        }
        Ok(())
    }

    fn say(&self, word: u32, with: Option<BorrowedFd>) -> Result<(), Broken> {
        let said = self.channel.send(&word.to_le_bytes(), with);
        said.map_err(|_| Broken::Gone)
    }

    fn hear(&self) -> Result<(u32, With), Broken> {
        let mut word = [0; HEADER];
        let come = self.channel.receive_with(&mut word);
        let (count, with) = come.map_err(|_| Broken::Gone)?;
        let mut heard = some(Ok(count))?;
        while heard < HEADER {
            heard += some(self.channel.receive(&mut word[heard..]))?;
        }
        Ok((u32::from_le_bytes(word), with))
    }

    /// Whether more has come, or the end.
    pub fn has_news(&self) -> bool {
        self.filled > 0 || self.channel.has_news()
    }

    /// Takes what there is, without waiting; whether there was anything.
    pub fn peek(&mut self) -> bool {
        if self.filled > 0 {
            return true;
        }
        match self.channel.receive_now(&mut self.come) {
            Ok(Some(count)) if count > 0 => {
                self.filled = count;
                true
            }
            // The end is found by whoever receives.
            Ok(Some(_)) | Err(_) => true,
            Ok(None) => false,
        }
    }

    /// Waits for something, for so long at most; false when the time is over.
    pub fn wait(&self, limit: Duration) -> bool {
        self.filled > 0 || self.channel.wait(Some(limit)).unwrap_or(true)
    }

    /// Receives something.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<T, Broken> {
        loop {
            while self.filled < HEADER {
                let count = self.channel.receive(&mut self.come[self.filled..]);
                self.filled += some(count)?;
            }
            // Who offers memory waits for what is said to that.
            let is_offer = !self.asks && self.come[..self.filled] == OFFERED.to_le_bytes();
            if !is_offer {
                return self.rest();
            }
            self.filled = 0;
            self.take()?;
        }
    }

    /// The same with what may have come with it.
    pub fn receive_with<T: DeserializeOwned>(&mut self) -> Result<(T, With), Broken> {
        let mut with = With::default();
        if self.filled == 0 {
            let come = self.channel.receive_with(&mut self.come);
            let (count, came) = come.map_err(|_| Broken::Gone)?;
            self.filled = some(Ok(count))?;
            with = came;
        }
        Ok((self.receive()?, with))
    }

    fn rest<T: DeserializeOwned>(&mut self) -> Result<T, Broken> {
        let (length, lies) = length(&self.come, if self.asks { self.most } else { LIMIT })?;
        let mut shared = None;
        if lies {
            shared = Some(self.shared(!self.asks).ok_or(Broken::Malformed)?);
        }
        self.most = if self.asks { BEYOND } else { length + BEYOND };
        let whole = HEADER + length;
        let read = if whole <= SMALL {
            while self.filled < whole {
                let count = self.channel.receive(&mut self.come[self.filled..]);
                self.filled += some(count)?;
            }
            let come = &mut self.come[HEADER..whole];
            let read = match &mut shared {
                None => read(come),
                shared => pieces::receive(&self.channel, come, 0..length, length, shared.as_mut()),
            };
            self.come.copy_within(whole..self.filled, 0);
            self.filled -= whole;
            let left = self.filled;
            self.come[left..left + whole].zeroize();
            read
        } else {
            let come = HEADER..std::mem::take(&mut self.filled);
            pieces::receive(&self.channel, &mut self.come, come, length, shared.as_mut())
        };
        if self.asks {
            self.taken[1] = shared.and_then(|shared| shared.places.all());
        }
        read
    }
}

fn some(count: std::io::Result<usize>) -> Result<usize, Broken> {
    match count {
        Ok(0) | Err(_) => Err(Broken::Gone),
        Ok(count) => Ok(count),
    }
}

/// What a header says: how much comes, and whether some of it lies in the memory.
fn length(header: &[u8], most: usize) -> Result<(usize, bool), Broken> {
    let bytes = header.first_chunk().ok_or(Broken::Malformed)?;
    let header = u32::from_le_bytes(*bytes);
    let length = (header & !LIES) as usize;
    if length <= most {
        Ok((length, header & LIES != 0))
    } else {
        Err(Broken::Malformed)
    }
}

/// Reads what was written, all of it.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Broken> {
    begin_message();
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(Broken::Malformed),
    }
}
