//! The live file of one job: opened with its first line, rotated by size, shared by the job's runs.
//!
//! Another process (`run-now` beside a daemon that starts) may write and rotate the same file: every write
//! looks at the file first, and rotating happens under a lock on it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};

use super::ecs::Source;
use super::line::Frame;
use super::{Format, Level, Settings, Shared, Stream, file_of, lock, rotated};
use crate::model::{JobName, RunId};

/// Bytes of lines that wait while the file can't be written; further ones are counted and dropped.
const WAITING: usize = 256 * 1024;

pub(super) struct JobFile {
    job: JobName,
    source: Source,
    shared: Arc<Shared>,
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    file: Option<File>,
    /// The file may not end with a line end: a full disk or a power cut broke its last line.
    broken: bool,
    /// Lines that could not be written yet.
    waiting: Lines,
    dropped: u64,
    in_trouble: bool,
}

/// Encoded lines, one after the other, and where each ends.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// Lines of one run, stream and instant.
pub(super) struct Entry<'a> {
    pub(super) run: RunId,
    pub(super) stream: Stream,
    pub(super) level: Level,
    pub(super) at: Timestamp,
    pub(super) texts: &'a [String],
}

impl JobFile {
    pub(super) fn new(job: JobName, shared: Arc<Shared>) -> Self {
        Self { source: Source::new(&job), job, shared, live: Mutex::default() }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn format(&self) -> Format {
        self.shared.settings().format
    }

    pub(super) fn job(&self) -> &str {
        self.job.as_str()
    }

    pub(super) fn directory(&self) -> &Path {
        &self.shared.directory
    }

    /// Writes the lines; those that can't be written wait for the next call, as many as memory should hold.
    pub(super) fn write(&self, entry: &Entry<'_>) -> Result<(), String> {
        let settings = self.shared.settings();
        let lines = self.encode(settings, entry);
        let live = &mut *lock(&self.live);
        let error = match self.write_all(live, settings, entry, &lines) {
            Ok(()) => {
                live.in_trouble = false;
                return Ok(());
            }
            Err((written, error)) => {
                live.hold_back(lines.after(written));
                error
            }
        };
        let error =
            format!("{}: the log can't be written: {error}", file_of(self.directory(), self.job()).display());
        if !std::mem::replace(&mut live.in_trouble, true) {
            tracing::error!("{error}; the job goes on, and its lines are tried again");
        }
        Err(error)
    }

    /// What waits, how much of it was lost, then the new lines; on an error, how many of those were written.
    fn write_all(
        &self,
        live: &mut Live,
        settings: Settings,
        entry: &Entry<'_>,
        lines: &Lines,
    ) -> Result<(), (usize, io::Error)> {
        if !live.waiting.ends.is_empty() {
            let waiting = std::mem::take(&mut live.waiting);
            if let Err((written, error)) = self.append(live, settings, &waiting) {
                live.waiting = waiting.after(written);
                return Err((0, error));
            }
        }
        if live.dropped > 0 {
            let text = format!("{} lines were lost while the log could not be written", live.dropped);
            let note = self.encode(
                settings,
                &Entry { stream: Stream::Note, level: Level::Warn, texts: &[text], ..*entry },
            );
            self.append(live, settings, &note).map_err(|(_, error)| (0, error))?;
            live.dropped = 0;
        }
        self.append(live, settings, lines)
    }

    fn encode(&self, settings: Settings, entry: &Entry<'_>) -> Lines {
        let Entry { run, stream, level, at, .. } = *entry;
        let frame = Frame::new(settings.format, &self.source, at, level, (run, stream));
        let mut lines = Lines::default();
        for text in entry.texts {
            frame.put(&mut lines.bytes, text);
            lines.ends.push(lines.bytes.len());
        }
        lines
    }

    /// One write(2) for all lines that fit the file, then the next file.
    fn append(&self, live: &mut Live, settings: Settings, lines: &Lines) -> Result<(), (usize, io::Error)> {
        let mut done = 0;
        while done < lines.ends.len() {
            let start = done.checked_sub(1).map_or(0, |last| lines.ends[last]);
            let size = self.ready(live, settings, lines.ends[done] - start).map_err(|error| (done, error))?;
            let room = usize::try_from(settings.max_size.saturating_sub(size)).unwrap_or(usize::MAX);
            let fitting = lines.ends[done..].partition_point(|end| end - start <= room).max(1);
            let end = lines.ends[done + fitting - 1];
            live.write_whole(&lines.bytes[start..end]).map_err(|(written, error)| {
                let whole = lines.ends[done..].partition_point(|end| end - start <= written);
                (done + whole, error)
            })?;
            done += fitting;
        }
        Ok(())
    }

    /// Sees to it that the live file is open and has room for a line; its size.
    fn ready(&self, live: &mut Live, settings: Settings, line: usize) -> io::Result<u64> {
        // More turns than one where another process rotates at the same time.
        for _ in 0..16 {
            if live.file.is_none() {
                let file = self.open()?;
                live.broken = !ends_whole(&file)?;
                live.file = Some(file);
            }
            let Some(file) = &live.file else { continue };
            let meta = file.metadata()?;
            if meta.nlink() == 0 {
                // Somebody deleted it: begin a new one.
                live.file = None;
                continue;
            }
            if meta.size() == 0 || meta.size() + line as u64 <= settings.max_size {
                return Ok(meta.size());
            }
            self.rotate(file, settings)?;
            live.file = None;
        }
        Err(io::Error::other("another process rotates it without end"))
    }

    fn open(&self) -> io::Result<File> {
        let path = file_of(self.directory(), self.job());
        let open = || OpenOptions::new().append(true).read(true).create(true).mode(0o640).open(&path);
        match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o750).create(self.directory())?;
                open()
            }
            other => other,
        }
    }

    fn rotate(&self, file: &File, settings: Settings) -> io::Result<()> {
        flock(file, FlockOperation::LockExclusive)?;
        let (directory, job) = (self.directory(), self.job());
        let live = file_of(directory, job);
        let mine = file.metadata()?;
        // Another process may have rotated it before the lock was ours.
        let same =
            std::fs::metadata(&live).is_ok_and(|meta| (meta.dev(), meta.ino()) == (mine.dev(), mine.ino()));
        if !same {
            return Ok(());
        }
        let keep = settings.max_files.max(1) - 1;
        // The oldest, and those of a time when more were kept.
        let mut number = keep.max(1);
        while remove(&rotated(directory, job, number))? {
            number += 1;
        }
        for number in (1..keep).rev() {
            rename(&rotated(directory, job, number), &rotated(directory, job, number + 1))?;
        }
        if keep == 0 {
            remove(&live)?;
            return Ok(());
        }
        rename(&live, &rotated(directory, job, 1))
    }
}

impl Drop for JobFile {
    fn drop(&mut self) {
        let settings = self.shared.settings();
        let mut live = std::mem::take(&mut *lock(&self.live));
        let waiting = std::mem::take(&mut live.waiting);
        if let Err((written, error)) = self.append(&mut live, settings, &waiting) {
            let lost = live.dropped + waiting.ends.len().saturating_sub(written) as u64;
            tracing::error!("{}: {lost} lines of its log are lost: {error}", self.job);
        }
        self.shared.forget(&self.job);
    }
}

impl Live {
    /// On an error, how many of the bytes were written.
    fn write_whole(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let Some(mut file) = self.file.as_ref() else { return Ok(()) };
        if self.broken {
            file.write_all(b"\n").map_err(|error| (0, error))?;
            self.broken = false;
        }
        let mut written = 0;
        while written < bytes.len() {
            match file.write(&bytes[written..]) {
                Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
                Ok(count) => {
                    written += count;
                    self.broken = bytes[written - 1] != b'\n';
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // Opened again for the next try: the folder may be another one by then.
                    self.file = None;
                    return Err((written, error));
                }
            }
        }
        Ok(())
    }

    fn hold_back(&mut self, lines: Lines) {
        let mut start = 0;
        for end in lines.ends {
            let line = &lines.bytes[start..end];
            start = end;
            if self.waiting.bytes.len() + line.len() > WAITING {
                self.dropped += 1;
                continue;
            }
            self.waiting.bytes.extend_from_slice(line);
            self.waiting.ends.push(self.waiting.bytes.len());
        }
    }
}

impl Lines {
    /// Without the first lines.
    fn after(mut self, lines: usize) -> Self {
        let Some(last) = lines.checked_sub(1) else { return self };
        let start = self.ends[last];
        self.bytes.drain(..start);
        self.ends.drain(..lines);
        self.ends.iter_mut().for_each(|end| *end -= start);
        self
    }
}

fn ends_whole(file: &File) -> io::Result<bool> {
    let size = file.metadata()?.len();
    let mut last = [b'\n'];
    if size > 0 {
        file.read_exact_at(&mut last, size - 1)?;
    }
    Ok(last == *b"\n")
}

/// Whether there was something to remove.
fn remove(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
