//! Small files that runs leave for later runs, in one folder under one lock. Knows nothing of what is in them.
//!
//! What is in them is worth little after a reboot, so that nothing here waits for the disk.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::files;

pub(super) const FOLDER: &str = "health_check";
/// A file beyond this is none of ours.
const LARGEST: u64 = 1 << 20;
/// For the other process that has the files for the moment that a write takes.
const PATIENCE: Duration = Duration::from_millis(200);

/// The folder, locked: two runs at once must not lose each other's.
pub(super) struct Held(#[expect(dead_code, reason = "the lock goes with the descriptor")] OwnedFd);

pub(super) fn lock(folder: &Path) -> io::Result<Held> {
    fs::create_dir_all(folder)?;
    let folder = files::open_directory(folder)?;
    files::lock(&folder, PATIENCE)?;
    Ok(Held(folder))
}

/// `None` where there is no file yet.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut text = vec![];
    file.take(LARGEST).read_to_end(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

/// Replaces the file as a whole. Where that fails, as on a full disk, the old one stays.
pub(super) fn replace(path: &Path, written: &impl Serialize, _held: &Held) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let replaced = serde_json::to_vec(written)
        .map_err(io::Error::from)
        .and_then(|bytes| fs::write(&partial, bytes))
        .and_then(|()| fs::rename(&partial, path));
    replaced.inspect_err(|_| drop(fs::remove_file(&partial)))
}
