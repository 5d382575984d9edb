//! Makes an archive: tar on one thread, through a pipe into `stream`, which stores it as it stores a dump.

use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use rustix::pipe::PipeFlags;
use tokio_util::sync::CancellationToken;

use super::exclude::Exclude;
use super::manifest::{EntryKind, KIND, Manifest};
use super::pack::{Packed, Packer};
use super::walk::{Found, Stop, Visit, Walk};
use crate::backup::codec::Compression;
use crate::backup::crypt::Recipients;
use crate::backup::earlier::{self, Archived};
use crate::backup::manifest::{FORMAT_VERSION, Proof};
use crate::backup::names::{self, MANIFEST_SUFFIX};
use crate::backup::publish::{self, Directory, Partial};
use crate::backup::room::{Expected, Room};
use crate::backup::stream::{self, Encoding, Source, Stored, StreamError};
use crate::backup::suspect;
use crate::backup::work::{Trouble, Work};
use crate::host::files::{self, Owner, Space};
use crate::units::Percent;

/// What to archive, and how.
#[derive(Clone, Debug)]
pub struct Order {
    pub name: String,
    pub sources: Vec<PathBuf>,
    pub exclude: Vec<Exclude>,
    /// As they were written.
    pub exclude_texts: Vec<String>,
    pub compression: Compression,
    pub level: u32,
    /// None: it is not encrypted.
    pub recipients: Recipients,
    /// What share of the file system must be free, the coming archive taken off.
    pub min_free: Percent,
}

/// A published archive.
#[derive(Debug)]
pub struct Made {
    pub manifest: Manifest,
    pub manifest_name: String,
}

/// Deep trees are gone through one call within another.
const STACK: usize = 64 << 20;

/// # Errors
/// [`Trouble`]; nothing is published then.
pub async fn make(work: &Work, order: Order, directory: &Arc<Directory>) -> Result<Made, Trouble> {
    let started_at = work.now();
    let cant = |what: &str, error: &io::Error| {
        Trouble::Passing(anyhow!("the directory {} can't be {what}: {error}", directory.path.display()))
    };
    let earlier = earlier::archives(directory, &order.name, started_at);
    let room = room(&order, &earlier, directory.fd()).map_err(|error| cant("looked at", &error))?;
    room.enough(&directory.path)?;
    let floor = room.floor();
    let stem = |number| names::stem(&order.name, started_at, number);
    let suffix = names::archive_suffix(order.compression, !order.recipients.is_empty());
    let partials =
        directory.partials(stem, &[&suffix, MANIFEST_SUFFIX]).map_err(|error| cant("written to", &error))?;
    let Ok([archive, mut manifest]) = <[Partial; 2]>::try_from(partials) else {
        return Err(Trouble::Passing(anyhow!("no file was made in {}", directory.path.display())));
    };
    let own = rustix::fs::fstat(directory.fd()).map_err(|error| cant("looked at", &error.into()))?;
    let own = (own.st_dev, own.st_ino);
    let file = archive.file.try_clone().map_err(Trouble::passing)?;
    let (packed, stored) = {
        let order = order.clone();
        threaded(work, move |stop, cancel| pack_and_store(&order, own, (&file, floor), stop, cancel)).await?
    }
    .map_err(|error| explain(directory, &room, error))?;
    if packed.entries.is_empty() {
        let why = packed.unreadable.first().map_or("the sources are empty".to_owned(), |first| {
            format!("/{}: {}", super::manifest::shown(&first.path), first.why)
        });
        return Err(Trouble::Passing(anyhow!("nothing was archived: {why}")));
    }
    let mut content = content(work, &order, &archive.name, started_at, packed, stored);
    content.proof.suspect = suspicions(&earlier, &content);
    let write = |partial: &mut Partial| {
        let mut out = BufWriter::with_capacity(256 << 10, &partial.file);
        content.write_to(&mut out)?;
        out.flush()?;
        drop(out);
        partial.file.sync_all()
    };
    write(&mut manifest)
        .map_err(|error| explain(directory, &room, StreamError::Write { written: 0, error }))?;
    let manifest_name = manifest.name.clone();
    publish::publish(vec![archive, manifest])
        .map_err(|error| Trouble::Passing(anyhow!("in {}: {error}", directory.path.display())))?;
    Ok(Made { manifest: content, manifest_name })
}

/// Runs on a thread that may block; ended when the work is cancelled, and when this future is dropped.
async fn threaded<T: Send + 'static>(
    work: &Work,
    task: impl FnOnce(Arc<stream::Stop>, &CancellationToken) -> T + Send + 'static,
) -> Result<T, Trouble> {
    struct StopOnDrop(Arc<stream::Stop>, CancellationToken);
    impl Drop for StopOnDrop {
        fn drop(&mut self) {
            self.1.cancel();
            self.0.stop();
        }
    }
    let cancel = work.cancel.child_token();
    let stop = StopOnDrop(stream::Stop::new().map_err(Trouble::passing)?, cancel.clone());
    let given = stop.0.clone();
    let mut working = tokio::task::spawn_blocking(move || task(given, &cancel));
    let worked = tokio::select! {
        worked = &mut working => worked,
        () = work.cancel.cancelled() => {
            drop(stop);
            working.await
        }
    };
    Ok(worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())))
}

fn pack_and_store(
    order: &Order,
    own: (u64, u64),
    (file, floor): (&std::fs::File, u64),
    stop: Arc<stream::Stop>,
    cancel: &CancellationToken,
) -> Result<(Packed, Stored), StreamError> {
    let (pipe, into) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| StreamError::Read(error.into()))?;
    std::thread::scope(|scope| {
        let packing = std::thread::Builder::new().stack_size(STACK);
        let packing = packing.spawn_scoped(scope, move || pack(order, own, into, cancel));
        let packing = packing.map_err(StreamError::Read)?;
        // A disk that doesn't answer is waited for until the attempt times out.
        let source = Source { pipe, stall: Duration::MAX, stop };
        let encoding = Encoding {
            compression: order.compression,
            level: order.level,
            recipients: &order.recipients,
            floor,
        };
        // Also closes the pipe, so that whoever writes to it ends.
        let stored = stream::store(source, file, encoding);
        let packed = packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (stored, packed) {
            (Ok(stored), Ok(packed)) => Ok((packed, stored)),
            (Err(error), _) => Err(error),
            (Ok(_), Err(Stop::Cancelled)) => Err(StreamError::Stopped),
            (Ok(_), Err(Stop::Write(error))) => Err(StreamError::Read(error)),
        }
    })
}

fn pack(order: &Order, own: (u64, u64), into: OwnedFd, cancel: &CancellationToken) -> Result<Packed, Stop> {
    let out = BufWriter::with_capacity(64 << 10, std::fs::File::from(into));
    let mut packer = Packer::new(out, cancel);
    let walk = Walk { exclude: &order.exclude, own: Some(own), cancel };
    for source in &order.sources {
        walk.source(source, &mut packer)?;
    }
    packer.finish()
}

fn content(
    work: &Work,
    order: &Order,
    file: &str,
    started_at: jiff::Timestamp,
    packed: Packed,
    stored: Stored,
) -> Manifest {
    let finished_at = work.now();
    Manifest {
        format_version: FORMAT_VERSION,
        kind: KIND.to_owned(),
        name: order.name.clone(),
        host: nix::unistd::gethostname()
            .map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned()),
        job: work.job.clone(),
        run: work.run.parse().unwrap_or(0),
        started_at,
        finished_at,
        sources: order.sources.iter().map(|source| source.to_string_lossy().into_owned()).collect(),
        exclude: order.exclude_texts.clone(),
        compression: order.compression,
        level: order.level,
        file: file.to_owned(),
        bytes: stored.bytes,
        uncompressed_bytes: stored.uncompressed_bytes,
        sha256: stored.sha256,
        files: packed.entries.iter().filter(|entry| entry.kind == EntryKind::File).count() as u64,
        changed: packed.changed,
        vanished: packed.vanished,
        unreadable: packed.unreadable,
        left_out: packed.left_out,
        encrypted_to: order.recipients.names(),
        copies: vec![],
        proof: Proof::written(
            finished_at,
            "every source was read to its end, and the file was read back from the disk with the same size and SHA-256",
        ),
        entries: packed.entries,
    }
}

/// What someone should look at before the archive is trusted.
pub(super) fn suspicions(earlier: &[Archived], new: &Manifest) -> Vec<String> {
    let before: Vec<(u64, u64)> = earlier.iter().map(|one| (one.files, one.uncompressed_bytes)).collect();
    let mut reasons = if before.is_empty() {
        vec![]
    } else {
        suspect::reasons_of_archive(&before, (new.files, new.uncompressed_bytes))
    };
    if let Some(first) = new.unreadable.first() {
        let more = match new.unreadable.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let first = super::manifest::shown(&first.path);
        reasons.push(format!("it lacks what could not be read: /{first}{more}"));
    }
    reasons
}

fn room(order: &Order, earlier: &[Archived], directory: impl AsFd) -> io::Result<Room> {
    let bytes = earlier::predicted_archive(earlier, order.compression);
    Room::of(order.min_free, Expected { what: "archive", bytes, seen: earlier.len() }, directory, None)
}

fn explain(directory: &Directory, room: &Room, error: StreamError) -> Trouble {
    let path = directory.path.display();
    let needed = || room.needed().unwrap_or_else(|| "no earlier archive says how much it takes".to_owned());
    match error {
        StreamError::NoRoom { written, free } => room.stopped(written, free, &directory.path, &needed()),
        StreamError::Write { written, error } if files::is_full(&error) => {
            let free = Space::of(directory.fd()).map_or(0, |space| space.free);
            Trouble::Passing(anyhow!(
                "no space is left in {path}: the archive stopped after {written} bytes with {free} bytes free; {}. The \
                 unfinished file was removed",
                needed()
            ))
        }
        StreamError::Write { written, error } => {
            Trouble::Passing(anyhow!("the archive in {path} can't be written after {written} bytes: {error}"))
        }
        StreamError::Stopped => Trouble::Passing(anyhow!("stopped")),
        other => Trouble::Passing(anyhow!("the archive in {path}: {other}")),
    }
}

/// What an archive would hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub files: u64,
    pub bytes: u64,
    pub unreadable: u64,
}

/// Goes through the sources and reads no file.
///
/// # Errors
/// Where it was cancelled, or where there is no room for the archive.
pub async fn measure(work: &Work, order: Order, own: &Path) -> Result<Size, Trouble> {
    let cant = |error: io::Error| {
        Trouble::Passing(anyhow!("the directory {} can't be looked at: {error}", own.display()))
    };
    let earlier = if files::open_directory(own).is_ok() {
        let (directory, _) = Directory::open(own, Owner::own(), 0o600).map_err(cant)?;
        earlier::archives(&directory, &order.name, work.now())
    } else {
        vec![]
    };
    let room = files::nearest_directory(own).and_then(|(_, fd)| room(&order, &earlier, fd)).map_err(cant)?;
    room.enough(own)?;
    let own = rustix::fs::stat(own).ok().map(|stat| (stat.st_dev, stat.st_ino));
    let task = move |_, cancel: &CancellationToken| {
        let mut measure = Measure::default();
        let walk = Walk { exclude: &order.exclude, own, cancel };
        order.sources.iter().try_for_each(|source| walk.source(source, &mut measure)).map(|()| measure.0)
    };
    threaded(work, task).await?.map_err(Trouble::passing)
}

#[derive(Default)]
struct Measure(Size);

impl Visit for Measure {
    fn found(&mut self, found: &Found<'_>) -> Result<(), Stop> {
        if rustix::fs::FileType::from_raw_mode(found.stat.st_mode) == rustix::fs::FileType::RegularFile {
            self.0.files += 1;
            let occupied = u64::try_from(found.stat.st_blocks).unwrap_or(0).saturating_mul(512);
            self.0.bytes += u64::try_from(found.stat.st_size).unwrap_or(0).min(occupied);
        }
        Ok(())
    }

    fn left_out(&mut self, _: &[u8], _: &str) {}

    fn vanished(&mut self, _: &[u8], _: &str) {}

    fn unreadable(&mut self, _: &[u8], _: String) {
        self.0.unreadable += 1;
    }
}
