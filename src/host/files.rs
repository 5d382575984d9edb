//! Files and folders: space, ownership, and work relative to an open folder, so that nobody can swap it under us.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags, Uid, flock};
use rustix::io::Errno;

use crate::units::HumanDuration;

/// Who owns a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    /// A user of the system and its primary group.
    ///
    /// # Errors
    /// Where there is no such user.
    pub fn named(name: &str) -> Result<Self, String> {
        match nix::unistd::User::from_name(name) {
            Ok(Some(user)) => Ok(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
            Ok(None) => Err(format!("there is no user {name} on this host")),
            Err(error) => Err(format!("the user {name} can't be looked up: {error}")),
        }
    }

    /// Who this process acts as.
    pub fn own() -> Self {
        Self { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    /// # Errors
    /// Where this process may not give the file away.
    pub fn take(self, file: impl AsFd) -> io::Result<()> {
        let stat = rustix::fs::fstat(&file)?;
        if (stat.st_uid, stat.st_gid) != (self.uid, self.gid) {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            rustix::fs::fchown(file, Some(uid), Some(gid))?;
        }
        Ok(())
    }
}

/// The space of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What is left for those who aren't root.
    pub free: u64,
    pub total: u64,
}

impl Space {
    /// # Errors
    /// Where the file system doesn't say.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        let stat = rustix::fs::fstatvfs(file)?;
        let unit = stat.f_frsize.max(1);
        Ok(Self { free: stat.f_bavail.saturating_mul(unit), total: stat.f_blocks.saturating_mul(unit) })
    }
}

/// What a file system has left, as df(1) counts it: of what those who aren't root may ever use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    pub free: u64,
    pub total: u64,
    /// `free / (used + free)`, 0 to 1: what is kept back for root counts neither way.
    pub free_share: f64,
    /// The same of inodes; `None` where the file system has no fixed number of them (btrfs).
    pub inodes: Option<Inodes>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inodes {
    pub free: u64,
    pub total: u64,
    pub free_share: f64,
}

impl Usage {
    /// Of the file system that holds `path`. Waits for as long as the file system does: for ever, where it is a dead
    /// server's.
    ///
    /// # Errors
    /// Where there is no such path, or the file system doesn't say.
    pub fn of(path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(path)?;
        let unit = stat.f_frsize.max(1);
        let inodes = (stat.f_files > 0).then(|| Inodes {
            free: stat.f_favail,
            total: stat.f_files,
            free_share: free_share(stat.f_files, stat.f_ffree, stat.f_favail),
        });
        Ok(Self {
            free: stat.f_bavail.saturating_mul(unit),
            total: stat.f_blocks.saturating_mul(unit),
            free_share: free_share(stat.f_blocks, stat.f_bfree, stat.f_bavail),
            inodes,
        })
    }
}

/// Nothing of nothing, as of /proc, is all free: nobody will run out of it.
fn free_share(total: u64, free: u64, available: u64) -> f64 {
    let used = total.saturating_sub(free);
    let usable = used.saturating_add(available);
    if usable == 0 { 1.0 } else { available as f64 / usable as f64 }
}

/// Opens a folder; what is done through it stays in it, whatever becomes of its path.
///
/// # Errors
/// Where it is missing, no folder, or not readable.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Takes the lock (flock(2)) of an open file or folder, which goes with the descriptor; at most so long after another
/// process, whose hands may be tied by a disk that hangs. flock waits without a limit or not at all: a thread that waits
/// in it could not be called back, and each try would leave another.
///
/// # Errors
/// `WouldBlock` where another process has it all that time.
pub fn lock(file: impl AsFd, patience: Duration) -> io::Result<()> {
    const NEXT_TRY: Duration = Duration::from_millis(10);
    let mut left = patience;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if left.is_zero() => break,
            Err(Errno::WOULDBLOCK) => std::thread::sleep(NEXT_TRY.min(left)),
            Err(error) => return Err(error.into()),
        }
        left = left.saturating_sub(NEXT_TRY);
    }
    let patience = HumanDuration(patience);
    let message = format!("another process has held its lock for {patience}");
    Err(io::Error::new(io::ErrorKind::WouldBlock, message))
}

/// Opens a folder, made with mode 0700 (and its parents as mkdir -p makes them) where it is missing. True: it was
/// made.
///
/// # Errors
/// Where it can't be made, given to its owner or opened.
pub fn open_or_make_directory(path: &Path, owner: Owner) -> io::Result<(OwnedFd, bool)> {
    use std::os::unix::fs::DirBuilderExt;
    match open_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other.map(|directory| (directory, false)),
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        // Somebody was faster: then it is theirs.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return open_directory(path).map(|directory| (directory, false));
        }
        Err(error) => return Err(error),
    }
    let directory = open_directory(path)?;
    owner.take(&directory)?;
    Ok((directory, true))
}

/// The folder itself, or the nearest one above it that exists.
///
/// # Errors
/// Where none can be opened.
pub fn nearest_directory(path: &Path) -> io::Result<(&Path, OwnedFd)> {
    let mut at = path;
    loop {
        match (open_directory(at), at.parent()) {
            (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => at = parent,
            (opened, _) => return opened.map(|fd| (at, fd)),
        }
    }
}

/// Why files could not be made in this folder, which is made where it is missing.
pub fn why_not_writable(path: &Path) -> Option<String> {
    match nearest_directory(path) {
        Err(error) => Some(format!("the directory {} can't be opened: {error}", path.display())),
        Ok((nearest, fd)) => {
            let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
            let error = rustix::fs::accessat(&fd, ".", access, AtFlags::EACCESS).err()?;
            let what = if nearest == path { "written to" } else { "made" };
            let at = nearest.display();
            Some(format!("the directory {} can't be {what}: {at}: {error}", path.display()))
        }
    }
}

/// Removes a file of an open folder. False: it was gone already.
///
/// # Errors
/// Where it stays.
pub fn remove_file(directory: impl AsFd, name: impl rustix::path::Arg) -> io::Result<bool> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the error says that the file system, or the user's quota, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_share_is_of_what_ordinary_users_may_use() {
        // 900 blocks, 300 of them free, 100 of those kept back for root: 200 of 800.
        assert_eq!(free_share(900, 300, 200), 0.25);
        assert_eq!(free_share(100, 0, 0), 0.0);
        assert_eq!(free_share(0, 0, 0), 1.0);
    }

    #[test]
    fn a_lock_is_waited_for_but_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let open = || open_directory(folder.path()).unwrap();
        let (first, second) = (open(), open());
        lock(&first, Duration::ZERO).unwrap();
        let error = lock(&second, Duration::from_millis(30)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(error.to_string(), "another process has held its lock for 30ms");
        let other = std::thread::spawn(move || lock(&second, Duration::from_secs(60)).unwrap());
        drop(first);
        other.join().unwrap();
    }
}
