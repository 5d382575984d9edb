//! Makes tar of what `walk` finds, and a list of what went into it.
//!
//! A file's header says how long it is before its content is read: as many bytes follow, whatever becomes of the file
//! meanwhile. What is cut is filled with zeros, what is added is left out, and both are told.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::{FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use tar::EntryType;
use tokio_util::sync::CancellationToken;

use super::format::{Head, Writer};
use super::manifest::{Entry, EntryKind, Noted};
use super::reader::ContentHash;
use super::walk::{Found, Stop, Visit};

/// What was packed, and what there is to say of it.
#[derive(Default)]
pub(super) struct Packed {
    pub(super) entries: Vec<Entry>,
    pub(super) changed: Vec<Noted>,
    pub(super) vanished: Vec<Noted>,
    pub(super) unreadable: Vec<Noted>,
    pub(super) left_out: Vec<Noted>,
}

pub(super) struct Packer<'a, W> {
    writer: Writer<W>,
    packed: Packed,
    /// Files with more than one name, by device and inode: which entry has the content.
    linked: HashMap<(u64, u64), usize>,
    owners: HashMap<u32, Option<Arc<str>>>,
    groups: HashMap<u32, Option<Arc<str>>>,
    buffer: Vec<u8>,
    cancel: &'a CancellationToken,
}

/// More pieces than this, and the rest of the file is taken as one.
const PIECES: usize = 1 << 16;

impl<'a, W: Write> Packer<'a, W> {
    pub(super) fn new(out: W, cancel: &'a CancellationToken) -> Self {
        Self {
            writer: Writer::new(out),
            packed: Packed::default(),
            linked: HashMap::new(),
            owners: HashMap::new(),
            groups: HashMap::new(),
            buffer: vec![0; 256 << 10],
            cancel,
        }
    }

    pub(super) fn finish(self) -> Result<Packed, Stop> {
        self.writer.finish()?;
        Ok(self.packed)
    }

    fn entry(&mut self, path: &[u8], kind: EntryKind, stat: &Stat) -> Entry {
        let seconds = stat.st_mtime;
        let nanoseconds = i32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        Entry {
            // The root of the file system has no name of its own.
            path: if path.is_empty() { b".".as_slice().into() } else { path.into() },
            kind,
            size: 0,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            owner: self.owners.entry(stat.st_uid).or_insert_with_key(|uid| owner_name(*uid)).clone(),
            group: self.groups.entry(stat.st_gid).or_insert_with_key(|gid| group_name(*gid)).clone(),
            modified: Timestamp::new(seconds, nanoseconds).ok(),
            sha256: None,
            stored: None,
            target: None,
            device: None,
        }
    }

    fn head(
        &mut self,
        entry: &Entry,
        stat: &Stat,
        attributes: &[(Vec<u8>, Vec<u8>)],
        pieces: Option<&[(u64, u64)]>,
    ) -> Result<(), Stop> {
        let slash = [&entry.path, &b"/"[..]].concat();
        let head = Head {
            path: if entry.kind == EntryKind::Directory { &slash } else { &entry.path },
            kind: match entry.kind {
                EntryKind::File if pieces.is_some() => EntryType::GNUSparse,
                EntryKind::File => EntryType::Regular,
                EntryKind::Directory => EntryType::Directory,
                EntryKind::Symlink => EntryType::Symlink,
                EntryKind::HardLink => EntryType::Link,
                EntryKind::Fifo => EntryType::Fifo,
                EntryKind::CharacterDevice => EntryType::Char,
                EntryKind::BlockDevice => EntryType::Block,
            },
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            owner: entry.owner.as_deref(),
            group: entry.group.as_deref(),
            modified: stat.st_mtime,
            size: entry.size,
            target: entry.target.as_deref().unwrap_or_default(),
            device: entry.device,
            attributes,
            pieces,
        };
        self.writer.head(&head).map_err(Stop::Write)
    }

    fn file(&mut self, found: &Found<'_>) -> Result<(), Stop> {
        let (file, stat) = match open(found) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => {
                self.vanished(found.path, "was removed before it was read");
                return Ok(());
            }
            Err(Errno::LOOP) => {
                self.vanished(found.path, "was replaced by a symbolic link before it was read");
                return Ok(());
            }
            Err(error) => {
                self.unreadable(found.path, format!("can't be opened: {error}"));
                return Ok(());
            }
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            self.vanished(found.path, "was replaced by something that is no file before it was read");
            return Ok(());
        }
        let inode = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1
            && let Some(first) = self.linked.get(&inode)
        {
            let target = self.packed.entries[*first].path.clone();
            let mut entry = self.entry(found.path, EntryKind::HardLink, &stat);
            entry.target = Some(target);
            self.head(&entry, &stat, &[], None)?;
            self.packed.entries.push(entry);
            return Ok(());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let occupied = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        let pieces = if occupied < size { pieces(&file, size) } else { None };
        let attributes = attributes(&file);
        let mut entry = self.entry(found.path, EntryKind::File, &stat);
        entry.size = size;
        entry.stored = pieces.as_ref().map(|pieces| pieces.iter().map(|(_, length)| length).sum());
        self.head(&entry, &stat, &attributes, pieces.as_deref())?;
        entry.sha256 = Some(self.content(found.path, &file, size, pieces.as_deref())?);
        self.settle(found.path, &file, &stat);
        if stat.st_nlink > 1 {
            self.linked.insert(inode, self.packed.entries.len());
        }
        self.packed.entries.push(entry);
        Ok(())
    }

    fn content(
        &mut self,
        path: &[u8],
        file: &OwnedFd,
        size: u64,
        pieces: Option<&[(u64, u64)]>,
    ) -> Result<super::manifest::Digest, Stop> {
        let whole = [(0, size)];
        let pieces = pieces.unwrap_or(&whole);
        let mut hash = ContentHash::new(size, pieces);
        let mut stored = 0;
        let mut ended = false;
        for (offset, length) in pieces {
            let mut done = 0;
            while done < *length {
                if self.cancel.is_cancelled() {
                    return Err(Stop::Cancelled);
                }
                let wanted = self.buffer.len().min(usize::try_from(length - done).unwrap_or(usize::MAX));
                let read = if ended {
                    Ok(0)
                } else {
                    rustix::io::retry_on_intr(|| {
                        rustix::io::pread(file, &mut self.buffer[..wanted], offset + done)
                    })
                };
                let count = match read {
                    Ok(0) | Err(_) => {
                        ended = true;
                        if let Err(error) = read {
                            let at = offset + done;
                            self.unreadable(
                                path,
                                format!("can't be read from byte {at} on: {error}; zeros stand there"),
                            );
                        }
                        self.buffer[..wanted].fill(0);
                        wanted
                    }
                    Ok(count) => count,
                };
                let bytes = &self.buffer[..count];
                hash.content(offset + done, bytes);
                self.writer.content(bytes)?;
                done += count as u64;
            }
            stored += length;
        }
        self.writer.fill(stored)?;
        Ok(hash.finish())
    }

    /// Whether the file stayed as it was.
    fn settle(&mut self, path: &[u8], file: &OwnedFd, before: &Stat) {
        let Ok(after) = rustix::fs::fstat(file) else { return };
        let why = match after.st_size.cmp(&before.st_size) {
            std::cmp::Ordering::Greater => {
                format!(
                    "grew from {} to {} bytes while it was read; what was added is not in the archive",
                    before.st_size, after.st_size
                )
            }
            std::cmp::Ordering::Less => {
                format!(
                    "shrank from {} to {} bytes while it was read; zeros stand in the place of what was gone",
                    before.st_size, after.st_size
                )
            }
            std::cmp::Ordering::Equal
                if (after.st_mtime, after.st_mtime_nsec) != (before.st_mtime, before.st_mtime_nsec) =>
            {
                "was written to while it was read".to_owned()
            }
            std::cmp::Ordering::Equal => return,
        };
        self.packed.changed.push(Noted { path: path.to_vec(), why });
    }
}

impl<W: Write> Visit for Packer<'_, W> {
    fn found(&mut self, found: &Found<'_>) -> Result<(), Stop> {
        let stat = found.stat;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.file(found),
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            FileType::Fifo => EntryKind::Fifo,
            FileType::CharacterDevice => EntryKind::CharacterDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            _ => {
                self.left_out(found.path, "neither a file, a folder, a link nor a device");
                return Ok(());
            }
        };
        let mut entry = self.entry(found.path, kind, stat);
        match kind {
            EntryKind::Symlink => match rustix::fs::readlinkat(found.folder, found.name, vec![]) {
                Ok(target) => entry.target = Some(target.into_bytes().into()),
                Err(Errno::NOENT | Errno::INVAL) => {
                    self.vanished(found.path, "was removed before it was read");
                    return Ok(());
                }
                Err(error) => {
                    self.unreadable(found.path, error.to_string());
                    return Ok(());
                }
            },
            EntryKind::CharacterDevice | EntryKind::BlockDevice => {
                entry.device = Some((rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)));
            }
            _ => {}
        }
        let attributes = found.opened.map(attributes).unwrap_or_default();
        self.head(&entry, stat, &attributes, None)?;
        self.packed.entries.push(entry);
        Ok(())
    }

    fn left_out(&mut self, path: &[u8], why: &str) {
        self.packed.left_out.push(Noted { path: path.to_vec(), why: why.to_owned() });
    }

    fn vanished(&mut self, path: &[u8], why: &str) {
        self.packed.vanished.push(Noted { path: path.to_vec(), why: why.to_owned() });
    }

    fn unreadable(&mut self, path: &[u8], why: String) {
        self.packed.unreadable.push(Noted { path: path.to_vec(), why });
    }
}

/// Without a mark that it was read, where we may; never waits for a fifo that took the file's place.
fn open(found: &Found<'_>) -> Result<(OwnedFd, Stat), Errno> {
    let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if !found.follow {
        flags |= OFlags::NOFOLLOW;
    }
    let file = match rustix::fs::openat(found.folder, found.name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(found.folder, found.name, flags, Mode::empty()),
        other => other,
    }?;
    let stat = rustix::fs::fstat(&file)?;
    Ok((file, stat))
}

/// Where the file has content; `None`: the file system doesn't tell. Rounded to tar's blocks.
fn pieces(file: &OwnedFd, size: u64) -> Option<Vec<(u64, u64)>> {
    const BLOCK: u64 = super::format::BLOCK;
    let mut pieces: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    while at < size {
        let from = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(from) => from / BLOCK * BLOCK,
            Err(Errno::NXIO) => break,
            Err(_) => return None,
        };
        let until = rustix::fs::seek(file, SeekFrom::Hole(from.max(at))).ok()?;
        let until = if pieces.len() + 1 == PIECES { size } else { until };
        let until = until.checked_next_multiple_of(BLOCK).unwrap_or(size).min(size);
        if from >= size || until <= from {
            break;
        }
        match pieces.last_mut() {
            Some((offset, length)) if *offset + *length >= from => *length = until - *offset,
            _ => pieces.push((from, until - from)),
        }
        at = until;
    }
    // Small files are often stored in a way that counts no blocks.
    (pieces != [(0, size)]).then_some(pieces)
}

/// Extended attributes, access lists and capabilities among them; what can't be read is as if it were not there.
fn attributes(file: impl AsFd) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0; 4096];
    let length = match rustix::fs::flistxattr(&file, &mut names[..]) {
        Ok(0) => return vec![],
        Ok(length) => length,
        Err(Errno::RANGE) => {
            names.resize(64 << 10, 0);
            rustix::fs::flistxattr(&file, &mut names[..]).unwrap_or(0)
        }
        Err(_) => return vec![],
    };
    let mut found = Vec::new();
    let mut value = vec![0; 64 << 10];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let kept = name.starts_with(b"user.")
            || matches!(
                name,
                b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default"
            );
        if !kept || name.contains(&b'=') {
            continue;
        }
        if let Ok(length) = rustix::fs::fgetxattr(&file, name, &mut value[..]) {
            found.push((name.to_vec(), value[..length].to_vec()));
        }
    }
    found
}

fn owner_name(uid: u32) -> Option<Arc<str>> {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok()??;
    Some(user.name.into())
}

fn group_name(gid: u32) -> Option<Arc<str>> {
    let group = nix::unistd::Group::from_gid(nix::unistd::Gid::from_raw(gid)).ok()??;
    Some(group.name.into())
}
