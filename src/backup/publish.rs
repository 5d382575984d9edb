//! Makes the files of a backup appear whole or not at all.
//!
//! While it is being made, a file has a hidden name (`.<name>.partial-<pid>-<n>`) and a lock (flock(2)) which the
//! kernel drops with the process that made it: so a partial file without a lock is a dead process's, and nobody
//! else's is ever touched. A backup is published in this order, once all of its files are complete, on the disk
//! and read back: roles, dump, manifest. The manifest comes last since it is what makes a backup count; until
//! then its partial file, being whole, serves as the journal from which the next run completes the publishing.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};

use super::manifest;
use super::names::{self, MANIFEST_SUFFIX};
use crate::host::files::{self, Owner};

const PARTIAL: &str = ".partial-";

/// For whoever holds the folder's lock, which is for moments only.
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder that backups are published in.
pub struct Directory {
    pub path: PathBuf,
    fd: OwnedFd,
    owner: Owner,
    mode: u32,
}

/// A file under its hidden name; removed when dropped before it is published.
pub struct Partial {
    pub file: File,
    pub name: String,
    hidden: String,
    directory: Arc<Directory>,
    published: bool,
}

impl Directory {
    /// Made where it is missing (0700). Files in it get this owner and mode.
    ///
    /// # Errors
    /// Where it can't be made or opened.
    pub fn open(path: &Path, owner: Owner, mode: u32) -> io::Result<(Arc<Self>, bool)> {
        let (fd, made) = files::open_or_make_directory(path, owner)?;
        Ok((Arc::new(Self { path: path.to_owned(), fd, owner, mode }), made))
    }

    /// Makes the partial files of one backup, all under the first number for which none of the names is taken:
    /// two backups within a second don't meet.
    ///
    /// # Errors
    /// Where a file can't be made, given to its owner or locked.
    pub fn partials(
        self: &Arc<Self>,
        stem: impl Fn(u32) -> String,
        suffixes: &[&str],
    ) -> io::Result<Vec<Partial>> {
        let _alone = self.lock()?;
        let taken = self.names()?;
        let taken: std::collections::HashSet<&str> =
            taken.iter().map(|name| names::stem_of(visible(name).unwrap_or(name))).collect();
        let free = (1..).map(stem).find(|stem| !taken.contains(stem.as_str()));
        let stem = free.ok_or_else(|| io::Error::other("no name is left"))?;
        suffixes.iter().map(|suffix| self.partial(format!("{stem}{suffix}"))).collect()
    }

    fn partial(self: &Arc<Self>, name: String) -> io::Result<Partial> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let hidden = format!(".{name}{PARTIAL}{}-{number}", std::process::id());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, &hidden, flags, Mode::RUSR | Mode::WUSR)?;
        let partial =
            Partial { file: fd.into(), name, hidden, directory: Arc::clone(self), published: false };
        rustix::fs::flock(&partial.file, FlockOperation::NonBlockingLockExclusive)?;
        self.owner.take(&partial.file)?;
        rustix::fs::fchmod(&partial.file, Mode::from_raw_mode(self.mode))?;
        Ok(partial)
    }

    /// Completes or clears what dead processes left half-done; says what was done.
    ///
    /// # Errors
    /// Where the folder can't be read.
    pub fn recover(self: &Arc<Self>) -> io::Result<Vec<String>> {
        let _alone = self.lock()?;
        let mut said = Vec::new();
        let mut stale: Vec<(String, OwnedFd)> = Vec::new();
        for hidden in self.names()? {
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Some(_) = visible(&hidden) else { continue };
            let Ok(fd) = rustix::fs::openat(&self.fd, &hidden, flags, Mode::empty()) else { continue };
            if rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).is_ok() {
                stale.push((hidden, fd));
            }
        }
        for (hidden, fd) in &stale {
            if visible(hidden).is_some_and(|name| name.ends_with(MANIFEST_SUFFIX)) {
                said.extend(self.complete(hidden, fd, &stale));
            }
        }
        for (hidden, _) in &stale {
            match files::remove_file(&self.fd, hidden) {
                Ok(true) => {
                    said.push(format!("removed {hidden}, which a process that is gone left half-done"))
                }
                Ok(false) => {}
                Err(error) => {
                    said.push(format!("{hidden}, left by a process that is gone, can't be removed: {error}"))
                }
            }
        }
        Ok(said)
    }

    /// The manifest was whole when its process died, so its backup was complete: each of its files is either
    /// published already or still has its hidden name.
    fn complete(&self, hidden: &str, fd: &OwnedFd, stale: &[(String, OwnedFd)]) -> Option<String> {
        let mut text = Vec::new();
        io::Read::read_to_end(&mut File::from(fd.try_clone().ok()?), &mut text).ok()?;
        let manifest = manifest::Files::parse(&text)?;
        let roles = manifest.roles.as_ref().map(|roles| (roles.file.as_str(), roles.bytes));
        let mut renames = Vec::new();
        for (name, bytes) in roles.into_iter().chain([(manifest.file.as_str(), manifest.bytes)]) {
            let left = stale.iter().find(|(hidden, _)| visible(hidden) == Some(name));
            let at = left.map_or(name, |(hidden, _)| hidden.as_str());
            let stat = rustix::fs::statat(&self.fd, at, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            if u64::try_from(stat.st_size) != Ok(bytes) {
                return None;
            }
            renames.extend(left.map(|(hidden, _)| (hidden.as_str(), name)));
        }
        renames.push((hidden, visible(hidden)?));
        for (from, to) in renames {
            rustix::fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE).ok()?;
        }
        rustix::fs::fsync(&self.fd).ok()?;
        Some(format!("completed {}, whose process died while publishing it", manifest.file))
    }

    pub fn fd(&self) -> impl AsFd + '_ {
        &self.fd
    }

    /// Names that are UTF-8; ours always are.
    ///
    /// # Errors
    /// Where the folder can't be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let entries = rustix::fs::Dir::read_from(&self.fd)?;
        entries
            .filter_map(|entry| {
                entry.map(|entry| entry.file_name().to_str().ok().map(str::to_owned)).transpose()
            })
            .collect::<Result<_, _>>()
            .map_err(Into::into)
    }

    /// # Errors
    /// Where it can't be opened or read.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        io::Read::read_to_end(&mut self.open_file(name)?, &mut text)?;
        Ok(text)
    }

    /// For reading.
    ///
    /// # Errors
    /// Where it can't be opened.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.fd, name, flags, Mode::empty())?.into())
    }

    /// Puts what `change` makes of a file's bytes in their place, whole or not at all: for a manifest that has more to
    /// tell. From the reading to the writing nobody else changes it, so that of two changes at once none is lost.
    ///
    /// # Errors
    /// Where it can't be read, changed or written; the old one is there then.
    pub fn change(
        self: &Arc<Self>,
        name: &str,
        change: impl FnOnce(&[u8]) -> io::Result<Vec<u8>>,
    ) -> io::Result<()> {
        let _alone = self.lock()?;
        let changed = change(&self.read(name)?)?;
        let mut partial = self.partial(name.to_owned())?;
        partial.write_all(&changed)?;
        rustix::fs::renameat(&self.fd, &partial.hidden, &self.fd, name)?;
        partial.published = true;
        rustix::fs::fsync(&self.fd).map_err(Into::into)
    }

    /// Held for moments only: while names are chosen, left ones looked through, or a manifest is changed.
    fn lock(&self) -> io::Result<OwnedFd> {
        // A lock belongs to an open file: each holder needs its own.
        let fd = rustix::fs::openat(&self.fd, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        files::lock(&fd, PATIENCE)?;
        Ok(fd)
    }
}

impl Partial {
    /// Where it lies for now, for a program that reads it.
    pub fn path(&self) -> PathBuf {
        self.directory.path.join(&self.hidden)
    }

    /// # Errors
    /// Where it can't be written or brought to the disk.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_all()
    }

    fn rename(&mut self) -> io::Result<()> {
        let directory = &self.directory.fd;
        rustix::fs::renameat_with(directory, &self.hidden, directory, &self.name, RenameFlags::NOREPLACE)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published {
            // What can't be removed now is found by the next run.
            let _ = files::remove_file(&self.directory.fd, &self.hidden);
        }
    }
}

/// Gives complete files their names, in this order, and brings that to the disk. Nothing is overwritten.
///
/// # Errors
/// Where a name is taken; those published before are taken back.
pub fn publish(partials: Vec<Partial>) -> io::Result<()> {
    let mut done: Vec<Partial> = Vec::new();
    for mut partial in partials {
        partial.file.sync_all()?;
        if let Err(error) = partial.rename() {
            for published in &done {
                let _ = files::remove_file(&published.directory.fd, &published.name);
            }
            return Err(io::Error::new(
                error.kind(),
                format!("{} can't be published: {error}", partial.name),
            ));
        }
        done.push(partial);
    }
    done.first().map_or(Ok(()), |first| rustix::fs::fsync(&first.directory.fd).map_err(Into::into))
}

/// The name that a partial file is to have.
pub fn visible(hidden: &str) -> Option<&str> {
    let (name, owner) = hidden.strip_prefix('.')?.rsplit_once(PARTIAL)?;
    let (pid, number) = owner.split_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(pid) && digits(number)).then_some(name)
}

#[cfg(test)]
mod tests;
