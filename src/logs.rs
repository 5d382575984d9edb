//! A rotating file a job: each line with its time, run and stream. Blocking, never lossy.
//!
//! `<logs>/<job>.log`, then `<job>.log.1` (the newest rotated one) and so on; the live file counts among
//! `max_files`.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::model::{JobName, RunId};

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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub time: Timestamp,
    pub run: RunId,
    pub stream: Stream,
    pub text: String,
}

/// All log files of a daemon.
#[derive(Clone)]
pub struct Logs {}

impl Logs {
    pub fn new(_directory: &Path, _settings: Settings) -> Self {
        unimplemented!()
    }

    pub fn reconfigure(&self, _settings: Settings) {
        unimplemented!()
    }

    pub fn run(&self, _job: &JobName, _run: RunId) -> RunLog {
        unimplemented!()
    }
}

/// The log of one run. Cheap to clone; lines of several writers don't mix.
#[derive(Clone)]
pub struct RunLog {}

impl RunLog {
    /// Kept in memory, for tests of jobs.
    pub fn memory() -> Self {
        Self {}
    }

    /// A piece of a program's output, cut anywhere: whole lines are written, the rest waits for more.
    pub fn output(&self, _stream: Stream, _at: Timestamp, _bytes: &[u8]) {}

    /// Writes what waits for its line end.
    pub fn end_output(&self, _stream: Stream, _at: Timestamp) {}

    pub fn note(&self, _at: Timestamp, _text: &str) {}

    /// Every line from now on; the channel closes when the last clone of this log is dropped.
    pub fn follow(&self) -> UnboundedReceiver<LogLine> {
        unimplemented!()
    }

    /// How many lines of this stream the file holds for this run since the newest note that begins with
    /// `attempt `: where the output of an adopted program goes on.
    pub fn lines_logged(&self, _stream: Stream) -> u64 {
        0
    }

    /// The first error met while writing, taken: the run reports it as a finding.
    pub fn take_error(&self) -> Option<String> {
        None
    }
}

/// The lines of one run, or of the newest run in the files, oldest first.
///
/// # Errors
/// Where the folder or a file can't be read.
pub fn read_run(_directory: &Path, _job: &str, _run: Option<RunId>) -> std::io::Result<Vec<LogLine>> {
    unimplemented!()
}

pub fn file_of(directory: &Path, job: &str) -> PathBuf {
    directory.join(format!("{job}.log"))
}
