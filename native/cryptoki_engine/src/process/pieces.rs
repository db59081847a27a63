//! A message whose bytes are many, on its way: they are sent from where they are, and received where they stay, or lie in
//! memory that both sides have. Where in it both reckon from the lengths: no place is told.

use cryptoki_ffi::channel::Channel;
use cryptoki_ffi::shared::{Lent, Memory, Place, Places};
use cryptoki_ffi::values::{Secret, wipe};
use cryptoki_ffi::wire::{LARGE, begin_message, hand_over, is_wanted, lend};
use postcard::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// Memory for more is taken as it comes: what is announced may not come. Most of the large ones have a mebibyte of data.
const STEP: usize = 2 << 20;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The other side is gone.
    Gone,
    /// It sends what cannot be read.
    Malformed,
    /// What is to be sent is too long.
    TooLong,
    /// What has come is more than there is memory for. It was received, and is gone; what comes next is not.
    NoRoom,
}

/// The memory that both sides have, as one message uses it.
pub struct Shared {
    /// It.
    pub memory: Arc<Memory>,
    /// What of it is used.
    pub places: Places,
    /// Whether the other side is believed: what is large is used where it lies, in place of a copy.
    pub believes: bool,
}

/// How many bytes of something go over the channel, and what of the memory it takes.
pub fn measure<T: Serialize>(
    what: &T,
    places: Option<Places>,
) -> postcard::Result<(usize, Option<Places>)> {
    postcard::serialize_with_flavor(what, Measured { length: 0, places })
}

struct Measured {
    length: usize,
    places: Option<Places>,
}

impl postcard::ser_flavors::Flavor for Measured {
    type Output = (usize, Option<Places>);

    fn try_push(&mut self, _byte: u8) -> postcard::Result<()> {
        self.length += 1;
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        let places = self.places.as_mut();
        if places.and_then(|places| places.next(bytes.len())).is_none() {
            self.length += bytes.len();
        }
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Self::Output> {
        Ok((self.length, self.places))
    }
}

/// Sends something of so many bytes behind its header: what is small is put together, what is large goes by itself, or lies
/// in the memory before it is spoken of.
pub fn send<T: Serialize>(
    channel: &Channel,
    with: Option<BorrowedFd>,
    header: &[u8],
    length: usize,
    shared: Option<Shared>,
    what: &T,
) -> postcard::Result<()> {
    let room = LARGE.min(header.len() + length);
    let mut together = Zeroizing::new(Vec::with_capacity(room));
    together.extend_from_slice(header);
    postcard::serialize_with_flavor(
        what,
        Outgoing {
            channel,
            with,
            together,
            shared,
        },
    )
}

struct Outgoing<'c> {
    channel: &'c Channel,
    with: Option<BorrowedFd<'c>>,
    /// No more than its first room, which is never moved.
    together: Secret,
    shared: Option<Shared>,
}

impl Outgoing<'_> {
    /// What was put together goes.
    fn flush(&mut self) -> postcard::Result<()> {
        if !self.together.is_empty() {
            let sent = self.channel.send(&self.together, self.with.take());
            self.together.clear();
            self.together.zeroize();
            sent.map_err(|_| Error::SerializeBufferFull)?;
        }
        Ok(())
    }
}

impl postcard::ser_flavors::Flavor for Outgoing<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if let Some(shared) = &mut self.shared
            && let Some(place) = shared.places.next(bytes.len())
        {
            shared.memory.write(place, bytes);
            return Ok(());
        }
        if self.together.len() + bytes.len() > LARGE {
            self.flush()?;
        }
        if bytes.len() >= LARGE {
            let sent = self.channel.send(bytes, self.with.take());
            return sent.map_err(|_| Error::SerializeBufferFull);
        }
        self.together.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(mut self) -> postcard::Result<()> {
        self.flush()
    }
}

/// What a message of `length` bytes stands for, of which `come` is the beginning. The room of `come` is used for the rest of
/// it, and overwritten.
pub fn receive<T: DeserializeOwned>(
    channel: &Channel,
    room: &mut [u8],
    come: std::ops::Range<usize>,
    length: usize,
    shared: Option<&mut Shared>,
) -> Result<T, Broken> {
    begin_message();
    let mut broken = None;
    let incoming = Incoming {
        channel,
        room,
        come,
        left: length,
        broken: &mut broken,
        last: Secret::default(),
        shared,
    };
    let mut reader = postcard::Deserializer::from_flavor(incoming);
    let value = T::deserialize(&mut reader);
    let left = reader.finalize();
    match (value, left, broken) {
        (Ok(value), Ok(0), None) => Ok(value),
        (_, _, broken) => Err(broken.unwrap_or(Broken::Malformed)),
    }
}

struct Incoming<'l> {
    channel: &'l Channel,
    room: &'l mut [u8],
    /// What of the room has come and was not read yet.
    come: std::ops::Range<usize>,
    /// What of the message was not read yet.
    left: usize,
    /// Why no more can be read.
    broken: &'l mut Option<Broken>,
    /// What was read last, when it was too much for the room.
    last: Secret,
    shared: Option<&'l mut Shared>,
}

impl Incoming<'_> {
    /// So many at least have come, and lie behind each other.
    fn fill(&mut self, count: usize) -> postcard::Result<()> {
        if self.come.len() >= count {
            return Ok(());
        }
        self.room.copy_within(self.come.clone(), 0);
        self.come = 0..self.come.len();
        // No more than this message has.
        let most = self.room.len().min(self.left);
        while self.come.end < count {
            let count = self.channel.receive(&mut self.room[self.come.end..most]);
            self.come.end += self.some(count)?;
        }
        Ok(())
    }

    /// Where so much of what has come lies, or all of it: it was read.
    fn come(&mut self, most: usize) -> std::ops::Range<usize> {
        let end = self.come.end.min(self.come.start + most);
        let taken = self.come.start..end;
        self.come.start = end;
        taken
    }

    fn some(&mut self, count: std::io::Result<usize>) -> postcard::Result<usize> {
        match count {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(self.breaks(Broken::Gone)),
        }
    }

    fn breaks(&mut self, how: Broken) -> Error {
        self.broken.get_or_insert(how);
        Error::DeserializeUnexpectedEnd
    }

    /// The rest of the message, of which so many bytes are left, comes and is gone.
    fn discard(&mut self, mut left: usize) -> postcard::Result<()> {
        let come = self.come(left);
        left -= come.len();
        while left > 0 {
            let most = left.min(self.room.len());
            let count = self.channel.receive(&mut self.room[..most]);
            left -= self.some(count)?;
        }
        Ok(())
    }

    /// What lies in the memory, for whoever wants it.
    fn lying(&mut self, place: Place) -> postcard::Result<()> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        if shared.believes && is_wanted() {
            lend(Lent::of(&shared.memory, place));
            return Ok(());
        }
        let mut piece = Secret::default();
        if !grow(&mut piece, place.length()) {
            self.discard(self.left)?;
            return Err(self.breaks(Broken::NoRoom));
        }
        shared.memory.read(place, &mut piece);
        self.keep(piece);
        Ok(())
    }

    /// For whoever wants it, or to be looked at.
    fn keep(&mut self, piece: Secret) {
        if is_wanted() {
            hand_over(piece);
        } else {
            wipe(std::mem::replace(&mut self.last, piece));
        }
    }

    /// So many, where they stay.
    fn piece(&mut self, length: usize) -> postcard::Result<Secret> {
        let mut piece = Secret::default();
        while piece.len() < length {
            let next = (length - piece.len()).min(piece.len().max(STEP));
            if !grow(&mut piece, next) {
                self.discard(length - piece.len() + self.left)?;
                return Err(self.breaks(Broken::NoRoom));
            }
            let enough = piece.len() + next;
            let come = self.come(next);
            piece.extend_from_slice(&self.room[come.clone()]);
            self.room[come].zeroize();
            while piece.len() < enough {
                let more = enough - piece.len();
                let count = self.channel.receive_more(&mut piece, more);
                self.some(count)?;
            }
        }
        Ok(piece)
    }
}

impl<'l> postcard::de_flavors::Flavor<'l> for Incoming<'l> {
    type Remainder = usize;
    type Source = ();

    fn pop(&mut self) -> postcard::Result<u8> {
        self.try_take_n_temp(1).map(|byte| byte[0])
    }

    /// Nothing here is borrowed from a message.
    fn try_take_n(&mut self, _count: usize) -> postcard::Result<&'l [u8]> {
        Err(Error::WontImplement)
    }

    fn try_take_n_temp<'a>(&'a mut self, count: usize) -> postcard::Result<&'a [u8]>
    where
        'l: 'a,
    {
        let shared = self.shared.as_mut();
        if let Some(place) = shared.and_then(|shared| shared.places.next(count)) {
            self.lying(place)?;
            return Ok(&self.last);
        }
        let left = self.left.checked_sub(count);
        let left = left.ok_or(Error::DeserializeUnexpectedEnd)?;
        if count <= self.room.len() {
            self.fill(count)?;
            self.left = left;
            let come = self.come(count);
            return Ok(&self.room[come]);
        }
        self.left = left;
        let piece = self.piece(count)?;
        self.keep(piece);
        Ok(&self.last)
    }

    fn finalize(self) -> postcard::Result<usize> {
        wipe(self.last);
        self.room.zeroize();
        Ok(self.left)
    }
}

/// Room for more, where there is any; what is copied on the way is overwritten where it was.
fn grow(piece: &mut Secret, by: usize) -> bool {
    if piece.capacity() - piece.len() >= by {
        return true;
    }
    let mut larger = Vec::new();
    let there_is = larger.try_reserve_exact(piece.len() + by).is_ok();
    if there_is {
        larger.extend_from_slice(piece);
        wipe(std::mem::replace(piece, Zeroizing::new(larger)));
    }
    there_is
}
