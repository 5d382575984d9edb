//! The last lines of a run's log, as whoever is told of the run reads them.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::message::cut;
use crate::logs::{self, LogLine};
use crate::model::{JobName, RunId};

const LINES: usize = 20;
const LONGEST_LINE: usize = 500;

/// For all of it: 30 MiB of a slow disk take a while.
const PATIENCE: Duration = Duration::from_secs(10);
/// Logs that are read at once, each on a thread of its own; a disk that does not answer keeps no more than these.
static READERS: Semaphore = Semaphore::const_new(4);

/// Read when it is sent, off the engine's thread. One that can't be read is no reason to say nothing.
pub(super) async fn tail(logs: PathBuf, job: JobName, run: RunId) -> Vec<String> {
    tail_within(PATIENCE, logs, job, run).await
}

async fn tail_within(patience: Duration, logs: PathBuf, job: JobName, run: RunId) -> Vec<String> {
    let lines = tokio::time::timeout(patience, async {
        let reader = READERS.acquire().await.ok()?;
        let (sender, lines) = oneshot::channel();
        let read = move || {
            let lines = logs::last_lines(&logs, job.as_str(), Some(run), LINES).unwrap_or_default();
            drop(reader);
            // Nobody may wait any more.
            let _ = sender.send(lines);
        };
        // Outside of the runtime, which at its end would wait for its own.
        std::thread::Builder::new().name("tail".into()).spawn(read).ok()?;
        lines.await.ok()
    });
    let lines = lines.await.ok().flatten().unwrap_or_default();
    let shown = |line: &LogLine| {
        let time = line.time.to_zoned(jiff::tz::TimeZone::UTC).strftime("%H:%M:%SZ");
        format!("{time} {:<6}| {}", line.stream.word(), cut(&line.text, LONGEST_LINE))
    };
    lines.iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_does_not_answer_is_left_out_and_keeps_no_runtime() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let read = |patience| {
            let (logs, job) = (folder.path().to_owned(), JobName::new("x").unwrap());
            runtime.block_on(tail_within(patience, logs, job, RunId(1)))
        };
        for _ in 0..6 {
            assert_eq!(read(Duration::from_millis(20)), Vec::<String>::new());
        }
        assert_eq!(READERS.available_permits(), 0);
        // It answers again: each of them finds an end.
        let moved = folder.path().join("moved");
        std::fs::rename(&path, &moved).unwrap();
        while READERS.available_permits() < 4 {
            drop(std::fs::File::options().read(true).write(true).open(&moved).unwrap());
            std::thread::yield_now();
        }
        assert_eq!(read(Duration::from_secs(60)), Vec::<String>::new());
    }
}
