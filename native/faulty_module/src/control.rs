//! Which rules are in force: those of the control file as it is now.

use crate::config::config;
use crate::rules::Rules;
use crate::{lock, token};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

/// What tells one version of the control file from the next: device, inode, size, time of change.
type Stamp = (u64, u64, u64, i64, i64);

/// The file the rules come from. Locked while a new one is read and takes effect.
static SEEN: Mutex<Option<Stamp>> = Mutex::new(None);
/// Apart from `SEEN`: a call inside the target may ask for the rules while a change waits for it to come out.
static RULES: LazyLock<Mutex<Arc<Rules>>> = LazyLock::new(Mutex::default);

/// The rules in force, after a look at the control file; a change takes effect before this returns.
pub fn rules() -> Arc<Rules> {
    let Some(path) = &config().control else {
        return Arc::default();
    };
    // The look is under the lock: an old one that comes late would make the same file a new one.
    let mut seen = lock(&SEEN);
    let now = std::fs::metadata(path)
        .ok()
        .map(|metadata| stamp(&metadata));
    if *seen != now {
        let (stamp, new) = read(path);
        let new = Arc::new(new);
        let old = std::mem::replace(&mut *lock(&RULES), Arc::clone(&new));
        *seen = stamp;
        token::change(&old, &new);
    }
    current()
}

/// The rules in force at the last look.
pub fn current() -> Arc<Rules> {
    Arc::clone(&lock(&RULES))
}

/// Whether hanging calls are let go, whatever the rules say.
pub fn released() -> bool {
    config().control.as_ref().is_some_and(|path| {
        let mut release = path.clone().into_os_string();
        release.push(".release");
        PathBuf::from(release).exists()
    })
}

fn stamp(metadata: &Metadata) -> Stamp {
    (
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    )
}

/// Stamp and content of the same file, even if another one takes its place meanwhile.
fn read(path: &Path) -> (Option<Stamp>, Rules) {
    let mut text = String::new();
    let opened = File::open(path).and_then(|mut file| {
        let metadata = file.metadata()?;
        file.read_to_string(&mut text)?;
        Ok(metadata)
    });
    let Ok(metadata) = opened else {
        return (None, Rules::default());
    };
    let rules = Rules::parse(&text).unwrap_or_else(|error| {
        eprintln!("faulty_module: {}: {error}", path.display());
        Rules::broken()
    });
    (Some(stamp(&metadata)), rules)
}
