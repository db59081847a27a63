//! One end of a pair of sockets between two processes, over which descriptors travel, too. It has no name that anybody
//! else could find.

use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// What is asked of the kernel for each direction: a large answer is then few turns.
static BUFFER: libc::c_int = 512 << 10;

/// Room for one descriptor and a sender with their headers, aligned as a header is.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Whether the kernel says who sends.
pub const SENDERS_ARE_TOLD: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// A process that has sent something, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its number.
    pub process: u32,
    /// The number of its user.
    pub user: u32,
}

/// What has come with a message.
#[derive(Debug, Default)]
pub struct With {
    /// A descriptor.
    pub descriptor: Option<OwnedFd>,
    /// Who has sent it, where [`Channel::ask_who_sends`] has asked for it and the kernel says it.
    pub sender: Option<Sender>,
}

/// An end.
pub struct Channel(OwnedFd);

impl Channel {
    /// Two ends, neither of which a program inherits that is started meanwhile.
    pub fn pair() -> Result<(Self, Self)> {
        let (one, other) = UnixStream::pair()?;
        let (one, other) = (Self(one.into()), Self(other.into()));
        for end in [&one, &other] {
            end.widen();
        }
        Ok((one, other))
    }

    /// An end that was handed over.
    pub fn from_owned(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// For handing it over to a program that is started.
    pub fn into_owned(self) -> OwnedFd {
        self.0
    }

    fn widen(&self) {
        for which in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
            self.set(which, &BUFFER);
        }
    }

    /// It is a wish, which may not be granted.
    fn set(&self, which: libc::c_int, value: &libc::c_int) {
        // SAFETY: an integer of the size that is told.
        unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                which,
                (&raw const *value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
    }

    /// Sends all of it, and a descriptor with its first byte.
    pub fn send(&self, bytes: &[u8], descriptor: Option<BorrowedFd>) -> Result<()> {
        let mut sent = self.send_some(bytes, descriptor)?;
        while sent < bytes.len() {
            sent += self.send_some(&bytes[sent..], None)?;
        }
        Ok(())
    }

    fn send_some(&self, bytes: &[u8], descriptor: Option<BorrowedFd>) -> Result<usize> {
        let mut part = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let mut control = Control([0; 64]);
        // SAFETY: all of it is numbers and pointers, for which zero is a value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if let Some(descriptor) = descriptor {
            message.msg_control = control.0.as_mut_ptr().cast();
            // SAFETY: both only reckon with a size.
            let (space, length) = unsafe {
                let size = size_of::<libc::c_int>() as libc::c_uint;
                (libc::CMSG_SPACE(size), libc::CMSG_LEN(size))
            };
            message.msg_controllen = space as _;
            // SAFETY: the room for the header is there, aligned, and larger than what is written.
            unsafe {
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                (*header).cmsg_level = libc::SOL_SOCKET;
                (*header).cmsg_type = libc::SCM_RIGHTS;
                (*header).cmsg_len = length as _;
                let at = libc::CMSG_DATA(header).cast::<libc::c_int>();
                at.write_unaligned(descriptor.as_raw_fd());
            }
        }
        // SAFETY: what the message points to is there until the call is over.
        counted(|| unsafe {
            libc::sendmsg(self.0.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
        })
    }

    /// Receives what there is, up to the size of the room: zero is the end. Waits for it.
    pub fn receive(&self, room: &mut [u8]) -> Result<usize> {
        self.receive_some(room, 0)
    }

    /// The same without waiting; none: there is nothing yet.
    pub fn receive_now(&self, room: &mut [u8]) -> Result<Option<usize>> {
        match self.receive_some(room, libc::MSG_DONTWAIT) {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Receives so much at most behind what is there, where the vector has room for it. Waits for it.
    pub fn receive_more(&self, bytes: &mut Vec<u8>, most: usize) -> Result<usize> {
        let room = bytes.spare_capacity_mut();
        let most = most.min(room.len());
        // SAFETY: the spare room is as large as is told, and is only written to.
        let count = counted(|| unsafe {
            libc::recv(self.0.as_raw_fd(), room.as_mut_ptr().cast(), most, 0)
        })?;
        // SAFETY: so many bytes behind the others were written just now.
        unsafe { bytes.set_len(bytes.len() + count) };
        Ok(count)
    }

    fn receive_some(&self, room: &mut [u8], flags: libc::c_int) -> Result<usize> {
        // SAFETY: the room is as large as is told.
        counted(|| unsafe {
            let at = room.as_mut_ptr().cast();
            libc::recv(self.0.as_raw_fd(), at, room.len(), flags)
        })
    }

    /// Has the kernel say of each message from now on who sends it; systems without that say nothing.
    pub fn ask_who_sends(&self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        self.set(libc::SO_PASSCRED, &1);
    }

    /// Receives one byte or more, and what came with the first.
    pub fn receive_with(&self, room: &mut [u8]) -> Result<(usize, With)> {
        let mut part = libc::iovec {
            iov_base: room.as_mut_ptr().cast(),
            iov_len: room.len(),
        };
        let mut control = Control([0; 64]);
        // SAFETY: as in `send_some`.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len() as _;
        // SAFETY: what the message points to is there until the call is over.
        let count = counted(|| unsafe {
            libc::recvmsg(self.0.as_raw_fd(), &raw mut message, CLOSE_ON_EXEC)
        })?;
        let mut received = With::default();
        // SAFETY: walks the headers that the kernel has written into the room.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(&raw const message);
            while !header.is_null() {
                if (*header).cmsg_level == libc::SOL_SOCKET
                    && (*header).cmsg_type == libc::SCM_RIGHTS
                {
                    let size = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                    let at = libc::CMSG_DATA(header).cast::<libc::c_int>();
                    for index in 0..size / size_of::<libc::c_int>() {
                        // Ours from here on, and closed when it is dropped: also one that nobody has announced.
                        let descriptor = OwnedFd::from_raw_fd(at.add(index).read_unaligned());
                        received.descriptor.get_or_insert(descriptor);
                    }
                }
                #[cfg(any(target_os = "linux", target_os = "android"))]
                if (*header).cmsg_level == libc::SOL_SOCKET
                    && (*header).cmsg_type == libc::SCM_CREDENTIALS
                {
                    let at = libc::CMSG_DATA(header).cast::<libc::ucred>();
                    let sender = at.read_unaligned();
                    received.sender = Some(Sender {
                        process: sender.pid.cast_unsigned(),
                        user: sender.uid,
                    });
                }
                header = libc::CMSG_NXTHDR(&raw const message, header);
            }
        }
        Ok((count, received))
    }

    /// Waits until there is something to receive, or the end; false when the time is over.
    pub fn wait(&self, limit: Option<Duration>) -> Result<bool> {
        poll([self], milliseconds(limit))
    }

    /// The same on one of two.
    pub fn wait_for_either(&self, other: &Self, limit: Option<Duration>) -> Result<bool> {
        poll([self, other], milliseconds(limit))
    }

    /// Whether there is something to receive, or the end.
    pub fn has_news(&self) -> bool {
        poll([self], 0).unwrap_or(true)
    }

    /// Ends it in both directions: whoever waits on either side is woken.
    pub fn end(&self) {
        // SAFETY: the descriptor is ours.
        unsafe { libc::shutdown(self.0.as_raw_fd(), libc::SHUT_RDWR) };
    }

    /// To be handed over with [`Channel::send`].
    pub fn as_descriptor(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.0)
    }
}

/// Without a limit for as long as it takes.
fn milliseconds(limit: Option<Duration>) -> libc::c_int {
    limit.map_or(-1, |limit| {
        i32::try_from(limit.as_millis().max(1)).unwrap_or(i32::MAX)
    })
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOSE_ON_EXEC: libc::c_int = libc::MSG_CMSG_CLOEXEC;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOSE_ON_EXEC: libc::c_int = 0;

/// Whether one of them has something to receive, or the end.
fn poll<const N: usize>(ends: [&Channel; N], milliseconds: libc::c_int) -> Result<bool> {
    let mut descriptors = ends.map(|end| libc::pollfd {
        fd: end.0.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    // SAFETY: as many descriptors as is told.
    let ready =
        counted(|| unsafe { libc::poll(descriptors.as_mut_ptr(), N as _, milliseconds) as isize });
    ready.map(|ready| ready > 0)
}

/// What a call has counted, made again when a signal interrupts it.
fn counted(mut call: impl FnMut() -> isize) -> Result<usize> {
    loop {
        if let Ok(count) = usize::try_from(call()) {
            return Ok(count);
        }
        let error = Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_arrives_and_a_descriptor_with_it() {
        let (one, other) = Channel::pair().unwrap();
        assert!(!other.has_news() && other.receive_now(&mut [0]).unwrap().is_none());
        let (sent, kept) = Channel::pair().unwrap();
        one.send(b"ab", Some(sent.as_descriptor())).unwrap();
        drop(sent);
        assert!(other.has_news());
        let mut room = [0; 8];
        let (count, with) = other.receive_with(&mut room).unwrap();
        assert_eq!((&room[..count], with.sender), (&b"ab"[..], None));
        let sent = Channel::from_owned(with.descriptor.unwrap());
        sent.send(b"c", None).unwrap();
        assert_eq!(kept.receive(&mut room).unwrap(), 1);
        drop(one);
        assert_eq!(other.receive(&mut room).unwrap(), 0);
        assert!(other.wait(None).unwrap() && other.send(b"d", None).is_err());
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn the_kernel_says_who_sends() {
        let (one, other) = Channel::pair().unwrap();
        one.ask_who_sends();
        let child = std::process::Command::new("/bin/echo")
            .stdout(std::process::Stdio::from(other.into_owned()))
            .spawn();
        let (count, with) = one.receive_with(&mut [0; 8]).unwrap();
        assert_eq!((count, with.descriptor.is_none()), (1, true));
        let mut child = child.unwrap();
        let sender = Sender {
            process: child.id(),
            user: crate::process::user(),
        };
        assert_eq!(with.sender, Some(sender));
        child.wait().unwrap();
    }

    #[test]
    fn whoever_waits_is_woken_by_the_end() {
        let (one, _other) = Channel::pair().unwrap();
        assert!(!one.wait(Some(Duration::from_millis(1))).unwrap());
        let one = std::sync::Arc::new(one);
        let held = one.clone();
        let waiting = std::thread::spawn(move || held.receive(&mut [0]).unwrap());
        one.end();
        assert_eq!(waiting.join().unwrap(), 0);
    }

    #[test]
    fn whoever_waits_for_two_is_woken_by_either() {
        let ((one, other), (quiet, _kept)) = (Channel::pair().unwrap(), Channel::pair().unwrap());
        other.send(b"a", None).unwrap();
        assert!(one.wait_for_either(&quiet, None).unwrap());
        assert!(quiet.wait_for_either(&one, None).unwrap());
        let moment = Some(Duration::from_millis(1));
        assert!(!quiet.wait_for_either(&quiet, moment).unwrap());
        assert!(one.has_news() && !quiet.has_news());
    }
}
