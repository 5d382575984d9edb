//! The state directory: one daemon at a time, and what it must know of the machine.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};

use crate::host::procfs;
use crate::ledger::Ledger;

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
        let mut lock = lock_file(path)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
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

    /// # Errors
    /// Where a daemon has the directory: then it is the one to ask.
    pub(super) fn check_free(path: &Path) -> anyhow::Result<()> {
        let mut lock = lock_file(path)?;
        if flock(&lock, FlockOperation::NonBlockingLockShared).is_err() {
            bail!(
                "{}: a daemon (pid {}) has this state directory and does not answer",
                path.display(),
                holder(&mut lock)
            );
        }
        Ok(())
    }
}

/// Waits until no other `run-now` stands between its look at what runs and its claim; left by dropping it.
///
/// # Errors
/// Where the directory can't be written.
pub(super) fn entrance(path: &Path) -> anyhow::Result<File> {
    let file = open(path, "run-now.lock")?;
    flock(&file, FlockOperation::LockExclusive)
        .with_context(|| format!("{}: can't be locked", path.join("run-now.lock").display()))?;
    Ok(file)
}

fn lock_file(path: &Path) -> anyhow::Result<File> {
    open(path, "lock")
}

fn open(path: &Path, name: &str) -> anyhow::Result<File> {
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
