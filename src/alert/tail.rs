//! The last lines of a run's log, as whoever is told of the run reads them.

use std::path::PathBuf;

use super::message::cut;
use crate::logs::{self, LogLine};
use crate::model::{JobName, RunId};

const LINES: usize = 20;
const LONGEST_LINE: usize = 500;

/// Read when it is sent, off the engine's thread: a log of 30 MiB takes a while. One that can't be read is no reason
/// to say nothing.
pub(super) async fn tail(logs: PathBuf, job: JobName, run: RunId) -> Vec<String> {
    let read = move || logs::last_lines(&logs, job.as_str(), Some(run), LINES).unwrap_or_default();
    let lines = tokio::task::spawn_blocking(read).await.unwrap_or_default();
    let shown = |line: &LogLine| {
        let time = line.time.to_zoned(jiff::tz::TimeZone::UTC).strftime("%H:%M:%SZ");
        format!("{time} {:<6}| {}", line.stream.word(), cut(&line.text, LONGEST_LINE))
    };
    lines.iter().map(shown).collect()
}
