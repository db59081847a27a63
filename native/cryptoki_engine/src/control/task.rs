//! Requests that the control thread serves.

use crate::inject;
use crate::library::initialization::Initialization;
use crate::library::lanes::Task;
use crate::request::request::{Request, panic_failure};
use cryptoki_ffi::failure::Result;
use cryptoki_ffi::panics::guarded;
use std::sync::Arc;

/// A task that serves a request on the control thread, which has an answer whatever happens.
pub fn on_control<J, A>(
    request: Arc<Request<J, A>>,
    work: impl FnOnce(&mut Initialization, J) -> Result<A> + Send + 'static,
) -> Task<Initialization>
where
    J: Send + 'static,
    A: Send + 'static,
{
    Box::new(move |state| {
        let served = guarded(|| {
            inject::place("control loop");
            request.serve(None, |job| work(state, job))
        });
        if served.is_none() {
            request.refuse(panic_failure());
        }
    })
}
