//! The folder that files are restored into before they count, and how it takes the place of another.
//!
//! It lies beside that other, on the same file system, is open to its owner alone, and locked (flock(2)) for as long as
//! its process lives: one without a lock is a dead process's and is removed by the next restore beside it.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::host::files;

/// Removed with all that is in it when dropped before it took its place.
pub(super) struct Staging {
    parent: OwnedFd,
    /// Of the folder whose place it takes.
    name: OsString,
    hidden: Option<OsString>,
    pub(super) fd: OwnedFd,
}

const STAGING: &[u8] = b".restoring-";

impl Staging {
    pub(super) fn make(parent: &Path, name: &std::ffi::OsStr) -> io::Result<Self> {
        let parent = files::open_directory(parent)?;
        let mut number = 0_u32;
        loop {
            number += 1;
            let mut hidden = [b".", name.as_bytes(), STAGING].concat();
            hidden.extend_from_slice(format!("{}-{number}", std::process::id()).as_bytes());
            let hidden = OsString::from_vec(hidden);
            match rustix::fs::mkdirat(&parent, &hidden, Mode::RWXU) {
                Err(Errno::EXIST) => continue,
                other => other?,
            }
            let fd = open_folder(&parent, &hidden)?;
            rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
            return Ok(Self { parent, name: name.to_owned(), hidden: Some(hidden), fd });
        }
    }

    /// Removes what dead processes left beside the folder; says what.
    pub(super) fn clear(parent: &Path, name: &std::ffi::OsStr) -> io::Result<Vec<String>> {
        let folder = files::open_directory(parent)?;
        let begin = [b".", name.as_bytes(), STAGING].concat();
        let mut said = Vec::new();
        for entry in rustix::fs::Dir::read_from(&folder)? {
            let entry = entry?;
            if !entry.file_name().to_bytes().starts_with(&begin) {
                continue;
            }
            let Ok(fd) = open_folder(&folder, entry.file_name()) else { continue };
            if rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let shown = entry.file_name().to_string_lossy().into_owned();
                said.push(match remove_all(&folder, entry.file_name()) {
                    Ok(()) => format!("removed {shown}, which a restore that is gone left half-done"),
                    Err(error) => {
                        format!("{shown}, left by a restore that is gone, can't be removed: {error}")
                    }
                });
            }
        }
        Ok(said)
    }

    /// Takes its place; what was there before is kept under the name that is returned.
    pub(super) fn take_place(mut self, at: Timestamp) -> io::Result<Option<PathBuf>> {
        let Some(hidden) = self.hidden.clone() else { return Ok(None) };
        rustix::fs::syncfs(&self.fd)?;
        let parent = &self.parent;
        let there = match rustix::fs::statat(parent, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => true,
            Err(Errno::NOENT) => false,
            Err(error) => return Err(error.into()),
        };
        if !there {
            rustix::fs::renameat_with(parent, &hidden, parent, &self.name, RenameFlags::NOREPLACE)?;
            self.hidden = None;
            rustix::fs::fsync(parent)?;
            return Ok(None);
        }
        let kept = self.free_name(at)?;
        // First under the name that the old folder is to have, then both names exchanged in one step: whenever this
        // process ends, a whole folder stands in the place, and nothing has a name that is cleared away.
        rustix::fs::renameat_with(parent, &hidden, parent, &kept, RenameFlags::NOREPLACE)?;
        self.hidden = Some(kept.clone());
        match rustix::fs::renameat_with(parent, &kept, parent, &self.name, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS) => {
                // Not every file system exchanges: for a moment nothing stands in the place.
                let aside = OsString::from_vec([kept.as_bytes(), b".new"].concat());
                rustix::fs::renameat_with(parent, &kept, parent, &aside, RenameFlags::NOREPLACE)?;
                self.hidden = Some(aside.clone());
                rustix::fs::renameat(parent, &self.name, parent, &kept)?;
                if let Err(error) = rustix::fs::renameat(parent, &aside, parent, &self.name) {
                    let _ = rustix::fs::renameat(parent, &kept, parent, &self.name);
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
        self.hidden = None;
        rustix::fs::fsync(parent)?;
        Ok(Some(kept.into()))
    }

    fn free_name(&self, at: Timestamp) -> io::Result<OsString> {
        let mut number = 1_u32;
        loop {
            let name = before_name(&self.name, at, number);
            match rustix::fs::statat(&self.parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(name),
                Err(error) => return Err(error.into()),
                Ok(_) => number += 1,
            }
        }
    }
}

/// `<name>.before-<UTC time>`
pub(super) fn before_name(name: &std::ffi::OsStr, at: Timestamp, number: u32) -> OsString {
    let time = at.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let number = if number > 1 { format!("-{number}") } else { String::new() };
    OsString::from_vec([name.as_bytes(), b".before-", time.as_bytes(), number.as_bytes()].concat())
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // What can't be removed now is found by the next restore.
            let _ = remove_all(&self.parent, hidden);
        }
    }
}

fn open_folder(parent: &OwnedFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// A folder with all that is in it; never through a symbolic link.
fn remove_all(parent: &OwnedFd, name: impl rustix::path::Arg + Copy) -> io::Result<()> {
    let folder = open_folder(parent, name)?;
    // A folder that was restored with a mode that forbids it is emptied all the same.
    let _ = rustix::fs::fchmod(&folder, Mode::RWXU);
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::read_from(&folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            entries.push(entry.file_name().to_owned());
        }
    }
    for entry in entries {
        let stat = rustix::fs::statat(&folder, &*entry, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if stat.st_mode & 0o700 != 0o700 {
                let _ = rustix::fs::chmodat(&folder, &*entry, Mode::RWXU, AtFlags::empty());
            }
            remove_all(&folder, &*entry)?;
        } else {
            rustix::fs::unlinkat(&folder, &*entry, AtFlags::empty())?;
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(Into::into)
}
