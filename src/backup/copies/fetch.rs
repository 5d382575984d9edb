//! Brings a copy back, into a scratch folder of its own, for whoever verifies or restores it.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::anyhow;
use rustix::fs::FlockOperation;

use super::{Destination, Head, bounded, trouble};
use crate::backup::names;
use crate::backup::work::{Trouble, Work};
use crate::host::files::{self, Space};
use crate::host::objects::{ObjectError, Store};
use crate::units::Size;

/// A copy that was brought back; gone with this.
pub struct Fetched {
    /// The dump; its manifest and its roles lie beside it.
    pub path: PathBuf,
    folder: Scratch,
}

/// A folder that is removed when it is dropped, or, after a crash, by the next one that is made: nobody holds its lock
/// then.
struct Scratch {
    path: PathBuf,
    /// Where the copy lies: not in the locked folder itself, which whoever records a proof in its manifest locks.
    files: PathBuf,
    _lock: std::os::fd::OwnedFd,
}

impl Fetched {
    pub fn folder(&self) -> &Path {
        &self.folder.files
    }
}

/// The place whose copy this address is, and the name of the file there; `None`: it is no address of a copy.
///
/// # Errors
/// Where it is one, and no job copies to that place, so that nothing opens it.
pub fn locate<'a>(
    url: &'a str,
    destinations: &'a [Destination],
) -> Result<Option<(&'a Destination, &'a str)>, Trouble> {
    if !url.starts_with("s3://") && !url.starts_with("file://") {
        return Ok(None);
    }
    let found = destinations.iter().find_map(|one| Some((one, one.place.name_of(url)?)));
    found.map(Some).ok_or_else(|| {
        let mut known: Vec<&str> = destinations.iter().map(|one| one.place.url.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        let known = if known.is_empty() { "no job has copy_to".to_owned() } else { known.join(", ") };
        Trouble::lasting(anyhow!("{url} is at no place that a job of this file copies to ({known})"))
    })
}

/// Brings the file, its manifest and its roles into a new folder (0700) under the state of this program, where there
/// is space for it.
///
/// # Errors
/// Where it isn't there, or can't be brought.
pub async fn fetch(work: &Work, destination: &Destination, name: &str) -> Result<Fetched, Trouble> {
    let store = Store::open(&destination.place).await.map_err(trouble)?;
    let url = destination.place.url_of(name);
    let there = bounded(work, store.list()).await.map_err(trouble)?;
    let Some(dump) = there.iter().find(|listed| listed.name == name) else {
        return Err(trouble(ObjectError::Absent { url }));
    };
    let mut wanted = vec![dump];
    let manifest = names::manifest_of(name);
    let head = match bounded(work, store.read(&manifest)).await.map_err(trouble)? {
        Some(text) => Head::parse(&text).ok(),
        None => None,
    };
    let beside = head
        .iter()
        .flat_map(|head| head.files().into_iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>());
    let beside: Vec<String> = beside.chain([manifest]).filter(|other| other != name).collect();
    wanted.extend(there.iter().filter(|listed| beside.contains(&listed.name)));

    let folder = Scratch::make(&work.state.join("fetched"))?;
    let bytes = wanted.iter().map(|listed| listed.bytes).sum::<u64>();
    let space = files::open_directory(&folder.files).and_then(Space::of);
    let free = space.map_err(|error| cant(&folder.files, &error))?.free;
    if bytes > free.saturating_sub(free / 20) {
        return Err(Trouble::lasting(anyhow!(
            "{url} is not fetched: it takes {}, and the file system of {} has {} free",
            Size(bytes),
            folder.files.display(),
            Size(free)
        )));
    }
    for listed in wanted {
        let path = folder.files.join(&listed.name);
        let made = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = made.map_err(|error| cant(&path, &error))?;
        let got =
            bounded(work, store.get(&listed.name, |piece| file.write_all(piece))).await.map_err(trouble)?;
        if got.bytes != listed.bytes {
            let reason = format!("{} bytes came of {}", got.bytes, listed.bytes);
            let url = destination.place.url_of(&listed.name);
            return Err(trouble(ObjectError::Failed { url, reason }));
        }
    }
    work.note(&format!("fetched {url} ({}) into {}", Size(bytes), folder.files.display()));
    Ok(Fetched { path: folder.files.join(name), folder })
}

impl Scratch {
    fn make(parent: &Path) -> Result<Self, Trouble> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(|error| cant(parent, &error))?;
        Self::clear(parent);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{}-{number}", std::process::id()));
        let files = path.join("copy");
        let opened = std::fs::DirBuilder::new().mode(0o700).create(&path).and_then(|()| {
            let fd = files::open_directory(&path)?;
            rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
            std::fs::DirBuilder::new().mode(0o700).create(&files)?;
            Ok(fd)
        });
        Ok(Self { _lock: opened.map_err(|error| cant(&path, &error))?, path, files })
    }

    fn clear(parent: &Path) {
        let Ok(entries) = std::fs::read_dir(parent) else { return };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let Ok(fd) = files::open_directory(&path) else { continue };
            if rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _ = std::fs::remove_dir_all(&path);
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn cant(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::passing(anyhow!("{} can't be made or used: {error}", path.display()))
}
