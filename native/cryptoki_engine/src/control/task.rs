//! Requests that a control thread serves.

use crate::inject;
use crate::library::initialization::Initialization;
use crate::library::lanes::Task;
use crate::request::request::{Request, Served, panic_failure};
use cryptoki_ffi::failure::Result;
use cryptoki_ffi::panics::guarded;
use std::sync::Arc;

/// A task that serves a request, which has an answer whatever happens.
pub fn answered<S, J, A>(
    request: Arc<Request<J, A>>,
    serve: impl FnOnce(&mut S, &Request<J, A>) -> Served + Send + 'static,
) -> Task<S>
where
    J: Send + 'static,
    A: Send + 'static,
{
    Box::new(move |state| {
        if guarded(|| serve(state, &request)).is_none() {
            request.refuse(panic_failure());
        }
    })
}

/// The same on the control thread of a library in this process.
pub fn on_control<J, A>(
    request: Arc<Request<J, A>>,
    work: impl FnOnce(&mut Initialization, J) -> Result<A> + Send + 'static,
) -> Task<Initialization>
where
    J: Send + 'static,
    A: Send + 'static,
{
    answered(request, move |state, request| {
        inject::place("control loop");
        request.serve(None, |job| work(state, job))
    })
}
