//! Carries a program's output into a file: counts, compresses, encrypts, hashes, writes, and reads back what was
//! written.
//!
//! Works on threads of its own with a fixed set of buffers, so that memory doesn't grow with the dump: one thread
//! reads and counts, two compress, one encrypts, hashes and writes in order, one brings what was written to the disk
//! and reads it again from there. Never names a file and never starts a program; what is encrypted never reaches the
//! disk in another form.

mod write;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::codec::{Codec, Compression};
use super::count::{Counted, RowCounter};
use super::crypt::Recipients;
use write::{read_back, write};

/// Where a dump comes from.
pub struct Source {
    /// The reading end of a pipe, ours alone.
    pub pipe: OwnedFd,
    /// How long the program may stay silent while we wait for it.
    pub stall: Duration,
    pub stop: Arc<Stop>,
}

/// What becomes of the bytes on their way.
#[derive(Clone, Copy, Debug)]
pub struct Encoding<'a> {
    pub compression: Compression,
    pub level: u32,
    /// None: they are not encrypted.
    pub recipients: &'a Recipients,
    /// Bytes that must stay free on the file system of the file, whoever uses them up.
    pub floor: u64,
}

/// What was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub bytes: u64,
    pub uncompressed_bytes: u64,
    /// SHA-256 of the file's bytes, in hex; what the disk gave back has the same.
    pub sha256: String,
    pub counted: Counted,
}

#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("stopped")]
    Stopped,
    #[error("no byte came for {}", crate::units::HumanDuration(*.0))]
    Stalled(Duration),
    #[error("its output can't be read: {0}")]
    Read(std::io::Error),
    #[error("can't be handed on while it is written: {0}")]
    Tee(std::io::Error),
    #[error("can't be compressed: {0}")]
    Compress(std::io::Error),
    /// After so many bytes.
    #[error("can't be written after {written} bytes: {error}")]
    Write { written: u64, error: std::io::Error },
    /// Less than the floor would be left, after so many bytes.
    #[error("was stopped after {written} bytes, with {free} bytes free on the disk")]
    NoRoom { written: u64, free: u64 },
    #[error("can't be read back: {0}")]
    ReadBack(std::io::Error),
    #[error("what was read back is not what was written: {expected} was written, the disk holds {found}")]
    Differs { expected: String, found: String },
}

/// Ends the work of a stream from another thread.
pub struct Stop {
    set: AtomicBool,
    event: OwnedFd,
}

impl Stop {
    /// # Errors
    /// Where no descriptor is left.
    pub fn new() -> std::io::Result<Arc<Self>> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(Self { set: AtomicBool::new(false), event }))
    }

    pub fn stop(&self) {
        self.set.store(true, Ordering::Release);
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }
}

const COMPRESSORS: usize = 2;
/// Blocks that are being filled, compressed or waiting: two for each compressor, one to fill.
const BLOCKS: usize = 2 * COMPRESSORS + 1;
/// Reads to the end of the source and stores it, compressed and encrypted, in `file`, which must be empty, readable
/// and writable. On return the bytes are on the disk and were read back from it. Blocks: not for async threads.
///
/// # Errors
/// [`StreamError`]; the file is then good for nothing.
pub fn store(source: Source, file: &File, encoding: Encoding<'_>) -> Result<Stored, StreamError> {
    store_and(source, file, encoding, |_| Ok(()))
}

/// As [`store`]; whatever comes is also written to `tee`, the writing end of a pipe: for a program that reads what
/// can't be read any more once it is encrypted.
///
/// # Errors
/// [`StreamError`]; [`StreamError::Tee`] where that program doesn't read on.
pub fn store_and_tee(
    source: Source,
    file: &File,
    encoding: Encoding<'_>,
    tee: OwnedFd,
) -> Result<Stored, StreamError> {
    let flags = rustix::fs::fcntl_getfl(&tee).map_err(|error| StreamError::Tee(error.into()))?;
    rustix::fs::fcntl_setfl(&tee, flags | OFlags::NONBLOCK)
        .map_err(|error| StreamError::Tee(error.into()))?;
    let (stop, stall) = (source.stop.clone(), source.stall);
    store_and(source, file, encoding, move |mut block| {
        while !block.is_empty() {
            match rustix::io::write(&tee, block) {
                Ok(count) => block = &block[count..],
                Err(Errno::AGAIN) => wait(PollFd::new(&tee, PollFlags::OUT), stall, &stop)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(StreamError::Tee(error.into())),
            }
            if stop.is_set() {
                return Err(StreamError::Stopped);
            }
        }
        Ok(())
    })
}

fn store_and(
    source: Source,
    file: &File,
    Encoding { compression, level, recipients, floor }: Encoding<'_>,
    tee: impl Fn(&[u8]) -> Result<(), StreamError>,
) -> Result<Stored, StreamError> {
    let (to_compress, blocks) = sync_channel::<Work>(BLOCKS);
    let blocks = &Mutex::new(blocks);
    let (in_order, written) = sync_channel::<Receiver<Compressed>>(BLOCKS);
    let (give_back, pool) = sync_channel::<Vec<u8>>(BLOCKS);
    let (progress, to_sync) = sync_channel::<u64>(1024);
    let stop = source.stop.clone();
    // A thread that fails ends the others: the reader may be waiting for a silent program.
    let failing = |error: StreamError| {
        stop.stop();
        error
    };
    let failing = &failing;
    for _ in 0..BLOCKS {
        let _ = give_back.send(vec![0; compression.block_size()]);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..if compression == Compression::None { 0 } else { COMPRESSORS })
            .map(|_| {
                let give_back = give_back.clone();
                scope.spawn(move || compress(compression, level, blocks, &give_back).map_err(failing))
            })
            .collect();
        let writer = scope
            .spawn(move || write(file, floor, recipients, &written, &give_back, &progress).map_err(failing));
        let reader_back = scope.spawn(move || read_back(file, &to_sync).map_err(failing));
        let read = read(&source, &pool, |block| {
            tee(&block)?;
            let (reply, compressed) = sync_channel(1);
            let sent = in_order.send(compressed).is_ok();
            let sent = match compression {
                Compression::None => sent && reply.send(Compressed { bytes: block, recycle: true }).is_ok(),
                _ => sent && to_compress.send(Work { block, reply }).is_ok(),
            };
            if sent { Ok(()) } else { Err(StreamError::Stopped) }
        });
        // The program beside has its end then.
        drop((to_compress, in_order, source, tee));
        let compressed = threads.into_iter().map(joined).collect::<Result<Vec<()>, _>>();
        let written = joined(writer);
        let found = joined(reader_back);
        // What failed first is what the others stopped for.
        let (uncompressed_bytes, counted) = match read {
            Err(StreamError::Stopped) => {
                compressed?;
                written?;
                found?;
                return Err(StreamError::Stopped);
            }
            other => other?,
        };
        compressed?;
        let (bytes, sha256) = written?;
        let found = found?;
        if found != (bytes, sha256.clone()) {
            let text = |(bytes, hash): (u64, String)| format!("{bytes} bytes with SHA-256 {hash}");
            return Err(StreamError::Differs { expected: text((bytes, sha256)), found: text(found) });
        }
        Ok(Stored { bytes, uncompressed_bytes, sha256, counted })
    })
}

/// Reads to the end of the source and only counts. Blocks.
///
/// # Errors
/// [`StreamError`]
pub fn count(source: Source) -> Result<(u64, Counted), StreamError> {
    let (give_back, pool) = sync_channel(1);
    let _ = give_back.send(vec![0; Compression::None.block_size()]);
    read(&source, &pool, |block| give_back.send(block).map_err(|_| StreamError::Stopped))
}

struct Work {
    block: Vec<u8>,
    reply: SyncSender<Compressed>,
}

struct Compressed {
    bytes: Vec<u8>,
    /// The buffer is one of the reader's blocks.
    recycle: bool,
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn read(
    source: &Source,
    pool: &Receiver<Vec<u8>>,
    mut send: impl FnMut(Vec<u8>) -> Result<(), StreamError>,
) -> Result<(u64, Counted), StreamError> {
    // A larger pipe saves the program and us most of the turns; where the limit for the user is reached, the
    // pipe works as it is.
    let _ = rustix::pipe::fcntl_setpipe_size(&source.pipe, 1 << 20);
    let flags = rustix::fs::fcntl_getfl(&source.pipe).map_err(|error| StreamError::Read(error.into()))?;
    rustix::fs::fcntl_setfl(&source.pipe, flags | OFlags::NONBLOCK)
        .map_err(|error| StreamError::Read(error.into()))?;
    let mut counter = RowCounter::default();
    let mut total = 0;
    loop {
        let mut block = pool.recv().map_err(|_| StreamError::Stopped)?;
        let size = block.capacity();
        block.resize(size, 0);
        let mut filled = 0;
        let mut ended = false;
        while filled < size && !ended {
            if source.stop.is_set() {
                return Err(StreamError::Stopped);
            }
            match rustix::io::read(&source.pipe, &mut block[filled..]) {
                Ok(0) => ended = true,
                Ok(count) => {
                    counter.feed(&block[filled..filled + count]);
                    filled += count;
                }
                Err(Errno::AGAIN) => {
                    wait(PollFd::new(&source.pipe, PollFlags::IN), source.stall, &source.stop)?;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(StreamError::Read(error.into())),
            }
        }
        block.truncate(filled);
        // An empty stream is one empty member: an empty file would not be a gzip file.
        if filled > 0 || total == 0 {
            send(block)?;
        }
        total += filled as u64;
        if ended {
            return Ok((total, counter.finish()));
        }
    }
}

/// Waits until the pipe is ready, or for the stop.
fn wait(pipe: PollFd<'_>, stall: Duration, stop: &Stop) -> Result<(), StreamError> {
    let timeout = Timespec::try_from(stall).ok();
    let mut fds = [pipe, PollFd::from_borrowed_fd(stop.event.as_fd(), PollFlags::IN)];
    match poll(&mut fds, timeout.as_ref()) {
        Ok(0) => Err(StreamError::Stalled(stall)),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(StreamError::Read(error.into())),
    }
}

fn compress(
    compression: Compression,
    level: u32,
    blocks: &Mutex<Receiver<Work>>,
    give_back: &SyncSender<Vec<u8>>,
) -> Result<(), StreamError> {
    let Some(mut codec) = Codec::new(compression, level).map_err(StreamError::Compress)? else {
        return Ok(());
    };
    loop {
        let next = blocks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Work { block, reply }) = next else { return Ok(()) };
        let mut bytes = Vec::new();
        codec.compress(&block, &mut bytes).map_err(StreamError::Compress)?;
        let _ = give_back.send(block);
        let _ = reply.send(Compressed { bytes, recycle: false });
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
