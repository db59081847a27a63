//! What every NIF begins and ends with: arguments that are read, and a request that somebody will answer.

use crate::delivery::Caller;
use crate::encode::{Encode, encode};
use crate::failures::error;
use crate::inject;
use crate::resources::RequestResource;
use crate::terms;
use cryptoki_engine::operation::read::Argument;
use cryptoki_engine::place::Place;
use cryptoki_engine::process::wire::{Notice, Noticed};
use cryptoki_engine::request::request::Request;
use cryptoki_ffi::failure::Result;
use rustler::{Encoder, Env, Resource, ResourceArc, Term};
use std::sync::Arc;

mod atoms {
    rustler::atoms! { ok, answered }
}

/// A resource of that type.
pub fn resource<T: Resource>(term: Term<'_>) -> Option<ResourceArc<T>> {
    inject::in_nif("decoding");
    term.decode().ok()
}

/// An argument of an operation.
pub fn read<A: Argument>(term: Term<'_>) -> Option<A> {
    A::read(terms::Term(term))
}

/// Makes a request of the calling process and hands it over.
pub fn ask<'a, J, A>(
    env: Env<'a>,
    reference: Term<'a>,
    job: J,
    hand: impl FnOnce(Arc<Request<J, A>>) -> Result<()>,
) -> Term<'a>
where
    J: Send + 'static,
    A: Encode + Send + 'static,
{
    let request = Request::new(job, Caller::of(env, reference), None);
    asked(env, hand(request.clone()), request)
}

/// `{:ok, request}`, or why it was not taken.
pub fn asked<'a, J, A>(env: Env<'a>, outcome: Result<()>, request: Arc<Request<J, A>>) -> Term<'a>
where
    J: Send + 'static,
    A: Send + 'static,
{
    match outcome {
        Ok(()) => (atoms::ok(), ResourceArc::new(RequestResource(request))).encode(env),
        Err(failure) => error(env, &failure),
    }
}

/// What takes no time is answered at once, or by the process of the library.
pub fn noticed<'a>(env: Env<'a>, reference: Term<'a>, place: &Place, notice: Notice) -> Term<'a> {
    if let Some(noticed) = place.notice(&notice) {
        return (atoms::answered(), encode(env, Ok(noticed)), (0, 0)).encode(env);
    }
    ask(env, reference, (), |request: Arc<Request<(), Noticed>>| {
        place.ask(
            notice,
            Box::new(move |noticed| {
                request.serve(None, |()| noticed);
            }),
        )
    })
}
