//! A connection on which one side asks and the other answers. What comes is bounded, and overwritten when it was read.

pub use crate::process::pieces::Broken;

use crate::process::pieces;
use cryptoki_ffi::channel::{Channel, With};
use cryptoki_ffi::values::Secret;
use cryptoki_ffi::wire::begin_message;
use postcard::ser_flavors::Size;
use serde::Serialize;
use serde::de::DeserializeOwned;
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

/// An end of it.
pub struct Link {
    channel: Arc<Channel>,
    /// What has come.
    come: Secret,
    filled: usize,
    asks: bool,
    /// What an answer may have.
    most: usize,
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
        }
    }

    /// Of whoever asks.
    pub fn asking(channel: Channel) -> Self {
        Self {
            asks: true,
            ..Self::new(channel)
        }
    }

    /// The channel.
    pub fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// Sends something, and an end of another channel with it.
    pub fn send<T: Serialize>(&mut self, what: &T, with: Option<&Channel>) -> Result<(), Broken> {
        let header = header(what)?;
        let length = u32::from_le_bytes(header) as usize;
        if self.asks {
            self.most += HEADER + length;
        } else if HEADER + length > self.most {
            return Err(Broken::TooLong);
        }
        let descriptor = with.map(Channel::as_descriptor);
        let sent = pieces::send(&self.channel, descriptor, &header, length, what);
        sent.map_err(|_| Broken::Gone)
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
        while self.filled < HEADER {
            let count = self.channel.receive(&mut self.come[self.filled..]);
            self.filled += some(count)?;
        }
        self.rest()
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
        let length = length(&self.come, if self.asks { self.most } else { LIMIT })?;
        self.most = if self.asks { BEYOND } else { length + BEYOND };
        let whole = HEADER + length;
        if whole <= SMALL {
            while self.filled < whole {
                let count = self.channel.receive(&mut self.come[self.filled..]);
                self.filled += some(count)?;
            }
            let read = read(&self.come[HEADER..whole]);
            self.come.copy_within(whole..self.filled, 0);
            self.filled -= whole;
            let left = self.filled;
            self.come[left..left + whole].zeroize();
            return read;
        }
        let come = HEADER..std::mem::take(&mut self.filled);
        begin_message();
        pieces::receive(&self.channel, &mut self.come, come, length)
    }
}

fn some(count: std::io::Result<usize>) -> Result<usize, Broken> {
    match count {
        Ok(0) | Err(_) => Err(Broken::Gone),
        Ok(count) => Ok(count),
    }
}

fn length(header: &[u8], most: usize) -> Result<usize, Broken> {
    let bytes = header.first_chunk().ok_or(Broken::Malformed)?;
    let length = u32::from_le_bytes(*bytes) as usize;
    if length <= most {
        Ok(length)
    } else {
        Err(Broken::Malformed)
    }
}

/// What stands before something when it is sent: its length.
fn header<T: Serialize>(what: &T) -> Result<[u8; HEADER], Broken> {
    let size = postcard::serialize_with_flavor(what, Size::default());
    let size = size.ok().filter(|size| *size <= LIMIT);
    let length = size.and_then(|size| u32::try_from(size).ok());
    length.map(u32::to_le_bytes).ok_or(Broken::TooLong)
}

/// Reads what was written, all of it.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Broken> {
    begin_message();
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(Broken::Malformed),
    }
}
