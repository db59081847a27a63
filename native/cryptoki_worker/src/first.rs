//! The first connection. Nothing here calls the library, so it is served whatever hangs there; its end is ours.

use crate::inside::{Inside, OneMore};
use crate::{control, session};
use cryptoki_engine::library::lanes::STACK;
use cryptoki_engine::library::numbers::Standing;
use cryptoki_engine::place::take_notice;
use cryptoki_engine::process::link::Link;
use cryptoki_engine::process::wire::{CLOSED, Notice, Noticed};
use cryptoki_ffi::channel::Channel;
use cryptoki_ffi::process;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Serves it until its end.
pub fn serve(mut link: Link, inside: Inside) -> ! {
    let inside = Arc::new(inside);
    while let Ok((notice, with)) = link.receive_with() {
        let noticed = self::notice(&inside, &notice, with.descriptor);
        if link.send(&noticed, None).is_err() {
            break;
        }
    }
    // At its end nothing comes; what is no connection any more was ended by nobody outside.
    let ended = link.channel().receive_now(&mut [0]).is_ok();
    process::leave(if ended { 0 } else { CLOSED })
}

fn notice(inside: &Arc<Inside>, notice: &Notice, descriptor: Option<OwnedFd>) -> Noticed {
    match (notice, inside.site()) {
        (Notice::Control, _) => {
            return connect(inside, "cryptoki-orders", descriptor, control::serve);
        }
        (Notice::Session, _) => {
            return connect(inside, "cryptoki-session", descriptor, session::serve);
        }
        (notice, Ok(site)) => return take_notice(site, notice),
        (Notice::Standing(_), Err(_)) => return Noticed::Standing(Standing::Unknown),
        (Notice::Inside, Err(_)) => return Noticed::Inside(None, None),
        (Notice::State(_) | Notice::Epoch(_), Err(_)) => {}
    }
    Noticed::Done
}

/// Serves one more connection.
fn connect(
    inside: &Arc<Inside>,
    name: &str,
    descriptor: Option<OwnedFd>,
    serve: fn(&Inside, Link),
) -> Noticed {
    let Some(descriptor) = descriptor else {
        return Noticed::Refused("no connection came: it may have too many files open".into());
    };
    let link = Link::new(Channel::from_owned(descriptor));
    let one_more = OneMore::of(inside);
    let thread = std::thread::Builder::new().name(name.into());
    let served = thread
        .stack_size(STACK)
        .spawn(move || serve(&one_more.0, link));
    match served {
        Ok(_) => Noticed::Done,
        Err(error) => Noticed::Refused(format!("no thread for a connection: {error}")),
    }
}
