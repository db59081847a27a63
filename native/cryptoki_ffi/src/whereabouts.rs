//! Which function of a library a thread is in, and since when: what a call that does not return leaves
//! behind for others to see.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

thread_local! {
    static HERE: RefCell<Option<Arc<Whereabouts>>> = const { RefCell::new(None) };
}

/// Those of one thread.
#[derive(Default)]
pub struct Whereabouts(Mutex<Option<(&'static str, Instant)>>);

impl Whereabouts {
    /// From now on they are those of the calling thread.
    pub fn follow(self: &Arc<Self>) {
        HERE.with_borrow_mut(|here| *here = Some(self.clone()));
    }

    /// The function that the thread is in, and for how long.
    pub fn now(&self) -> Option<(&'static str, Duration)> {
        let inside = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inside.map(|(function, since)| (function, since.elapsed()))
    }

    fn set(&self, inside: Option<(&'static str, Instant)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = inside;
    }
}

/// Until it is dropped the calling thread is in the function.
pub struct Inside(());

/// Notes that the calling thread goes into a function.
pub fn inside(function: &'static str) -> Inside {
    tell(Some(function));
    Inside(())
}

impl Drop for Inside {
    fn drop(&mut self) {
        tell(None);
    }
}

fn tell(function: Option<&'static str>) {
    // A thread that ends has none any more.
    let _ = HERE.try_with(|here| {
        if let Some(here) = here.borrow().as_ref() {
            here.set(function.map(|function| (function, Instant::now())));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_see_where_a_thread_is_and_for_how_long() {
        let whereabouts = Arc::new(Whereabouts::default());
        drop(inside("C_Unseen"));
        whereabouts.follow();
        assert_eq!(whereabouts.now(), None);
        let within = inside("C_Sign");
        let (function, first) = whereabouts.now().expect("inside");
        assert_eq!(function, "C_Sign");
        assert!(whereabouts.now().expect("still").1 >= first);
        drop(within);
        assert_eq!(whereabouts.now(), None);
    }
}
