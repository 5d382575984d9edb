//! A rotating file a job: each line with its time, run and stream. Blocking, never lossy while the disk takes it.
//!
//! `<logs>/<job>.log`, then `<job>.log.1` (the newest rotated one) and so on; the live file counts among
//! `max_files`. A line of a text log is
//!
//! ```text
//! 2026-11-22T23:00:00.123Z 812 stdout| what the program printed
//! ```
//!
//! the time in UTC, the run, the stream (`stdout`, `stderr`, or `note  ` for what the scheduler and the job
//! itself say), and the text after `| `. A line of a JSON log is an object of the Elastic Common Schema
//! ([`ecs`]). A file may hold both, and JSON as an older version wrote it.
//!
//! A job can't forge a line, nor reach the terminal of who reads it: control characters other than the tab,
//! and those that reverse the direction of text, are written as `\x1b`, `\r`, `\u{202e}`; bytes that are not
//! UTF-8 as U+FFFD. Lines above 64 KiB are cut there, each piece but the last ending with ` […]`, each but the
//! first beginning with `[…] `.

mod daemon;
mod ecs;
mod file;
mod follow;
mod line;
mod read;
mod run;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{JobName, RunId};
use file::JobFile;

pub use daemon::{DaemonLog, worded};
pub use follow::{Follower, follow_file};
pub use line::{harmless, text_line};
pub use read::{last_lines, read_run, visit_run};
pub use run::RunLog;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub format: Format,
    /// Bytes of one file.
    pub max_size: u64,
    /// Files of one job, the live one included.
    pub max_files: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    Stdout,
    Stderr,
    /// What the scheduler and the job itself say.
    Note,
}

impl Stream {
    pub fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Note => "note",
        }
    }
}

/// Of a line in a JSON log. What a program prints is `Info`, on its standard error too: much of what is written there
/// is progress, and its exit says whether it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

impl Level {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub time: Timestamp,
    pub run: RunId,
    pub stream: Stream,
    pub text: String,
}

/// All log files of a daemon.
#[derive(Clone)]
pub struct Logs(Arc<Shared>);

pub(crate) struct Shared {
    directory: PathBuf,
    settings: Mutex<Settings>,
    /// Those with a run at this time.
    files: Mutex<HashMap<JobName, Weak<JobFile>>>,
}

impl Logs {
    pub fn new(directory: &Path, settings: Settings) -> Self {
        Self(Arc::new(Shared {
            directory: directory.to_owned(),
            settings: Mutex::new(settings),
            files: Mutex::new(HashMap::new()),
        }))
    }

    /// Holds from the next line on.
    pub fn reconfigure(&self, settings: Settings) {
        *lock(&self.0.settings) = settings;
    }

    /// The log of a run; touches no disk before its first line.
    pub fn run(&self, job: &JobName, run: RunId) -> RunLog {
        RunLog::to_file(self.file(job), run)
    }

    fn file(&self, job: &JobName) -> Arc<JobFile> {
        let mut files = lock(&self.0.files);
        let known = files.get(job).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let file = Arc::new(JobFile::new(job.clone(), self.0.clone()));
            files.insert(job.clone(), Arc::downgrade(&file));
            file
        })
    }
}

impl Shared {
    fn settings(&self) -> Settings {
        *lock(&self.settings)
    }

    /// Called as the last log of the job goes.
    fn forget(&self, job: &JobName) {
        let mut files = lock(&self.files);
        if files.get(job).is_some_and(|file| file.strong_count() == 0) {
            files.remove(job);
        }
    }
}

pub fn file_of(directory: &Path, job: &str) -> PathBuf {
    directory.join(format!("{job}.log"))
}

/// `<job>.log.<number>`; 0 is the live file.
fn rotated(directory: &Path, job: &str, number: u32) -> PathBuf {
    match number {
        0 => file_of(directory, job),
        number => directory.join(format!("{job}.log.{number}")),
    }
}

/// A writer that panicked leaves nothing half-changed behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
