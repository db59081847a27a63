//! What Elixir holds of the native side. Each destructor lets go of what it stands for.

use crate::inject;
use crate::owner::tell_from;
use cryptoki_engine::held::Held;
use cryptoki_engine::instance::Instance;
use cryptoki_engine::request::handshake::Cancelled;
use cryptoki_engine::request::lease::Inbox;
use cryptoki_engine::request::request::Cancel;
use cryptoki_engine::session::status::Event;
use cryptoki_engine::session::told::SessionRequest;
use cryptoki_engine::session_thread::Reach;
use cryptoki_ffi::failure::Failure;
use cryptoki_ffi::panics::guarded;
use cryptoki_ffi::values::{Secret, wipe};
use rustler::{Env, LocalPid, Monitor, Resource};
use std::sync::{Arc, OnceLock};

/// A user's hold on a library; letting go gives it back.
pub struct LibraryResource(pub Held);

/// An instance.
pub struct InstanceResource(pub Arc<Instance>);

/// A session; letting go ends its thread.
pub struct SessionResource(pub Reach);

/// A session that serves one caller; letting go, or the caller's death, gives it back.
pub struct LeaseResource {
    /// Where its calls go.
    pub requests: Inbox<SessionRequest>,
    /// Why it has ended.
    pub why: Arc<OnceLock<Failure>>,
    /// Whose session it is.
    pub instance: Arc<Instance>,
}

/// Bytes that a binary of the VM is made of.
pub enum BytesResource {
    /// Everybody may see them.
    Open(Vec<u8>),
    /// They are overwritten when nobody has them any more.
    Secret(Secret),
}

impl BytesResource {
    /// Them.
    pub fn bytes(&self) -> &[u8] {
        match self {
            BytesResource::Open(bytes) => bytes,
            BytesResource::Secret(bytes) => bytes,
        }
    }
}

impl Drop for BytesResource {
    fn drop(&mut self) {
        if let BytesResource::Secret(bytes) = self {
            wipe(std::mem::take(bytes));
        }
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

/// Resources that need no more than to be dropped.
macro_rules! let_go {
    ($($resource:ident)*) => {$(
        #[rustler::resource_impl]
        impl Resource for $resource {
            const IMPLEMENTS_DESTRUCTOR: bool = true;

            fn destructor(self, _env: Env<'_>) {
                let_go(self, |_| {});
            }
        }
    )*};
}

let_go!(LibraryResource InstanceResource SessionResource BytesResource);

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
            self.requests.shut();
        });
    }

    // Should `down` have failed, its session is given back here.
    fn destructor(self, _env: Env<'_>) {
        let_go(self, |lease| lease.requests.shut());
    }
}

/// A session that runs the call of somebody who does not wait any more is overdue.
pub fn give_up(env: Env, request: &RequestResource) -> Cancelled {
    let found = request.0.cancel();
    if found == Cancelled::Running
        && let Some(session) = request.0.runner()
        && session.mark_overdue()
    {
        tell_from(env, &session, Event::Overdue);
    }
    found
}
