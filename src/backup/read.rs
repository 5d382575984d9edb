//! Reads a backup's file from its first byte to its last: decrypts, decompresses, hashes and counts on the way.
//!
//! What the file is, its first bytes say, not its name. Never judges: `verify` compares what is found here with what
//! should be.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::codec::Compression;
use super::count::{Counted, RowCounter};
use super::crypt::Identities;
use super::postgres::Format;
use super::stream::hex;

/// What a file is, as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub encrypted: bool,
    pub compression: Compression,
    /// `Custom`: an archive of pg_dump's, for pg_restore; anything else is text.
    pub format: Format,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    pub form: Form,
    /// Of the file.
    pub bytes: u64,
    /// Of the file's bytes, in hex.
    pub sha256: String,
    /// What it holds, decrypted and decompressed.
    pub uncompressed_bytes: u64,
    /// Of a custom dump nothing is counted here: only pg_restore can read it.
    pub counted: Counted,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("stopped")]
    Stopped,
    #[error("can't be read: {0}")]
    Read(io::Error),
    #[error("is encrypted, and no key was given to read it with")]
    NoKey,
    #[error("{0}")]
    Decrypt(String),
    /// After so many plain bytes: cut, or changed.
    #[error("breaks after {after} bytes of its content: {reason}")]
    Broken { after: u64, reason: String },
    /// Who was handed the content did not take it.
    #[error("what reads its content stopped reading: {0}")]
    Sink(io::Error),
}

/// A file that is about to be read.
pub struct Reading {
    content: Box<dyn BufRead + Send>,
    hashed: Arc<Mutex<Hashed>>,
    form: Form,
}

/// How far reading has come, for whoever shows it: bytes of the file.
pub type Progress = Arc<AtomicU64>;

const BUFFER: usize = 256 << 10;

impl Reading {
    /// # Errors
    /// [`ReadError`]
    pub fn open(file: File, keys: Option<&Identities>, progress: Progress) -> Result<Self, ReadError> {
        Self::of(Box::new(file), keys, progress)
    }

    /// As [`Self::open`], of anything that gives a file's bytes, such as a copy elsewhere.
    ///
    /// # Errors
    /// [`ReadError`]
    pub fn of(
        from: Box<dyn Read + Send>,
        keys: Option<&Identities>,
        progress: Progress,
    ) -> Result<Self, ReadError> {
        let hashed = Arc::new(Mutex::new(Hashed { hash: Sha256::new(), bytes: 0 }));
        let from = Hashing { from, hashed: hashed.clone(), progress };
        let mut raw: Box<dyn BufRead + Send> = Box::new(BufReader::with_capacity(BUFFER, from));
        let encrypted = begins_with(&mut raw, b"age-encryption.org/v1")?;
        if encrypted {
            let plain = keys.ok_or(ReadError::NoKey)?.decrypt(raw).map_err(ReadError::Decrypt)?;
            raw = Box::new(BufReader::with_capacity(BUFFER, plain));
        }
        let compression = if begins_with(&mut raw, &[0x1f, 0x8b])? {
            raw = Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(raw)));
            Compression::Gzip
        } else if begins_with(&mut raw, &[0x28, 0xb5, 0x2f, 0xfd])? {
            let decoder = zstd::stream::read::Decoder::with_buffer(raw).map_err(ReadError::Read)?;
            raw = Box::new(BufReader::with_capacity(BUFFER, decoder));
            Compression::Zstd
        } else {
            Compression::None
        };
        let format = if begins_with(&mut raw, b"PGDMP")? { Format::Custom } else { Format::Plain };
        Ok(Self { content: raw, hashed, form: Form { encrypted, compression, format } })
    }

    pub fn form(&self) -> Form {
        self.form
    }

    /// The content itself, for whoever reads it in another way, such as tar. Nothing is known then of how it ended.
    pub fn into_content(self) -> Box<dyn BufRead + Send> {
        self.content
    }

    /// The content, and what is known of the file's own bytes once the content was read to its end.
    pub fn into_parts(self) -> (Box<dyn BufRead + Send>, FileSum) {
        (self.content, FileSum(self.hashed))
    }

    /// Reads to the end and hands each piece of the content on. Blocks.
    ///
    /// # Errors
    /// [`ReadError`]; what was handed on until then may be of a damaged file.
    pub fn examine(
        mut self,
        cancel: &CancellationToken,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Examined, ReadError> {
        let counts = self.form.format == Format::Plain;
        let mut counter = RowCounter::default();
        let mut after = 0;
        loop {
            if cancel.is_cancelled() {
                return Err(ReadError::Stopped);
            }
            let piece = self.content.fill_buf().map_err(|error| broken(error, after))?;
            if piece.is_empty() {
                break;
            }
            if counts {
                counter.feed(piece);
            }
            each(piece).map_err(ReadError::Sink)?;
            let read = piece.len();
            after += read as u64;
            self.content.consume(read);
        }
        drop(self.content);
        let (bytes, sha256) = FileSum(self.hashed).finish();
        Ok(Examined { form: self.form, bytes, sha256, uncompressed_bytes: after, counted: counter.finish() })
    }
}

/// A file that can't be read says so with an error of the system; one that is damaged, with the decoder's.
fn broken(error: io::Error, after: u64) -> ReadError {
    if error.raw_os_error().is_some() {
        return ReadError::Read(error);
    }
    let reason = match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends in the middle: the file was cut".to_owned(),
        _ => error.to_string(),
    };
    ReadError::Broken { after, reason }
}

fn begins_with(from: &mut Box<dyn BufRead + Send>, bytes: &[u8]) -> Result<bool, ReadError> {
    // A buffer of this size is filled at once as far as the file goes.
    let head = from.fill_buf().map_err(|error| broken(error, 0))?;
    Ok(head.starts_with(bytes))
}

/// The size and the hash of a file that is being read.
pub struct FileSum(Arc<Mutex<Hashed>>);

impl FileSum {
    /// Of what was read until now; the hash is in hex.
    pub fn finish(self) -> (u64, String) {
        let mut hashed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (hashed.bytes, hex(&std::mem::take(&mut hashed.hash).finalize()))
    }
}

struct Hashed {
    hash: Sha256,
    bytes: u64,
}

struct Hashing {
    from: Box<dyn Read + Send>,
    hashed: Arc<Mutex<Hashed>>,
    progress: Progress,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        let mut hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        hashed.hash.update(&buffer[..count]);
        hashed.bytes += count as u64;
        self.progress.store(hashed.bytes, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
