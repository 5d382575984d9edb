//! A file in pieces on its way to a bucket, and what of it is there already: remembered in a small file of this
//! program's state, so that a later try goes on where one was cut, and so that nothing half-done stays there for ever.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::s3::to_hex;
use super::{Content, ObjectError};

/// Amazon takes 10 000 parts of at least 5 MiB, and some stores want them all alike.
const SMALLEST: u64 = 8 << 20;
const MOST_PARTS: u64 = 9_000;

/// An upload in parts that was begun.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Upload {
    /// Of the file there.
    pub(super) url: String,
    /// The store's name for it.
    pub(super) id: String,
    bytes: u64,
    sha256: String,
    part_size: u64,
    pub(super) parts: Vec<Part>,
}

/// A part that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    sha256: String,
    /// The store's name for it.
    pub(super) id: String,
}

pub(super) fn part_size(bytes: u64) -> u64 {
    bytes.div_ceil(MOST_PARTS).div_ceil(1 << 20).saturating_mul(1 << 20).max(SMALLEST)
}

impl Upload {
    pub(super) fn new(url: String, id: String, content: &Content, part_size: u64) -> Self {
        Self { url, id, bytes: content.bytes, sha256: content.sha256.clone(), part_size, parts: vec![] }
    }

    pub(super) fn continues(&self, content: &Content, part_size: u64) -> bool {
        (self.bytes, &self.sha256, self.part_size) == (content.bytes, &content.sha256, part_size)
    }

    pub(super) fn read(folder: &Path, url: &str) -> Option<Self> {
        let upload: Self = serde_json::from_slice(&std::fs::read(file(folder, url)).ok()?).ok()?;
        (upload.url == url).then_some(upload)
    }

    pub(super) fn all(folder: &Path) -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
        let texts = entries.filter_map(|entry| std::fs::read(entry.ok()?.path()).ok());
        texts.filter_map(|text| serde_json::from_slice(&text).ok()).collect()
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), ObjectError> {
        let path = file(folder, &self.url);
        let new = path.with_extension("new");
        let written = || {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            serde_json::to_writer(&mut file, self)?;
            std::fs::rename(&new, &path)
        };
        written().map_err(|error: io::Error| {
            ObjectError::file(format!("{} can't be written", path.display()), error)
        })
    }

    pub(super) fn forget(&self, folder: &Path) {
        // One that stays is found to be gone by the next run.
        let _ = std::fs::remove_file(file(folder, &self.url));
    }
}

impl Part {
    pub(super) fn new(digest: &[u8; 32], id: String) -> Self {
        Self { sha256: to_hex(digest), id }
    }

    pub(super) fn is(&self, digest: &[u8; 32]) -> bool {
        self.sha256 == to_hex(digest)
    }
}

fn file(folder: &Path, url: &str) -> PathBuf {
    folder.join(format!("{}.json", to_hex(&Sha256::digest(url)[..16])))
}

/// A file, piece by piece.
pub(super) struct Pieces {
    file: Arc<File>,
    pub(super) size: u64,
    at: u64,
    hash: Sha256,
}

pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: [u8; 32],
}

impl Pieces {
    pub(super) fn new(file: File, size: u64) -> Self {
        Self { file: Arc::new(file), size, at: 0, hash: Sha256::new() }
    }

    /// Reads and hashes away from the async threads; `None`: the end.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, ObjectError> {
        use std::os::unix::fs::FileExt;
        let (file, at, size, mut hash) = (Arc::clone(&self.file), self.at, self.size, self.hash.clone());
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
            let mut filled = 0;
            while filled < bytes.len() {
                match file.read_at(&mut bytes[filled..], at + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            bytes.truncate(filled);
            hash.update(&bytes);
            let digest = Sha256::digest(&bytes).into();
            Ok((Piece { bytes, digest }, hash))
        });
        let read = read.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let (piece, hash) =
            read.map_err(|error| ObjectError::file("the file to copy can't be read", error))?;
        self.at += piece.bytes.len() as u64;
        self.hash = hash;
        Ok((!piece.bytes.is_empty()).then_some(piece))
    }

    /// Whether what was read is what is meant to be sent.
    pub(super) fn finish(&self, content: &Content) -> Result<(), ObjectError> {
        let found = Content { bytes: self.at, sha256: to_hex(&self.hash.clone().finalize()) };
        if found == *content {
            return Ok(());
        }
        let text = |content: &Content| format!("{} bytes with SHA-256 {}", content.bytes, content.sha256);
        Err(ObjectError::Changed { expected: text(content), found: text(&found) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_small_as_the_store_allows() {
        for (bytes, expected) in [
            (0, 8 << 20),
            (1 << 30, 8 << 20),
            (70 << 30, 8 << 20),
            (80 << 30, 10 << 20),
            (5 << 40, 583 << 20),
        ] {
            assert_eq!(part_size(bytes), expected, "{bytes}");
            assert!(bytes.div_ceil(part_size(bytes)) <= MOST_PARTS);
        }
    }

    #[test]
    fn an_upload_is_remembered_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("uploads");
        let content = Content { bytes: 9, sha256: "ab".into() };
        let mut upload = Upload::new("s3://b/a.sql".into(), "id".into(), &content, 4);
        upload.parts.push(Part::new(&[7; 32], "etag".into()));
        upload.write(&folder).unwrap();
        let read = Upload::read(&folder, "s3://b/a.sql").unwrap();
        assert!(read.continues(&content, 4) && !read.continues(&content, 5));
        assert!(!read.continues(&Content { bytes: 9, sha256: "ac".into() }, 4));
        assert_eq!(read.parts, upload.parts);
        assert!(read.parts[0].is(&[7; 32]) && !read.parts[0].is(&[8; 32]));
        assert_eq!(Upload::all(&folder).len(), 1);
        read.forget(&folder);
        assert!(Upload::read(&folder, "s3://b/a.sql").is_none());
    }
}
