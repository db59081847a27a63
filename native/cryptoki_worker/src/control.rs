//! The connection for the control thread of the library.

use crate::inside::Inside;
use cryptoki_engine::control::jobs::{Job, Told};
use cryptoki_engine::control::login;
use cryptoki_engine::control::task::on_control;
use cryptoki_engine::control::users::{self, Attached};
use cryptoki_engine::library::initialization::Settings;
use cryptoki_engine::library::library::Library;
use cryptoki_engine::process::link::{Broken, Link};
use cryptoki_engine::process::wire::{Order, Ordered};
use cryptoki_engine::request::request::{Deliver, Delivered, Request, Times, panic_failure};
use cryptoki_engine::site::Site;
use cryptoki_ffi::failure::{Failure, Result};
use cryptoki_ffi::panics::guarded;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

/// What is kept between two orders.
#[derive(Default)]
struct Held {
    library: Option<Attached>,
    /// Whether nobody else may be inside while somebody logs in.
    alone: bool,
}

/// Serves it until its end.
pub fn serve(inside: &Inside, mut link: Link) {
    let mut held = Held::default();
    while let Ok(order) = link.receive::<Order>() {
        let outcome = guarded(|| obey(inside, &mut held, order));
        let answer = |outcome| Ordered {
            outcome,
            epoch: inside.epoch(),
        };
        let outcome = outcome.unwrap_or_else(|| Err(panic_failure()));
        match link.send(&answer(outcome), None) {
            Ok(()) => {}
            Err(Broken::TooLong) => {
                let failure = Failure::misbehaved("the library", "has answered too much");
                if link.send(&answer(Err(failure)), None).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Where an answer of the control thread is waited for.
struct Back<A>(SyncSender<Result<A>>);

impl<A: Send> Deliver<A> for Back<A> {
    fn deliver(self: Box<Self>, outcome: Result<A>, _times: Times) -> Delivered {
        match self.0.send(outcome) {
            Ok(()) => Delivered::Heard,
            Err(_) => Delivered::Unheard,
        }
    }
}

/// Hands a request over, and waits for the answer.
fn ask<J, A: Send + 'static>(
    job: J,
    hand: impl FnOnce(Arc<Request<J, A>>) -> Result<()>,
) -> Result<A> {
    let (back, answer) = sync_channel(1);
    hand(Request::new(job, Box::new(Back(back)), None))?;
    answer.recv().unwrap_or_else(|_| Err(panic_failure()))
}

fn obey(inside: &Inside, held: &mut Held, order: Order) -> Result<Told> {
    match order {
        Order::Open(settings) => open(inside, held, settings)?,
        Order::Job(job) => {
            let library = &inside.site()?.library;
            let task = |request| library.lanes.ask(Job::task(library.clone(), request));
            return ask(job, task);
        }
        Order::Prepare(token) => {
            held.alone = with_site(inside, move |site| login::prepare(site, &token))?;
        }
        Order::LogIn(token, credentials) => {
            let alone = held.alone;
            with_site(inside, move |site| {
                login::hand_over(site, &token, alone, &credentials)
            })?;
        }
        Order::Close => {
            if let Some(library) = held.library.take() {
                ask((), |request| library.detach(request))?;
            }
        }
    }
    Ok(Told::Done)
}

fn open(inside: &Inside, held: &mut Held, settings: Settings) -> Result<()> {
    let library = Library::find(&inside.start.path, inside.start.interface)?;
    held.library = Some(ask(settings, |request| {
        users::attach(library.clone(), request);
        Ok(())
    })?);
    inside.opened(Site::new(library))
}

fn with_site<A: Send + 'static>(
    inside: &Inside,
    work: impl FnOnce(&Site) -> Result<A> + Send + 'static,
) -> Result<A> {
    let site = inside.site()?.clone();
    let lanes = &inside.site()?.library.lanes;
    let task = |request| lanes.ask(on_control(request, move |_, ()| work(&site)));
    ask((), task)
}
