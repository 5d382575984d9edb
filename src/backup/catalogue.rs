//! Finds the backups under a folder, and deletes those that are to go.
//!
//! Descends as find(1) does, relative to open folders: never follows a symbolic link, never enters another file
//! system, never leaves the folder. A dump, its manifest and its roles are one backup. Files are not looked at
//! where their names say enough, so that a folder of 200 000 costs little more than reading its names.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::crypt;
use super::manifest::{FORMAT_VERSION, State};
use super::names::{self, MANIFEST_SUFFIX};
use super::pattern::Pattern;
use super::publish;
use super::retention::{Candidate, Standing};
use crate::host::files;

/// A folder with backups in it, or below the one that was asked about.
#[derive(Debug)]
pub struct Folder {
    /// Relative to the folder asked about; empty for itself.
    pub path: PathBuf,
    identity: (u64, u64),
    pub backups: Vec<Backup>,
}

#[derive(Debug)]
pub struct Backup {
    /// In the order in which they are deleted: the manifest first and the dump last, so that an end in the middle
    /// leaves a dump, which is found again, and no file without its dump.
    pub files: Vec<Box<[u8]>>,
    pub candidate: Candidate,
    /// Of its manifest, where it has one that can be understood.
    pub head: Option<Box<Head>>,
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Found {
    pub folders: Vec<Folder>,
    /// What was passed over although its name matches, or could not be looked at, and why.
    pub passed_over: Vec<PassedOver>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct PassedOver {
    pub path: PathBuf,
    pub why: String,
    /// Someone should look at it.
    pub trouble: bool,
}

/// # Errors
/// Where the folder itself can't be read, or the work was cancelled.
pub fn search(root: &OwnedFd, pattern: &Pattern, cancel: &CancellationToken) -> io::Result<Found> {
    let mut search =
        Search { pattern, cancel, device: rustix::fs::fstat(root)?.st_dev, found: Found::default() };
    search.folder(root.try_clone()?, PathBuf::new())?;
    Ok(search.found)
}

/// Opens a folder that a search found, by the same steps, and only if it still is the same.
///
/// # Errors
/// Where it was moved, replaced or removed since.
pub fn reopen(root: &OwnedFd, folder: &Folder) -> io::Result<OwnedFd> {
    let mut fd = root.try_clone()?;
    for part in &folder.path {
        fd = open_below(&fd, part)?;
    }
    let stat = rustix::fs::fstat(&fd)?;
    if (stat.st_dev, stat.st_ino) != folder.identity {
        return Err(io::Error::other("the folder was replaced while it was looked at"));
    }
    Ok(fd)
}

/// Deletes the files of a backup; the bytes that this frees.
///
/// # Errors
/// The file that stays, and why; those after it stay as well.
pub fn delete(folder: &OwnedFd, backup: &Backup) -> Result<u64, (String, io::Error)> {
    let mut bytes = 0;
    for name in &backup.files {
        let failed = |error: io::Error| (String::from_utf8_lossy(name).into_owned(), error);
        let stat = match rustix::fs::statat(folder, &**name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            other => other.map_err(|error| failed(error.into()))?,
        };
        if files::remove_file(folder, &**name).map_err(failed)? && stat.st_nlink <= 1 {
            bytes += u64::try_from(stat.st_size).unwrap_or(0);
        }
    }
    Ok(bytes)
}

struct Search<'a> {
    pattern: &'a Pattern,
    cancel: &'a CancellationToken,
    device: u64,
    found: Found,
}

/// The files of one stem in a folder.
#[derive(Default)]
struct Group {
    dumps: Vec<Box<[u8]>>,
    roles: Option<Box<[u8]>>,
    manifest: Option<Box<[u8]>>,
    /// A dump that the pattern doesn't name: what lies beside it is its own.
    other_dumps: bool,
    /// The roles or the manifest match the pattern by themselves.
    beside_matches: bool,
}

impl Search<'_> {
    fn folder(&mut self, fd: OwnedFd, path: PathBuf) -> io::Result<()> {
        let stat = rustix::fs::fstat(&fd)?;
        let identity = (stat.st_dev, stat.st_ino);
        // Groups in the order of the folder: deleting in this order is the fastest.
        let mut places: HashMap<Box<[u8]>, usize> = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        let mut below = Vec::new();
        let mut buffer = vec![MaybeUninit::uninit(); 256 << 10];
        let mut entries = RawDir::new(&fd, &mut buffer);
        while let Some(entry) = entries.next() {
            if self.cancel.is_cancelled() {
                return Err(io::Error::from(io::ErrorKind::Interrupted));
            }
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                kind = FileType::from_raw_mode(
                    rustix::fs::statat(&fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?.st_mode,
                );
            }
            match kind {
                FileType::RegularFile => {
                    let Some(stem) = self.stem(name) else { continue };
                    let place = match places.get(stem) {
                        Some(place) => *place,
                        None => {
                            places.insert(stem.into(), groups.len());
                            groups.push(Group::default());
                            groups.len() - 1
                        }
                    };
                    self.sort_in(&mut groups[place], name);
                }
                FileType::Directory => below.push(entry.file_name().to_owned()),
                FileType::Symlink if self.matches(name) => {
                    self.pass_over(
                        &path,
                        entry.file_name(),
                        "a symbolic link, which is never followed",
                        false,
                    );
                }
                _ if self.matches(name) => {
                    self.pass_over(&path, entry.file_name(), "not a regular file", false);
                }
                _ => {}
            }
        }
        drop(places);
        let backups = groups.into_iter().filter_map(|group| backup(&fd, group)).collect();
        self.found.folders.push(Folder { path: path.clone(), identity, backups });
        for name in below {
            let opened = open_below(&fd, &name).and_then(|fd| Ok((rustix::fs::fstat(&fd)?.st_dev, fd)));
            match opened {
                Err(error) => self.pass_over(&path, &name, &format!("can't be opened: {error}"), true),
                Ok((device, _)) if device != self.device => {
                    self.pass_over(&path, &name, "another file system, which is never entered", false);
                }
                Ok((_, fd)) => {
                    let below = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
                    match self.folder(fd, below) {
                        Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                            self.pass_over(&path, &name, &format!("can't be read: {error}"), true);
                        }
                        other => other?,
                    }
                }
            }
        }
        Ok(())
    }

    /// The stem under which a file counts; `None`: it is nothing to us.
    fn stem<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        let text = std::str::from_utf8(name).ok();
        if text.is_some_and(|name| publish::visible(name).is_some()) {
            return None;
        }
        match text {
            Some(text) if is_ours(text) => Some(names::stem_of(text).as_bytes()),
            _ => self.matches(name).then_some(name),
        }
    }

    /// An encrypted file counts as what it is inside.
    fn matches(&self, name: &[u8]) -> bool {
        self.pattern.matches(name)
            || name.strip_suffix(crypt::SUFFIX.as_bytes()).is_some_and(|inner| self.pattern.matches(inner))
    }

    fn sort_in(&self, group: &mut Group, name: &[u8]) {
        let matches = self.matches(name);
        if name.ends_with(MANIFEST_SUFFIX.as_bytes()) {
            group.manifest = Some(name.into());
            group.beside_matches |= matches;
        } else if std::str::from_utf8(name).is_ok_and(names::is_roles) {
            group.roles = Some(name.into());
            group.beside_matches |= matches;
        } else if matches {
            group.dumps.push(name.into());
        } else {
            group.other_dumps = true;
        }
    }

    fn pass_over(&mut self, folder: &Path, name: &CStr, why: &str, trouble: bool) {
        let path = folder.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        self.found.passed_over.push(PassedOver { path, why: why.to_owned(), trouble });
    }
}

/// Names that may belong to a backup of several files.
pub fn is_ours(name: &str) -> bool {
    name.ends_with(MANIFEST_SUFFIX) || names::stem_of(name) != name
}

fn open_below(folder: &OwnedFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?)
}

fn backup(folder: &OwnedFd, group: Group) -> Option<Backup> {
    let alone = group.dumps.is_empty();
    if alone && (group.other_dumps || !group.beside_matches) {
        return None;
    }
    let (candidate, head) = judge(folder, &group);
    let mut files = Vec::new();
    if !group.other_dumps {
        files.extend(group.manifest);
        files.extend(group.roles);
    }
    files.extend(group.dumps);
    Some(Backup { files, candidate, head })
}

/// The keys of a manifest that matter here; other kinds of backup have others beside them.
#[derive(Debug, Deserialize)]
pub struct Head {
    format_version: u32,
    /// Of an archive its name.
    #[serde(alias = "name")]
    pub database: Option<String>,
    pub job: Option<String>,
    pub started_at: Timestamp,
    pub file: String,
    pub bytes: Option<u64>,
    #[serde(default)]
    pub copies: Vec<Copied>,
    pub proof: Option<ProofHead>,
}

#[derive(Debug, Deserialize)]
pub struct ProofHead {
    pub state: String,
    #[serde(default)]
    pub suspect: Vec<String>,
    #[serde(default)]
    pub events: Vec<EventHead>,
}

#[derive(Debug, Deserialize)]
pub struct EventHead {
    pub state: String,
    pub seconds: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub struct Copied {
    pub to: String,
}

fn judge(folder: &OwnedFd, group: &Group) -> (Candidate, Option<Box<Head>>) {
    let name = group.dumps.first().or(group.roles.as_ref()).or(group.manifest.as_ref());
    let name = name.map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
    let by_name = database_in(&name).to_owned();
    // A database and an archive may have the same name: neither stands for the other.
    let kind = if names::is_archive(&name) { "archive " } else { "" };
    let fragment = group.dumps.is_empty();
    let head = group.manifest.as_ref().map(|manifest| read_manifest(folder, manifest, group)).transpose();
    let (head, time) = match head {
        Err(why) => (None, Err(why)),
        Ok(Some(head)) => {
            let time = head.started_at;
            (Some(Box::new(head)), Ok(time))
        }
        Ok(None) => (None, names::time_in(&name).map_or_else(|| modified(folder, group), Ok)),
    };
    let proof = head.as_ref().and_then(|head| head.proof.as_ref());
    let standing = match proof {
        _ if fragment => Standing::Fragment,
        Some(proof) if proof.state == State::Damaged.word() || !proof.suspect.is_empty() => {
            Standing::Doubtful
        }
        Some(proof) if proof.state == State::Verified.word() => Standing::Verified,
        _ => Standing::Unproven,
    };
    let database = head.as_ref().and_then(|head| head.database.clone()).unwrap_or(by_name);
    let database = if database.is_empty() { database } else { format!("{kind}{database}") };
    let time = time.map_err(Into::into);
    (Candidate { name: name.into(), database: database.into(), time, standing }, head)
}

/// The part of a name before its time; without a time nobody can tell, and all such count as one database.
fn database_in(name: &str) -> &str {
    if names::time_in(name).is_none() {
        return "";
    }
    let stem = names::stem_of(name);
    let numbered = stem.rfind("Z-").filter(|at| stem[at + 2..].bytes().all(|byte| byte.is_ascii_digit()));
    let stem = numbered.map_or(stem, |at| &stem[..=at]);
    stem.rsplit_once('-').map_or(stem, |(database, _)| database)
}

fn read_manifest(folder: &OwnedFd, name: &[u8], group: &Group) -> Result<Head, String> {
    let shown = String::from_utf8_lossy(name);
    let wrong = |why: &str| format!("its manifest {shown} {why}: look at it, or delete the backup by hand");
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut text = Vec::new();
    rustix::fs::openat(folder, name, flags, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|fd| File::from(fd).take(1 << 30).read_to_end(&mut text))
        .map_err(|error| wrong(&format!("can't be read ({error})")))?;
    let head: Head =
        serde_json::from_slice(&text).map_err(|error| wrong(&format!("can't be understood ({error})")))?;
    if head.format_version > FORMAT_VERSION {
        return Err(wrong(&format!(
            "has format_version {}, newer than this program knows",
            head.format_version
        )));
    }
    if !group.dumps.is_empty() && !group.dumps.iter().any(|dump| **dump == *head.file.as_bytes()) {
        return Err(wrong(&format!("is that of another file, {}", head.file)));
    }
    if let (Some(bytes), Some(dump)) = (head.bytes, group.dumps.first()) {
        let found = rustix::fs::statat(folder, &**dump, AtFlags::SYMLINK_NOFOLLOW);
        let found = found.ok().and_then(|stat| u64::try_from(stat.st_size).ok());
        if let Some(found) = found.filter(|found| *found != bytes) {
            return Err(wrong(&format!("says {bytes} bytes of {}, which has {found}", head.file)));
        }
    }
    Ok(head)
}

/// The newest change of the files that count.
fn modified(folder: &OwnedFd, group: &Group) -> Result<Timestamp, String> {
    let files = group.dumps.iter().chain(&group.roles).chain(&group.manifest);
    let mut newest: Result<Timestamp, String> = Err("it has no file".to_owned());
    for file in files.take(group.dumps.len().max(1)) {
        let stat = rustix::fs::statat(folder, &**file, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| format!("its time can't be read: {error}"))?;
        let time = Timestamp::new(stat.st_mtime, i32::try_from(stat.st_mtime_nsec).unwrap_or(0))
            .map_err(|error| format!("its time makes no sense: {error}"))?;
        newest = Ok(newest.map_or(time, |newest| newest.max(time)));
    }
    newest
}

#[cfg(test)]
mod tests;
