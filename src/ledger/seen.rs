//! Whether the files of an open ledger are still its own: people delete, move and restore files, and disks fail.
//!
//! A few calls of stat(2) a write; what is in the files is read only where somebody else has changed them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::file::beside;

/// What is beside the ledger while it is open; without them its readers and ours would see different rows.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

#[derive(Debug)]
pub(super) struct Seen {
    ledger: Identity,
    beside: [Option<Identity>; 2],
    /// Size and time of the last change, in seconds and nanoseconds.
    change: (u64, i64, i64),
}

/// Device and inode.
type Identity = (u64, u64);

pub(super) enum Sight {
    Same,
    /// Somebody else has written into it.
    Changed,
    /// It is no longer where it was: what happened.
    Gone(String),
}

impl Seen {
    pub(super) fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        let beside = BESIDE.map(|part| identity(&beside(path, part)));
        Some(Self { ledger: (meta.dev(), meta.ino()), beside, change: change(&meta) })
    }

    pub(super) fn look(&mut self, path: &Path) -> Sight {
        let Ok(meta) = std::fs::symlink_metadata(path).and_then(|_| std::fs::metadata(path)) else {
            return Sight::Gone("the file was taken away while it was in use".to_owned());
        };
        if (meta.dev(), meta.ino()) != self.ledger {
            let what = if meta.is_dir() { "a directory" } else { "another file" };
            return Sight::Gone(format!("{what} was put into its place while it was in use"));
        }
        for (part, known) in BESIDE.iter().zip(&mut self.beside) {
            let now = identity(&beside(path, part));
            if known.is_some() && now != *known {
                return Sight::Gone(format!("its `{part}` file was taken away while it was in use"));
            }
            *known = now;
        }
        if change(&meta) == self.change {
            return Sight::Same;
        }
        self.change = change(&meta);
        Sight::Changed
    }

    /// It was we who wrote.
    pub(super) fn note_change(&mut self, path: &Path) {
        if let Ok(meta) = std::fs::metadata(path) {
            self.change = change(&meta);
        }
    }
}

fn identity(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

fn change(meta: &std::fs::Metadata) -> (u64, i64, i64) {
    (meta.size(), meta.mtime(), meta.mtime_nsec())
}
