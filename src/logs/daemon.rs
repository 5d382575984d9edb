//! What the daemon says of itself: `_daemon.log` beside the logs of the jobs, and the same line for elsewhere.
//!
//! No job can have that name: a job's begins with a letter or a digit.

use std::sync::Arc;

use jiff::Timestamp;

use super::file::JobFile;
use super::line::{Frame, harmless};
use super::run::RunLog;
use super::{Format, Level, Logs, Stream};
use crate::model::{JobName, RunId};

/// The daemon's own log.
pub struct DaemonLog {
    file: Arc<JobFile>,
    log: RunLog,
}

impl DaemonLog {
    pub fn new(logs: &Logs) -> Self {
        let file = logs.file(&JobName::daemon());
        Self { log: RunLog::to_file(file.clone(), RunId(0)), file }
    }

    /// Of the next line; a reload may change it.
    pub fn format(&self) -> Format {
        self.file.format()
    }

    /// Writes it to the file; a text of several lines becomes several.
    pub fn write(&self, at: Timestamp, level: Level, text: &str) {
        let text = match self.format() {
            Format::Text => worded(level, text),
            Format::Json => text.to_owned(),
        };
        self.log.note_with(at, [level; 2], &text);
    }

    /// As JSON, its lines as [`DaemonLog::write`] makes them.
    pub fn json(&self, at: Timestamp, level: Level, text: &str) -> Vec<u8> {
        let frame = Frame::new(Format::Json, self.file.source(), at, level, (RunId(0), Stream::Note));
        let mut out = Vec::new();
        for line in text.lines() {
            frame.put(&mut out, &harmless(line));
        }
        out
    }
}

/// With its level as a word, where nothing else says it.
pub fn worded(level: Level, text: &str) -> String {
    match level {
        Level::Error => format!("error: {text}"),
        Level::Warn => format!("warning: {text}"),
        Level::Info => text.to_owned(),
    }
}
