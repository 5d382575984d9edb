//! Where copies go: the buckets of S3 and of what speaks like it, and folders such as a mounted share.
//!
//! What is put there is there whole or not at all, and was compared with what was meant. Every wait is bounded, memory
//! doesn't grow with the size of a file, and what opens a store is read anew each time and never shown.

mod client;
mod error;
mod folder;
mod place;
mod s3;
mod uploads;

use std::fs::File;
use std::path::Path;

pub use error::ObjectError;
pub use place::{At, Place, Written, Wrong};

use folder::Folder;
use s3::Bucket;

/// A store that is open.
pub struct Store {
    place: Place,
    backend: Backend,
}

enum Backend {
    Bucket(Box<Bucket>),
    Folder(Folder),
}

/// A file, as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub bytes: u64,
    /// In hex.
    pub sha256: String,
}

/// What a store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub bytes: u64,
}

/// More than this is no manifest.
const SMALL: u64 = 64 << 20;

impl Store {
    /// Reads what opens it; nothing is asked yet.
    ///
    /// # Errors
    /// Where a secret can't be read, or the folder isn't there.
    pub async fn open(place: &Place) -> Result<Self, ObjectError> {
        let backend = match &place.at {
            At::Bucket(keys) => Backend::Bucket(Box::new(Bucket::open(place, keys, s3::PATIENT)?)),
            At::Folder(path) => Backend::Folder(Folder::open(place, path).await?),
        };
        Ok(Self { place: place.clone(), backend })
    }

    /// Whether it answers, and lets us in: without waiting for one that doesn't.
    ///
    /// # Errors
    /// Why it can't be used now.
    pub async fn probe(place: &Place) -> Result<(), ObjectError> {
        match &place.at {
            At::Bucket(keys) => Bucket::open(place, keys, s3::HASTY)?.probe().await,
            At::Folder(path) => Folder::open(place, path).await?.probe().await,
        }
    }

    /// Puts a file there and compares. What an earlier try has brought there is not sent again; `uploads` is where it
    /// is remembered.
    ///
    /// # Errors
    /// [`ObjectError`]; nothing has that name then that hadn't it before.
    pub async fn put(
        &self,
        name: &str,
        file: File,
        content: &Content,
        uploads: &Path,
    ) -> Result<(), ObjectError> {
        match &self.backend {
            Backend::Bucket(bucket) => bucket.put(name, file, content, uploads).await,
            Backend::Folder(folder) => folder.put(name, file, content).await,
        }
    }

    /// Puts a few bytes there, in the place of what has that name.
    ///
    /// # Errors
    /// [`ObjectError`]
    pub async fn put_small(&self, name: &str, bytes: Vec<u8>) -> Result<(), ObjectError> {
        match &self.backend {
            Backend::Bucket(bucket) => bucket.put_small(name, bytes).await,
            Backend::Folder(folder) => folder.put_small(name, bytes).await,
        }
    }

    /// Whether a file is there with this content.
    ///
    /// # Errors
    /// Where that can't be known.
    pub async fn has(&self, name: &str, content: &Content) -> Result<bool, ObjectError> {
        let found = match &self.backend {
            Backend::Bucket(bucket) => bucket.has(name, content).await,
            Backend::Folder(folder) => folder.has(name, content).await,
        };
        match found {
            Err(ObjectError::Absent { .. }) => Ok(false),
            other => other,
        }
    }

    /// Reads a small file; `None`: it isn't there.
    ///
    /// # Errors
    /// [`ObjectError`]
    pub async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, ObjectError> {
        let mut bytes = Vec::new();
        let url = self.place.url_of(name);
        let read = self.get(name, |piece| {
            if (bytes.len() + piece.len()) as u64 > SMALL {
                return Err(std::io::Error::other(format!("{url} is larger than {SMALL} bytes")));
            }
            bytes.extend_from_slice(piece);
            Ok(())
        });
        match read.await {
            Ok(_) => Ok(Some(bytes)),
            Err(ObjectError::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Hands on a file from its first byte to its last; what came.
    ///
    /// # Errors
    /// [`ObjectError`]; [`ObjectError::Absent`] where it isn't there.
    pub async fn get(
        &self,
        name: &str,
        each: impl FnMut(&[u8]) -> std::io::Result<()> + Send,
    ) -> Result<Content, ObjectError> {
        match &self.backend {
            Backend::Bucket(bucket) => bucket.get(name, each).await,
            Backend::Folder(folder) => folder.get(name, each).await,
        }
    }

    /// Everything that is there by name; nothing below it.
    ///
    /// # Errors
    /// [`ObjectError`]
    pub async fn list(&self) -> Result<Vec<Listed>, ObjectError> {
        match &self.backend {
            Backend::Bucket(bucket) => bucket.list().await,
            Backend::Folder(folder) => folder.list().await,
        }
    }

    /// What isn't there is no error.
    ///
    /// # Errors
    /// Where it stays.
    pub async fn delete(&self, name: &str) -> Result<(), ObjectError> {
        match &self.backend {
            Backend::Bucket(bucket) => bucket.delete(name).await,
            Backend::Folder(folder) => folder.delete(name).await,
        }
    }

    /// Clears what earlier tries have left there half-done, but for files of these names.
    ///
    /// # Errors
    /// Where something can't be cleared now.
    pub async fn clear(&self, wanted: &[String], uploads: &Path) -> Result<Vec<String>, ObjectError> {
        match &self.backend {
            Backend::Bucket(bucket) => bucket.clear(wanted, uploads).await,
            Backend::Folder(folder) => folder.clear().await,
        }
    }
}
