//! What Elixir holds of the native side. Each destructor lets go of what it stands for.

use crate::control::Message;
use crate::inject;
use crate::instance::{Instance, SessionRequest};
use crate::lease::Inbox;
use crate::library::Library;
use crate::request::Cancel;
use crate::session::Command;
use crate::status::Status;
use crossbeam_channel::Sender;
use cryptoki_ffi::handshake::Cancelled;
use cryptoki_ffi::panics::guarded;
use rustler::{Env, LocalPid, Monitor, Resource};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// A user's hold on a library; letting go detaches it.
pub struct LibraryResource {
    /// It.
    pub library: Arc<Library>,
    /// Not given back yet.
    pub attached: AtomicBool,
}

impl LibraryResource {
    /// For one more user.
    pub fn new(library: Arc<Library>) -> Self {
        Self {
            library,
            attached: AtomicBool::new(true),
        }
    }
}

impl Drop for LibraryResource {
    fn drop(&mut self) {
        if self.attached.load(SeqCst) {
            self.library.tell(Message::Detach(None));
        }
    }
}

/// An instance.
pub struct InstanceResource(pub Arc<Instance>);

/// A session; letting go ends its thread.
pub struct SessionResource {
    /// What its thread is told.
    pub commands: Sender<Command>,
    /// What it is doing.
    pub status: Arc<Status>,
}

/// A session that serves one caller; letting go, or the caller's death, gives it back.
pub struct LeaseResource {
    /// Where its calls go.
    pub requests: Inbox<SessionRequest>,
    /// Whose session it is.
    pub instance: Arc<Instance>,
}

impl LeaseResource {
    /// Gives it back.
    pub fn release(&self) {
        self.requests.shut();
    }
}

/// A request; when its caller dies it is cancelled.
pub struct RequestResource(pub Arc<dyn Cancel>);

/// The destructor of every resource. rustler's own guard would drop the payload of a panic, which could
/// panic again.
fn let_go<T>(resource: T, last: impl FnOnce(&T)) {
    let _ = guarded(move || {
        inject::of_type::<T>("destructor");
        last(&resource);
    });
}

#[rustler::resource_impl]
impl Resource for LibraryResource {
    const IMPLEMENTS_DESTRUCTOR: bool = true;

    fn destructor(self, _env: Env<'_>) {
        let_go(self, |_| {});
    }
}
#[rustler::resource_impl]
impl Resource for InstanceResource {
    const IMPLEMENTS_DESTRUCTOR: bool = true;

    fn destructor(self, _env: Env<'_>) {
        let_go(self, |_| {});
    }
}
#[rustler::resource_impl]
impl Resource for SessionResource {
    const IMPLEMENTS_DESTRUCTOR: bool = true;

    fn destructor(self, _env: Env<'_>) {
        let_go(self, |_| {});
    }
}
#[rustler::resource_impl]
impl Resource for RequestResource {
    const IMPLEMENTS_DESTRUCTOR: bool = true;

    fn destructor(self, env: Env<'_>) {
        let_go(self, |request| {
            give_up(env, request);
        });
    }
}
#[rustler::resource_impl]
impl Resource for LeaseResource {
    const IMPLEMENTS_DOWN: bool = true;
    const IMPLEMENTS_DESTRUCTOR: bool = true;

    fn down<'a>(&'a self, _env: Env<'a>, _caller: LocalPid, _monitor: Monitor) {
        let _ = guarded(|| {
            inject::of_type::<Self>("down");
            self.release();
        });
    }

    // Should `down` have failed, its session is given back here.
    fn destructor(self, _env: Env<'_>) {
        let_go(self, Self::release);
    }
}

/// A session that runs the call of somebody who does not wait any more is overdue.
pub fn give_up(env: Env, request: &RequestResource) -> Cancelled {
    let found = request.0.cancel();
    if found == Cancelled::Running
        && let Some(session) = request.0.runner()
    {
        session.mark_overdue(env);
    }
    found
}
