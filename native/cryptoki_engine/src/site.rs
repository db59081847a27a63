//! What the sessions of one instance share at their library: the login, the life of the token, the objects that are kept.

use crate::library::library::Library;
use crate::library::numbers::{Standing, begin_generations};
use crate::library::session_handle::{Guest, SessionHandle};
use crate::session::counters::Counters;
use crate::session::unheard::Unheard;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::values::Handle;
use cryptoki_ffi::whereabouts::Whereabouts;
use cryptoki_sys::CK_SLOT_ID;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// More sessions are not kept open for the objects in them: their number on a token is limited.
const KEPT_LIMIT: usize = 16;

/// No number of the process that was here before: a handle that was kept is stale.
static EPOCHS: LazyLock<AtomicU64> = LazyLock::new(|| {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let (seconds, rest) = since.map_or((1, 1), |since| (since.as_secs(), since.subsec_micros()));
    AtomicU64::new((seconds << 20) + u64::from(rest))
});

/// Unique in this process.
fn next_epoch() -> u64 {
    EPOCHS.fetch_add(1, SeqCst)
}

/// So many are for a library in a process of its own, before it is given more.
pub const FOR_A_PROCESS: u64 = 1 << 16;

/// Epochs that are nobody's in this process from here on: the first of them.
pub fn epochs_for_a_process() -> u64 {
    EPOCHS.fetch_add(FOR_A_PROCESS, SeqCst)
}

/// Those of this process begin here: before there are any. No generation of a handle is another process's, either.
pub fn begin_epochs(first: u64) {
    EPOCHS.store(first, SeqCst);
    begin_generations(first / FOR_A_PROCESS);
}

/// Whether requests are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// No token.
    Absent,
    /// A person must give a PIN.
    Locked,
    /// Sessions serve.
    Ready,
    /// For good.
    Shutdown,
}

impl State {
    const ALL: [State; 4] = [State::Absent, State::Locked, State::Ready, State::Shutdown];

    /// The one with that number.
    pub fn of(number: u8) -> Self {
        Self::ALL[usize::from(number) % Self::ALL.len()]
    }

    /// What a caller is told; `None` when requests are taken.
    pub fn refusal(self) -> Option<Failure> {
        let (reason, detail) = match self {
            State::Ready => return None,
            State::Absent => (Reason::TokenAbsent, "the instance has no token"),
            State::Locked => (Reason::Locked, "the instance is locked"),
            State::Shutdown => (Reason::Shutdown, "the instance is stopping"),
        };
        Some(Failure::own(reason, detail))
    }
}

/// The session that keeps the login alive while others come and go.
struct LoginSession {
    slot: CK_SLOT_ID,
    handle: SessionHandle,
}

/// It.
pub struct Site {
    /// The library.
    pub library: Arc<Library>,
    /// Numbers for `status`.
    pub counters: Arc<Counters>,
    /// What was said of PINs when nobody listened.
    pub unheard: Arc<Unheard>,
    /// Not held during calls of the library, which may hang.
    login_session: Mutex<Option<LoginSession>>,
    /// Sessions that are open for the sake of the objects made in them.
    kept: Mutex<Vec<SessionHandle>>,
    /// Of the threads of its sessions.
    threads: Mutex<Vec<Weak<Whereabouts>>>,
    state: AtomicU8,
    /// Where the token was found last.
    slot: AtomicUsize,
    epoch: AtomicU64,
    /// How many have ended.
    epochs: AtomicU64,
    /// How often a session was found lost.
    losses: AtomicU64,
}

impl Site {
    /// One without a token.
    pub fn new(library: Arc<Library>) -> Self {
        Self {
            library,
            counters: Arc::default(),
            unheard: Arc::default(),
            login_session: Mutex::new(None),
            kept: Mutex::default(),
            threads: Mutex::default(),
            state: AtomicU8::new(State::Absent as u8),
            slot: AtomicUsize::new(0),
            epoch: AtomicU64::new(next_epoch()),
            epochs: AtomicU64::new(0),
            losses: AtomicU64::new(0),
        }
    }

    /// The current state.
    pub fn state(&self) -> State {
        State::of(self.state.load(SeqCst))
    }

    /// Changes it.
    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, SeqCst);
        if state != State::Ready {
            // Closed when no lock is held any more; what still runs on others stays logged in.
            let login = self.login().take();
            let kept = std::mem::take(&mut *self.kept());
            drop((login, kept));
        }
    }

    /// Notes one more thread of a session, for as long as that keeps what it is told.
    pub fn follow(&self, thread: &Arc<Whereabouts>) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| thread.strong_count() > 0);
        threads.push(Arc::downgrade(thread));
    }

    /// The call of a session that has been in the library for longest.
    pub fn oldest_call(&self) -> Option<(&'static str, Duration)> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = threads.iter().filter_map(|thread| thread.upgrade()?.now());
        calls.max_by_key(|(_function, since)| *since)
    }

    fn login(&self) -> MutexGuard<'_, Option<LoginSession>> {
        self.login_session
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a session open, which nobody uses any more, for the objects that would end with it; none when it does.
    pub fn keep(&self, session: SessionHandle) -> Option<SessionHandle> {
        self.let_go();
        let alive = self.library.numbers.holds(session.claim())
            && session
                .call(|functions, session| functions.session_info(session))
                .is_ok();
        let mut kept = self.kept();
        // The state is looked at under the lock: whoever changes it takes away what is there then.
        if alive && kept.len() < KEPT_LIMIT && self.state() == State::Ready {
            kept.push(session);
            return None;
        }
        Some(session)
    }

    /// Closes the sessions that were kept for objects which are gone.
    pub fn let_go(&self) {
        let numbers = &self.library.numbers;
        self.kept().retain(|session| numbers.holds(session.claim()));
    }

    fn kept(&self) -> MutexGuard<'_, Vec<SessionHandle>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the slot of the token.
    pub fn found_in(&self, slot: CK_SLOT_ID) {
        self.slot.store(slot as usize, SeqCst);
    }

    fn slot(&self) -> CK_SLOT_ID {
        self.slot.load(SeqCst) as CK_SLOT_ID
    }

    /// What has become of the handle of an object.
    pub fn standing(&self, handle: &Handle) -> Standing {
        match self.library.numbers.standing(self.slot(), handle) {
            Standing::Current if handle.life != self.epoch() => Standing::Unknown,
            standing => standing,
        }
    }

    /// How many epochs of this instance have ended.
    pub fn epochs(&self) -> u64 {
        self.epochs.load(SeqCst)
    }

    /// The epoch handles are issued in now.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(SeqCst)
    }

    /// Makes every handle issued before stale; answers the epoch that begins.
    pub fn bump_epoch(&self) -> u64 {
        let epoch = next_epoch();
        self.epochs.fetch_add(1, SeqCst);
        // Two at once: the later one stays, or an old epoch would come back.
        self.epoch.fetch_max(epoch, SeqCst).max(epoch)
    }

    /// The same; the epoch that begins is given, by whoever gave those of this process.
    pub fn begin_epoch(&self, epoch: u64) {
        EPOCHS.fetch_max(epoch + 1, SeqCst);
        self.epochs.fetch_add(1, SeqCst);
        self.epoch.fetch_max(epoch, SeqCst);
    }

    /// The epoch for a session that was just opened. A token may have restarted a moment ago and
    /// nobody have noticed: then the handles of the epoch mean other objects to this session. The
    /// session that keeps the login tells: it began an epoch, so if it lives, nothing has restarted since.
    pub fn epoch_for_new_session(&self) -> u64 {
        let epoch = self.epoch();
        // The control thread may be about to close it: then the call is not made.
        let lives = self.login_session(None).is_some_and(|kept| {
            kept.call(|functions, session| functions.session_info(session))
                .is_ok()
        });
        if lives {
            epoch
        } else {
            self.library.numbers.doubt(self.slot());
            self.bump_epoch()
        }
    }

    /// Whether a session keeps the login.
    pub fn is_logged_in(&self) -> bool {
        self.login().is_some()
    }

    /// The session that keeps the login, to call with now and then; in that slot.
    pub fn login_session(&self, slot: Option<CK_SLOT_ID>) -> Option<Guest> {
        let kept = self.login();
        let kept = kept
            .as_ref()
            .filter(|kept| slot.is_none_or(|slot| slot == kept.slot));
        kept.map(|kept| kept.handle.guest())
    }

    /// Keeps another one, and hands back what is to be closed: the one before, or that one, when the instance is over.
    /// The epoch begins before anybody can see it, see `epoch_for_new_session`.
    pub fn keep_login_session(
        &self,
        slot: CK_SLOT_ID,
        handle: SessionHandle,
    ) -> Result<Option<SessionHandle>, SessionHandle> {
        self.bump_epoch();
        let mut kept = self.login();
        // The state is looked at under the lock: whoever ends the instance takes away what is there then.
        if self.state() == State::Shutdown {
            return Err(handle);
        }
        let before = kept.replace(LoginSession { slot, handle });
        Ok(before.map(|before| before.handle))
    }

    /// The same, unless somebody has already noticed the loss of what was opened in `epoch`.
    pub fn end_epoch(&self, epoch: u64) {
        let ended = self
            .epoch
            .compare_exchange(epoch, next_epoch(), SeqCst, SeqCst);
        if ended.is_ok() {
            self.epochs.fetch_add(1, SeqCst);
            self.library.numbers.doubt(self.slot());
        }
    }

    /// A session is lost, and others may be: each looks at its own before it goes on.
    pub fn note_loss(&self) {
        self.losses.fetch_add(1, SeqCst);
    }

    /// How often that was.
    pub fn losses(&self) -> u64 {
        self.losses.load(SeqCst)
    }
}
