//! Following a job's log as it grows, without a daemon: sleeps in inotify(7), survives rotation.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify;

use super::line::{decode, run_of};
use super::{LogLine, file_of, read};
use crate::model::RunId;

/// The last `lines` lines, or the whole newest run where `None`, then each further one until `each` breaks.
/// With `run`, of that run only.
///
/// # Errors
/// Where the folder or a file can't be read or watched.
pub fn follow_file(
    directory: &Path,
    job: &str,
    run: Option<RunId>,
    lines: Option<usize>,
    mut each: impl FnMut(LogLine) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut follower = Follower::new(directory, job)?;
    let mut begin = Beginning { lines, newest: run, ..Beginning::default() };
    let wanted = |line: &LogLine| run.is_none_or(|run| run == line.run);
    let _ = follower.read(&mut |line| {
        if wanted(&line) {
            begin.take(line);
        }
        ControlFlow::Continue(())
    })?;
    for line in begin.kept {
        if each(line).is_break() {
            return Ok(());
        }
    }
    loop {
        follower.wait()?;
        let read = follower.read(&mut |line| {
            if wanted(&line) { each(line) } else { ControlFlow::Continue(()) }
        })?;
        if read.is_break() {
            return Ok(());
        }
    }
}

/// What is shown of the lines that are there already.
#[derive(Default)]
struct Beginning {
    lines: Option<usize>,
    newest: Option<RunId>,
    seen: HashSet<RunId>,
    kept: VecDeque<LogLine>,
}

impl Beginning {
    fn take(&mut self, line: LogLine) {
        if let Some(lines) = self.lines {
            self.kept.push_back(line);
            if self.kept.len() > lines {
                self.kept.pop_front();
            }
            return;
        }
        if self.newest != Some(line.run) && self.seen.insert(line.run) {
            self.newest = Some(line.run);
            self.kept.clear();
        }
        if self.newest == Some(line.run) {
            self.kept.push_back(line);
        }
    }
}

/// Where in a job's files a reader stands.
pub struct Follower {
    directory: PathBuf,
    job: String,
    watch: OwnedFd,
    watched: Option<i32>,
    /// The file that is read, and the beginning of a line whose end isn't there yet.
    file: Option<File>,
    partial: Vec<u8>,
}

impl Follower {
    /// Stands before the oldest line that is kept.
    ///
    /// # Errors
    /// Where the folder can't be watched.
    pub fn new(directory: &Path, job: &str) -> io::Result<Self> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
        // A folder has a file a job: only what begins or takes a name is of interest, not each job's lines.
        let names =
            inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::ONLYDIR;
        inotify::add_watch(&watch, directory, names)?;
        Ok(Self {
            directory: directory.to_owned(),
            job: job.to_owned(),
            watch,
            watched: None,
            file: None,
            partial: Vec::new(),
        })
    }

    /// Every line that is there now and was not read before.
    ///
    /// # Errors
    /// Where a file can't be read.
    pub fn read(&mut self, each: &mut dyn FnMut(LogLine) -> ControlFlow<()>) -> io::Result<ControlFlow<()>> {
        loop {
            // Watched before it is read, so that no line falls between the two.
            self.watch_live();
            let files = read::open_all(&self.directory, &self.job)?;
            if self.read_file(each)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let next = match &self.file {
                Some(file) => next_after(file, files)?,
                None => files.into_iter().next(),
            };
            let Some(next) = next else { return Ok(ControlFlow::Continue(())) };
            self.file = Some(next);
            self.partial.clear();
        }
    }

    /// Sleeps until there may be something to read.
    ///
    /// # Errors
    /// Where inotify fails.
    pub fn wait(&mut self) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.watch, &mut space);
        let live = file_of(Path::new(""), &self.job);
        loop {
            match events.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes());
                    let ours = match name {
                        Some(name) => name.starts_with(live.as_os_str().as_encoded_bytes()),
                        None => true,
                    };
                    if ours {
                        return Ok(());
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn watch_live(&mut self) {
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVE_SELF;
        // Without a live file there is nothing to watch; its creation shows in the folder.
        let Ok(watched) = inotify::add_watch(&self.watch, file_of(&self.directory, &self.job), flags) else {
            return;
        };
        if let Some(before) = self.watched.replace(watched)
            && before != watched
        {
            // It is gone where the file was deleted.
            let _ = inotify::remove_watch(&self.watch, before);
        }
    }

    fn read_file(&mut self, each: &mut dyn FnMut(LogLine) -> ControlFlow<()>) -> io::Result<ControlFlow<()>> {
        let Some(mut file) = self.file.as_ref() else { return Ok(ControlFlow::Continue(())) };
        let mut space = vec![0; 64 * 1024];
        loop {
            let count = match file.read(&mut space) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if count == 0 {
                return Ok(ControlFlow::Continue(()));
            }
            for piece in space[..count].split_inclusive(|byte| *byte == b'\n') {
                self.partial.extend_from_slice(piece);
                let Some(whole) = self.partial.strip_suffix(b"\n") else { continue };
                let line = run_of(whole).and_then(|_| decode(whole));
                self.partial.clear();
                if let Some(line) = line
                    && each(line).is_break()
                {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
    }
}

/// The file that comes after one, of files in their order.
fn next_after(file: &File, mut files: Vec<File>) -> io::Result<Option<File>> {
    let mine = identity(file)?;
    for (place, other) in files.iter().enumerate() {
        if identity(other)? == mine {
            return Ok(files.into_iter().nth(place + 1));
        }
    }
    // It was rotated out of sight, or deleted by hand: then the older ones that are left were read already.
    let modified = file.metadata()?.modified()?;
    files.retain(|other| other.metadata().and_then(|meta| meta.modified()).is_ok_and(|time| time > modified));
    Ok(files.into_iter().next())
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let meta = file.metadata()?;
    Ok((meta.dev(), meta.ino()))
}
