//! What a process does to itself before it loads a library of strangers, and how another one sees it end.

use crate::channel::Channel;
use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

/// No core is written and nobody attaches: what is in memory are PINs and keys.
pub fn keep_memory_private() {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: sets a limit of this process.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: sets a flag of this process.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
}

/// Whoever stops a whole group of processes, as service managers do, leaves this one to whoever has started it.
pub fn outlive_what_stops_a_group() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: sets that nothing is done with a signal.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Bounds the memory that this process can have; may be called again with another bound.
pub fn limit_memory(bytes: u64) -> Result<()> {
    // What may be written to, on Linux: address space alone costs nothing. The stack of a thread counts as a whole, however
    // little of it is used.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let which = libc::RLIMIT_DATA;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let which = libc::RLIMIT_AS;
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes there.
    if unsafe { libc::getrlimit(which, &raw mut limit) } != 0 {
        return Err(Error::last_os_error());
    }
    // Whoever has started the VM may allow less.
    limit.rlim_cur = (bytes as libc::rlim_t).min(limit.rlim_max);
    // SAFETY: sets a limit of this process.
    match unsafe { libc::setrlimit(which, &raw const limit) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// Closes what was inherited, from that descriptor on. Before anything is opened: whoever owned one would not know.
pub fn close_descriptors_from(first: i32) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: nobody in this process has opened any of them.
    if unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } == 0 {
        return;
    }
    // A kernel, or a filter of system calls, that does not know it: what there is, or what there may be.
    let open = ["/proc/self/fd", "/dev/fd"].into_iter().find_map(open_in);
    let open = open.unwrap_or_else(|| {
        // SAFETY: asks for a number.
        let most = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
        (0..i32::try_from(most).unwrap_or(1024).clamp(256, 65_536)).collect()
    });
    for descriptor in open {
        if descriptor >= first {
            // SAFETY: as above.
            unsafe { libc::close(descriptor) };
        }
    }
}

/// The numbers in a folder of descriptors; none: it does not show them.
fn open_in(folder: &str) -> Option<Vec<i32>> {
    let names = std::fs::read_dir(folder).ok()?.flatten();
    let numbers = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Some(numbers.collect()).filter(|numbers: &Vec<i32>| !numbers.is_empty())
}

/// The channel that was handed over as one of the standard descriptors, in the place of which there is nothing from now on.
fn take(descriptor: BorrowedFd) -> Result<Channel> {
    let taken = descriptor.try_clone_to_owned()?;
    let nothing = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    // SAFETY: both are descriptors; whoever reads from the second one finds nothing.
    if unsafe { libc::dup2(nothing.as_raw_fd(), descriptor.as_raw_fd()) } < 0 {
        return Err(Error::last_os_error());
    }
    Ok(Channel::from_owned(taken))
}

/// The standard input and the standard output, where they are channels.
pub fn take_standard_channels() -> Result<(Channel, Channel)> {
    Ok((
        take(std::io::stdin().as_fd())?,
        take(std::io::stdout().as_fd())?,
    ))
}

/// Which of two processes it is.
pub enum Fork {
    /// The one that was there; the number of the other one.
    Parent(u32),
    /// The new one, which does not outlive the other.
    Child,
}

/// Makes this process two. To be called before there are threads: of them there is one in the new process.
pub fn fork() -> Result<Fork> {
    // Whoever has started us may have set that nobody learns how a child ends.
    // SAFETY: sets what is done with a signal to what it is at first.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let parent = std::process::id();
    // SAFETY: there is one thread, which holds no lock.
    match unsafe { libc::fork() } {
        -1 => Err(Error::last_os_error()),
        0 => {
            die_with(parent);
            Ok(Fork::Child)
        }
        child => Ok(Fork::Parent(child.cast_unsigned())),
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn die_with(parent: u32) {
    // SAFETY: sets a number of this process, and asks for another one.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        // It may have ended before.
        if libc::getppid().cast_unsigned() != parent {
            libc::_exit(1);
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn die_with(_parent: u32) {}

/// Ends the process at once: no destructor runs, of a library neither.
pub fn leave(status: i32) -> ! {
    // SAFETY: does not come back.
    unsafe { libc::_exit(status) }
}

/// How a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Exit(i32),
    /// By a signal.
    Signal(i32),
    /// Somebody else has learned it.
    Unknown,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Exit(status) => write!(to, "ended with status {status}"),
            Ended::Signal(signal) => match name(*signal) {
                Some(name) => write!(to, "was ended by {name}"),
                None => write!(to, "was ended by signal {signal}"),
            },
            Ended::Unknown => write!(to, "has ended"),
        }
    }
}

impl Ended {
    /// As a few bytes, for another process.
    pub fn bytes(self) -> [u8; 5] {
        let (kind, number) = match self {
            Ended::Exit(status) => (1, status),
            Ended::Signal(signal) => (2, signal),
            Ended::Unknown => (0, 0),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [kind, a, b, c, d]
    }

    /// Of those bytes.
    pub fn of(bytes: [u8; 5]) -> Self {
        let [kind, a, b, c, d] = bytes;
        let number = i32::from_le_bytes([a, b, c, d]);
        match kind {
            1 => Ended::Exit(number),
            2 => Ended::Signal(number),
            _ => Ended::Unknown,
        }
    }
}

fn name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGTERM => "SIGTERM",
        libc::SIGINT => "SIGINT",
        libc::SIGHUP => "SIGHUP",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGXCPU => "SIGXCPU",
        _ => return None,
    })
}

/// The user that this process was started by.
pub fn user() -> u32 {
    // SAFETY: asks for a number.
    unsafe { libc::getuid() }
}

/// The group that a process is in, unless it has ended and was reaped.
pub fn group(process: u32) -> Option<u32> {
    // SAFETY: asks for a number.
    let group = unsafe { libc::getpgid(process as libc::pid_t) };
    u32::try_from(group).ok()
}

/// Waits for the end of a child, which stays to be reaped: its number is nobody else's until then.
pub fn wait_for(child: u32) {
    loop {
        // SAFETY: zero is a value of it; the kernel writes there.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let flags = libc::WEXITED | libc::WNOWAIT;
        // SAFETY: asks for a child of ours.
        let answer = unsafe { libc::waitid(libc::P_PID, child, &raw mut info, flags) };
        if answer == 0 || Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return;
        }
    }
}

/// Reaps a child that has ended.
pub fn reap(child: u32) -> Ended {
    let mut status = 0;
    for _ in 0..100 {
        // SAFETY: asks for a child of ours, which has ended.
        let found = unsafe { libc::waitpid(child as libc::pid_t, &raw mut status, libc::WNOHANG) };
        if found > 0 {
            return if libc::WIFEXITED(status) {
                Ended::Exit(libc::WEXITSTATUS(status))
            } else {
                Ended::Signal(libc::WTERMSIG(status))
            };
        }
        if found < 0 && Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return Ended::Unknown;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ended::Unknown
}

/// Ends a child that was not reaped.
pub fn kill(child: u32) {
    // SAFETY: sends a signal.
    unsafe { libc::kill(child as libc::pid_t, libc::SIGKILL) };
}

/// Ends what is left of the group that a child of ours leads. The number is the group's as long as the child was not reaped,
/// or another one is in it: where the kernel reaps, as for a VM, it may be somebody else's once all have ended.
pub fn kill_group(leader: u32) {
    // SAFETY: sends a signal.
    unsafe { libc::kill(-(leader as libc::pid_t), libc::SIGKILL) };
}

/// Ends the group of this process with it, if it leads one: else there are others in it that are none of ours.
pub fn kill_own_group() {
    let leads = {
        // SAFETY: asks for numbers.
        unsafe { libc::getpgrp() == libc::getpid() }
    };
    if leads {
        // SAFETY: sends a signal.
        unsafe { libc::kill(0, libc::SIGKILL) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn ended(script: &str) -> String {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn();
        let child = child.unwrap().id();
        wait_for(child);
        reap(child).to_string()
    }

    #[test]
    fn how_a_child_has_ended_is_a_sentence() {
        assert_eq!(ended("exit 3"), "ended with status 3");
        assert_eq!(ended("kill -SEGV $$"), "was ended by SIGSEGV");
        assert_eq!(
            ended("kill -WINCH $$; kill -USR1 $$"),
            "was ended by signal 10"
        );
    }

    #[test]
    fn a_child_that_is_killed_has_ended() {
        let child = Command::new("/bin/sleep").arg("60").spawn().unwrap().id();
        kill(child);
        wait_for(child);
        assert_eq!(reap(child), Ended::Signal(libc::SIGKILL));
        assert_eq!(reap(child), Ended::Unknown);
    }
}
