//! The state directory: one daemon at a time, and what it must know of the machine.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::host::procfs;
use crate::ledger::Ledger;

/// A `run-now` that looks whether there is a daemon holds the lock for an instant; this is longer.
const LOOKED_AT: Duration = Duration::from_millis(100);

/// Held for as long as the daemon lives; the kernel lets go of it, however the daemon ends.
pub(super) struct StateDirectory {
    _lock: File,
}

impl StateDirectory {
    /// Makes the directory where it is missing.
    ///
    /// # Errors
    /// Where another daemon has it (its pid is said), or it can't be written.
    pub(super) fn lock(path: &Path) -> anyhow::Result<Self> {
        let mut lock = lock_file(path, "lock")?;
        let taken = is_taken_within(&lock, LOOKED_AT);
        if !taken.with_context(|| format!("{}: can't be locked", path.display()))? {
            bail!(
                "{}: another daemon (pid {}) has this state directory; stop it, or give this one `paths: {{ state: … }}` of its own",
                path.display(),
                holder(&mut lock)
            );
        }
        // Only for the one who is refused. A full disk must not keep the daemon from its jobs.
        let _ = lock.set_len(0).and_then(|()| lock.rewind());
        let _ = writeln!(lock, "{}", std::process::id());
        Ok(Self { _lock: lock })
    }

    /// Waits for those that may claim a run without a daemon just now: what they claimed is in the ledger on
    /// return, and no other comes after them.
    pub(super) fn wait_for_run_nows(&self, path: &Path) -> anyhow::Result<()> {
        Turn::take(path).map(drop)
    }
}

/// One `run-now` without a daemon at a time looks at the ledger and claims its run, or begins one that waited: otherwise
/// two could each find the job idle, or a daemon that comes could take over what begins.
pub(super) struct Turn {
    _lock: File,
    /// When the last daemon took the directory, as its file says: another one that came since has written to it.
    pub(super) last_daemon: Option<SystemTime>,
}

impl Turn {
    /// Waits for those before it.
    ///
    /// # Errors
    /// [`Occupied`] where a daemon has the directory: then it is the one to ask.
    pub(super) fn of_run_now(path: &Path) -> anyhow::Result<Self> {
        let mut turn = Self::take(path)?;
        let mut lock = lock_file(path, "lock")?;
        if flock(&lock, FlockOperation::NonBlockingLockShared).is_err() {
            return Err(Occupied { state: path.to_owned(), holder: holder(&mut lock) }.into());
        }
        turn.last_daemon = lock.metadata().and_then(|metadata| metadata.modified()).ok();
        Ok(turn)
    }

    fn take(path: &Path) -> anyhow::Result<Self> {
        let lock = lock_file(path, "run-now.lock")?;
        wait_for(&lock).with_context(|| format!("{}: can't be locked", path.display()))?;
        Ok(Self { _lock: lock, last_daemon: None })
    }
}

/// A daemon that has the state directory and can't be asked: it starts, stops or hangs.
#[derive(Debug, thiserror::Error)]
#[error("{}: a daemon (pid {holder}) has this state directory and does not answer", state.display())]
pub struct Occupied {
    state: PathBuf,
    holder: String,
}

/// A daemon that lives.
#[derive(Clone, Copy, Debug)]
pub struct Living {
    pub pid: Option<u32>,
    /// When it took the state directory, by the clock of then.
    pub since: Option<Timestamp>,
}

/// Who has this state directory. Looks only, and makes nothing.
pub fn living(path: &Path) -> Option<Living> {
    let mut lock = File::open(path.join("lock")).ok()?;
    if flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let since = lock.metadata().and_then(|metadata| metadata.modified()).ok();
    Some(Living {
        pid: holder(&mut lock).parse().ok(),
        since: since.and_then(|since| Timestamp::try_from(since).ok()),
    })
}

/// flock(2) waits without a limit: a thread does so, which is there only where somebody has the lock, and is left to its
/// waiting where that one keeps it. It gives back at once what comes too late.
fn is_taken_within(lock: &File, bound: Duration) -> io::Result<bool> {
    if flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
        return Ok(true);
    }
    let same = lock.try_clone()?;
    let (taken, is_taken) = mpsc::channel();
    std::thread::Builder::new().name("lock".to_owned()).spawn(move || {
        let locked = wait_for(&same);
        // The last one that has the lock open lets go of it.
        drop(same);
        let _ = taken.send(locked);
    })?;
    match is_taken.recv_timeout(bound) {
        Ok(locked) => locked.map(|()| true),
        Err(_) => Ok(false),
    }
}

fn wait_for(lock: &File) -> io::Result<()> {
    loop {
        match flock(lock, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

fn lock_file(path: &Path, name: &str) -> anyhow::Result<File> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(path)
        .with_context(|| format!("{}: the state directory can't be made", path.display()))?;
    let file = path.join(name);
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o640)
        .open(&file)
        .with_context(|| format!("{}: can't be written", file.display()))
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let _ = lock.read_to_string(&mut text);
    let text = text.trim();
    if text.is_empty() { "unknown".to_owned() } else { text.to_owned() }
}

/// How far a clock may be corrected after boot and the boot still be found.
const BOOT_DRIFT: Duration = Duration::from_secs(86_400);

/// When this machine booted. The kernel derives it from a clock that is being corrected, so the first answer of a
/// boot is kept: `@reboot` is keyed by it.
pub(super) fn boot_time(ledger: &dyn Ledger, boot: &str, now: Timestamp) -> Timestamp {
    let measured = procfs::boot_time().unwrap_or(now);
    let from = measured.checked_sub(BOOT_DRIFT).unwrap_or(measured);
    let events = ledger.events(from).unwrap_or_default();
    let of_this_boot = events.iter().filter(|event| event.detail["boot"].as_str() == Some(boot));
    of_this_boot
        .filter_map(|event| event.detail["boot_time"].as_str()?.parse().ok())
        .next()
        .unwrap_or(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_taken_once_one_that_looked_lets_go_and_given_back_where_that_is_too_late() {
        let folder = tempfile::tempdir().unwrap();
        let open = || lock_file(folder.path(), "lock").unwrap();
        let (looks, late, waits) = (open(), open(), open());
        flock(&looks, FlockOperation::NonBlockingLockShared).unwrap();
        assert!(!is_taken_within(&late, Duration::from_millis(1)).unwrap());
        drop(late);
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| is_taken_within(&waits, Duration::from_secs(60)).unwrap());
            drop(looks);
            assert!(taken.join().unwrap());
        });
    }
}
