//! Unpacks entries into an open folder, and never outside of it.
//!
//! Each step of a path is opened relative to the one before and never through a symbolic link, so that neither `..`,
//! nor an absolute name, nor a link that the archive itself made leads anywhere else. An archive that tries is refused
//! whole. Folders get their modes, owners and times at the very end.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::anyhow;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::manifest::{Entry, EntryKind, shown};
use super::reader::{Member, Reader, TarError};

pub(super) struct Unpacker {
    root: OwnedFd,
    /// The path in the archive that becomes the root.
    strip: Vec<Vec<u8>>,
    as_root: bool,
    /// Open folders, from the root down to where the last entry lies.
    chain: Vec<(Vec<u8>, OwnedFd)>,
    folders: HashMap<Vec<Vec<u8>>, Attributes>,
    /// Folders on the way to an entry, of which the archive may say nothing.
    made: Vec<Vec<Vec<u8>>>,
    owners: HashMap<Vec<u8>, Option<u32>>,
    groups: HashMap<Vec<u8>, Option<u32>>,
    /// What could not be restored as it was, though the file is there.
    pub(super) notes: Vec<String>,
}

/// What is set once a file's content is there.
struct Attributes {
    uid: u32,
    gid: u32,
    mode: u32,
    times: Timestamps,
    extended: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Unpacker {
    pub(super) fn new(root: OwnedFd, strip: &[u8]) -> Self {
        let strip = strip.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec);
        Self {
            root,
            strip: strip.collect(),
            as_root: rustix::process::geteuid().is_root(),
            chain: vec![],
            folders: HashMap::new(),
            made: vec![],
            owners: HashMap::new(),
            groups: HashMap::new(),
            notes: vec![],
        }
    }

    /// `entry`: what the manifest has of it, whose time is the more exact. Gives the hash of a regular file.
    pub(super) fn unpack<R: std::io::BufRead>(
        &mut self,
        reader: &mut Reader<R>,
        member: &Member,
        entry: Option<&Entry>,
        stop: &dyn Fn() -> Result<(), TarError>,
    ) -> Result<Option<super::manifest::Digest>, TarError> {
        let failed = |error: std::io::Error| taken(&member.path, &error.to_string());
        let refused = |why: String| taken(&member.path, &why);
        let parts = self.parts(&member.path).map_err(refused)?;
        let attributes = self.attributes(member, entry);
        let Some((name, above)) = parts.split_last() else {
            if member.kind != Some(EntryKind::Directory) {
                return Err(taken(&member.path, "stands where the folder itself belongs"));
            }
            self.folders.insert(parts, attributes);
            return Ok(None);
        };
        let folder = self.folder(above).map_err(refused)?.try_clone().map_err(failed)?;
        let kind = member.kind.unwrap_or(EntryKind::File);
        if kind == EntryKind::Directory {
            self.folder(&parts).map_err(refused)?;
            self.folders.insert(parts, attributes);
            return Ok(None);
        }
        // A later entry of the same name takes the place of the one before, as in tar -r.
        match rustix::fs::unlinkat(&folder, &**name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) => {
                return Err(taken(&member.path, "is a folder by an earlier entry"));
            }
            Err(error) => return Err(failed(error.into())),
        }
        match kind {
            EntryKind::File => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&folder, &**name, flags, Mode::RUSR | Mode::WUSR);
                let file = std::fs::File::from(file.map_err(|error| failed(error.into()))?);
                let digest = reader.content(member, |offset, bytes| {
                    stop()?;
                    write_at(&file, offset, bytes).map_err(failed)
                })?;
                let end = member.pieces.last().map_or(0, |(offset, length)| offset + length);
                if end < member.size {
                    file.set_len(member.size).map_err(failed)?;
                }
                self.set(&file, &attributes, &member.path).map_err(failed)?;
                return Ok(Some(digest));
            }
            EntryKind::HardLink => {
                let target = self.parts(&member.target).map_err(refused)?;
                let Some((to, above)) = target.split_last() else {
                    return Err(taken(&member.path, "is a hard link to the folder itself"));
                };
                let from = self.existing(above).map_err(refused)?;
                let linked = rustix::fs::linkat(from, &**to, &folder, &**name, AtFlags::empty());
                linked.map_err(|error| {
                    taken(&member.path, &format!("can't be linked to {}: {error}", shown(&member.target)))
                })?;
                return Ok(None);
            }
            EntryKind::Symlink => {
                rustix::fs::symlinkat(&*member.target, &folder, &**name)
                    .map_err(|error| failed(error.into()))?;
            }
            _ => {
                let (kind, device) = match kind {
                    EntryKind::CharacterDevice => (FileType::CharacterDevice, member.device),
                    EntryKind::BlockDevice => (FileType::BlockDevice, member.device),
                    _ => (FileType::Fifo, (0, 0)),
                };
                let device = rustix::fs::makedev(device.0, device.1);
                match rustix::fs::mknodat(&folder, &**name, kind, Mode::RUSR | Mode::WUSR, device) {
                    Err(Errno::PERM) => {
                        self.notes
                            .push(format!("{}: a device, which only root can make", shown(&member.path)));
                        return Ok(None);
                    }
                    other => other.map_err(|error| failed(error.into()))?,
                }
                let mode = Mode::from_raw_mode(attributes.mode);
                rustix::fs::chmodat(&folder, &**name, mode, AtFlags::empty())
                    .map_err(|error| failed(error.into()))?;
            }
        }
        if self.as_root {
            let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
            rustix::fs::chownat(&folder, &**name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| failed(error.into()))?;
        }
        let _ = rustix::fs::utimensat(&folder, &**name, &attributes.times, AtFlags::SYMLINK_NOFOLLOW);
        Ok(None)
    }

    /// Whether the archive says whose the root is to be.
    pub(super) fn names_root(&self) -> bool {
        self.folders.contains_key(&[][..])
    }

    /// Gives folders what they had, those within before those around them.
    pub(super) fn finish(mut self) -> Result<(OwnedFd, Vec<String>), TarError> {
        for parts in std::mem::take(&mut self.made) {
            if !self.folders.contains_key(&parts) {
                let failed = |why: String| taken(&parts.join(&b'/'), &why);
                let folder = self.existing(&parts).map_err(failed)?;
                rustix::fs::fchmod(folder, Mode::from_raw_mode(0o755))
                    .map_err(|error| failed(error.to_string()))?;
            }
        }
        let mut folders: Vec<_> = std::mem::take(&mut self.folders).into_iter().collect();
        folders.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        for (parts, attributes) in folders {
            let path = parts.join(&b'/');
            let folder = self.existing(&parts).map_err(|why| taken(&path, &why))?;
            let folder = folder.try_clone().map_err(|error| taken(&path, &error.to_string()))?;
            self.set(&folder, &attributes, &path).map_err(|error| taken(&path, &error.to_string()))?;
        }
        Ok((self.root, self.notes))
    }

    /// The steps of a path below the root.
    fn parts(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        if path.starts_with(b"/") {
            return Err("is an absolute name, which would leave the folder".to_owned());
        }
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err("leads out of the folder with `..`".to_owned()),
                _ if part.contains(&0) => return Err("has a zero byte in its name".to_owned()),
                _ => parts.push(part.to_vec()),
            }
        }
        if parts.len() < self.strip.len() || parts[..self.strip.len()] != self.strip {
            return Err("does not lie within the source that is restored".to_owned());
        }
        parts.drain(..self.strip.len());
        Ok(parts)
    }

    /// Makes what is missing of a folder's path.
    fn folder(&mut self, parts: &[Vec<u8>]) -> Result<&OwnedFd, String> {
        self.open(parts, true)
    }

    fn existing(&mut self, parts: &[Vec<u8>]) -> Result<&OwnedFd, String> {
        self.open(parts, false)
    }

    fn open(&mut self, parts: &[Vec<u8>], make: bool) -> Result<&OwnedFd, String> {
        let same = self.chain.iter().zip(parts).take_while(|((name, _), part)| name == *part).count();
        self.chain.truncate(same);
        for (depth, part) in parts.iter().enumerate().skip(same) {
            let at = self.chain.last().map_or(&self.root, |(_, fd)| fd);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = || rustix::fs::openat(at, &**part, flags, Mode::empty());
            let opened = match open() {
                Err(Errno::NOENT) if make => {
                    self.made.push(parts[..=depth].to_vec());
                    rustix::fs::mkdirat(at, &**part, Mode::RWXU).and_then(|()| open())
                }
                other => other,
            };
            let opened = opened.map_err(|error| match error {
                Errno::LOOP | Errno::NOTDIR => {
                    format!("leads through {}, which is a link or a file and no folder", shown(part))
                }
                error => format!("{}: {error}", shown(part)),
            })?;
            self.chain.push((part.clone(), opened));
        }
        Ok(self.chain.last().map_or(&self.root, |(_, fd)| fd))
    }

    fn attributes(&mut self, member: &Member, entry: Option<&Entry>) -> Attributes {
        let (seconds, nanoseconds) = entry.and_then(Entry::modified_parts).unwrap_or(member.modified);
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
        // A name means the same person on another host, a number may not.
        let uid = named(&mut self.owners, &member.owner, |name| {
            Some(nix::unistd::User::from_name(name).ok()??.uid.as_raw())
        });
        let gid = named(&mut self.groups, &member.group, |name| {
            Some(nix::unistd::Group::from_name(name).ok()??.gid.as_raw())
        });
        Attributes {
            uid: uid.unwrap_or(member.uid),
            gid: gid.unwrap_or(member.gid),
            mode: member.mode,
            times: Timestamps { last_access: time, last_modification: time },
            extended: member.attributes.clone(),
        }
    }

    fn set(&mut self, file: impl AsFd, attributes: &Attributes, path: &[u8]) -> std::io::Result<()> {
        let mut mode = attributes.mode;
        if self.as_root {
            let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
            rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        } else {
            // Who runs as its owner is to be the owner that it had.
            mode &= 0o1777;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        for (name, value) in &attributes.extended {
            if !self.as_root && !name.starts_with(b"user.") {
                continue;
            }
            if let Err(error) = rustix::fs::fsetxattr(&file, &**name, value, XattrFlags::empty()) {
                let note = format!("{}: its attribute {} can't be set: {error}", shown(path), shown(name));
                self.notes.push(note);
            }
        }
        rustix::fs::futimens(&file, &attributes.times)?;
        Ok(())
    }
}

fn taken(path: &[u8], why: &str) -> TarError {
    TarError::Taken(anyhow!("{}: {why}", shown(path)))
}

fn named(
    known: &mut HashMap<Vec<u8>, Option<u32>>,
    name: &[u8],
    look: impl Fn(&str) -> Option<u32>,
) -> Option<u32> {
    if name.is_empty() {
        return None;
    }
    if let Some(found) = known.get(name) {
        return *found;
    }
    let found = std::str::from_utf8(name).ok().and_then(look);
    known.insert(name.to_vec(), found);
    found
}

fn write_at(mut file: &std::fs::File, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::{Seek, SeekFrom};
    if file.stream_position()? != offset {
        file.seek(SeekFrom::Start(offset))?;
    }
    file.write_all(bytes)
}
