//! The writing side of a stream: in order, encrypted, hashed, never below the floor of the disk; and what the disk
//! gives back.

use std::fs::File;
use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use rustix::fs::Advice;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::{Compressed, StreamError, hex};
use crate::backup::crypt::Recipients;
use crate::host::files::Space;

/// How much is written before it is brought to the disk and read back: the end of a dump waits for no more.
const SYNC_EVERY: u64 = 32 << 20;

/// How often the disk is looked at while nothing is written.
const LOOK_EVERY: Duration = Duration::from_secs(2);

pub(super) fn write(
    file: &File,
    floor: u64,
    recipients: &Recipients,
    compressed: &Receiver<Receiver<Compressed>>,
    give_back: &SyncSender<Vec<u8>>,
    progress: &SyncSender<u64>,
) -> Result<(u64, String), StreamError> {
    let room = Room { file, floor };
    let mut sink = Sink { file, room, progress, hash: Sha256::new(), written: 0, announced: 0 };
    let whole = if recipients.is_empty() {
        pieces(compressed, room, give_back, &mut sink)
    } else {
        recipients.encrypt(&mut sink).and_then(|mut encrypted| {
            let whole = pieces(compressed, room, give_back, &mut encrypted)?;
            encrypted.finish()?;
            Ok(whole)
        })
    };
    match whole {
        Ok(true) => {
            let _ = progress.send(sink.written);
            Ok((sink.written, hex(&sink.hash.finalize())))
        }
        Ok(false) => Err(StreamError::Stopped),
        Err(error) => match error.get_ref().and_then(|error| error.downcast_ref()) {
            Some(Short { free }) => Err(StreamError::NoRoom { written: sink.written, free: *free }),
            None => Err(StreamError::Write { written: sink.written, error }),
        },
    }
}

/// Hands on each piece in its order; whether all came.
fn pieces(
    compressed: &Receiver<Receiver<Compressed>>,
    room: Room<'_>,
    give_back: &SyncSender<Vec<u8>>,
    to: &mut impl Write,
) -> std::io::Result<bool> {
    while let Some(next) = room.wait(compressed)? {
        let Some(Compressed { bytes, recycle }) = room.wait(&next)? else { return Ok(false) };
        to.write_all(&bytes)?;
        if recycle {
            let _ = give_back.send(bytes);
        }
    }
    Ok(true)
}

/// The file, as the bytes reach it.
struct Sink<'a> {
    file: &'a File,
    room: Room<'a>,
    progress: &'a SyncSender<u64>,
    hash: Sha256,
    written: u64,
    announced: u64,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.room.check(bytes.len() as u64)?;
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.written += count as u64;
        if self.written - self.announced >= SYNC_EVERY {
            self.announced = self.written;
            let _ = self.progress.send(self.written);
        }
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// The room that must be left on the file's disk.
#[derive(Clone, Copy)]
struct Room<'a> {
    file: &'a File,
    floor: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("{free} bytes are free")]
struct Short {
    free: u64,
}

impl Room<'_> {
    /// Whether so many bytes more may be written.
    fn check(self, more: u64) -> std::io::Result<()> {
        if self.floor == 0 {
            return Ok(());
        }
        let free = Space::of(self.file)?.free;
        if free < self.floor.saturating_add(more) {
            return Err(std::io::Error::other(Short { free }));
        }
        Ok(())
    }

    /// The next of what comes; `None`: no more will. Meanwhile others may fill the disk, and what this file has taken
    /// so far is what can be given back.
    fn wait<T>(self, from: &Receiver<T>) -> std::io::Result<Option<T>> {
        loop {
            match from.recv_timeout(LOOK_EVERY) {
                Ok(next) => return Ok(Some(next)),
                Err(RecvTimeoutError::Timeout) => self.check(0)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }
}

/// Brings what was written to the disk and reads it from there: what the page cache holds is dropped before, so
/// that it is the disk that answers (posix_fadvise(2): only clean pages are dropped, hence the sync).
pub(super) fn read_back(file: &File, progress: &Receiver<u64>) -> Result<(u64, String), StreamError> {
    let mut hash = Sha256::new();
    let mut at = 0;
    let mut buffer = vec![0; 256 << 10];
    for until in progress {
        rustix::fs::fdatasync(file)
            .map_err(|error| StreamError::Write { written: until, error: error.into() })?;
        let length = std::num::NonZeroU64::new(until - at);
        let _ = rustix::fs::fadvise(file, at, length, Advice::DontNeed);
        // To the very end: what lies beyond would be found too.
        loop {
            let wanted = usize::try_from(until - at).unwrap_or(usize::MAX).clamp(0, buffer.len());
            if wanted == 0 {
                break;
            }
            match rustix::io::pread(file, &mut buffer[..wanted], at) {
                Ok(0) => break,
                Ok(count) => {
                    hash.update(&buffer[..count]);
                    at += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(StreamError::ReadBack(error.into())),
            }
        }
    }
    let size = file.metadata().map_err(StreamError::ReadBack)?.len();
    Ok((size, hex(&hash.finalize())))
}
