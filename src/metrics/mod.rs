//! What `/metrics` says: the engine's snapshot, what was heard of runs since the start, and what the ledger remembers of
//! the time before, as OpenMetrics text.
//!
//! Counters and histograms begin at 0 with the daemon; whatever says how a job stands comes from the ledger at once.
//! Changes nothing, holds nobody up: the engine's thread only notes what it tells, and a file system that does not answer
//! costs a scrape half a second. What jobs have left goes with them, so that the table bounds the number of series.

mod disks;
mod families;
mod hosts;
mod jobs;
mod look;
mod samples;
mod seen;
mod text;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use self::disks::{Disks, Files};
pub use self::families::{FAMILIES, Family, PREFIX, Type};
use self::seen::{Book, JobSeen};
pub use self::text::Form;
use crate::clock::Clock;
use crate::config::{Environment, JobTable};
use crate::engine::{Observer, Snapshot};
use crate::ledger::SqliteLedger;
use crate::model::{Channel, JobName};

/// For the ledger's past, by the first to ask; it takes milliseconds, of 10 000 jobs a second.
const REMEMBERING: Duration = Duration::from_secs(3);

/// A clone is the same one.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    environment: Environment,
    started_at: Timestamp,
    book: Book,
    disks: Disks,
    reload: Mutex<Reload>,
    remembered: watch::Sender<bool>,
}

#[derive(Clone, Copy, Debug)]
struct Reload {
    successful: bool,
    succeeded_at: Timestamp,
}

impl Metrics {
    pub fn new(clock: Arc<dyn Clock>, environment: Environment, started_at: Timestamp) -> Self {
        let reload = Mutex::new(Reload { successful: true, succeeded_at: started_at });
        let (book, disks, remembered) = (Book::default(), Disks::new(), watch::Sender::new(false));
        Self(Arc::new(Inner { clock, environment, started_at, book, disks, reload, remembered }))
    }

    /// For the engine.
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(self.0.book.clone())
    }

    /// Reads on a thread of its own how the jobs ended before this daemon.
    pub fn remember(&self, ledger: PathBuf) {
        let metrics = self.0.clone();
        let read = move || {
            let ends = SqliteLedger::open_beside(&ledger).and_then(|ledger| ledger.last_ends());
            match ends {
                Ok(ends) => metrics.book.remember(ends),
                Err(error) => tracing::warn!("{error}; metrics know nothing of the time before this start"),
            }
            metrics.remembered.send_replace(true);
        };
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(read);
        if let Err(error) = thread {
            tracing::warn!(
                "metrics know nothing of the time before this start: no thread to read it: {error}"
            );
            self.0.remembered.send_replace(true);
        }
    }

    /// A new table is in force.
    pub fn reloaded(&self, table: &JobTable) {
        self.0.book.keep_only(table);
        self.note(Reload { successful: true, succeeded_at: self.0.clock.now() });
    }

    /// A new table was refused.
    pub fn reload_refused(&self) {
        let succeeded_at = self.reload().succeeded_at;
        self.note(Reload { successful: false, succeeded_at });
    }

    /// All that there is to tell now. `waiting`: alerts that can't be delivered, by contact and channel.
    pub async fn scrape(&self, snapshot: Snapshot, waiting: Vec<(String, Channel, usize)>) -> Scrape {
        let inner = &self.0;
        let mut remembered = inner.remembered.subscribe();
        let _ = tokio::time::timeout(REMEMBERING, remembered.wait_for(|known| *known)).await;
        let files = inner.disks.look(&snapshot.table, &inner.environment, &inner.clock).await;
        let started_at = inner.started_at;
        let (now, seen, reload) = (inner.clock.now(), inner.book.copy(), self.reload());
        let jobs = Jobs::of(&snapshot);
        Scrape(Arc::new(Told { now, started_at, snapshot, jobs, seen, files, waiting, reload }))
    }

    fn reload(&self) -> Reload {
        *self.0.reload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, reload: Reload) {
        *self.0.reload.lock().unwrap_or_else(PoisonError::into_inner) = reload;
    }
}

/// As Prometheus counts time.
#[expect(clippy::cast_precision_loss, reason = "microseconds of this century are below 2^52")]
fn seconds(at: Timestamp) -> f64 {
    at.as_microsecond() as f64 / 1e6
}

/// One answer of `/metrics`, before it is text.
#[derive(Clone)]
pub struct Scrape(Arc<Told>);

struct Told {
    now: Timestamp,
    started_at: Timestamp,
    snapshot: Snapshot,
    jobs: Jobs,
    seen: HashMap<JobName, Arc<JobSeen>>,
    files: Files,
    waiting: Vec<(String, Channel, usize)>,
    reload: Reload,
}

/// What the snapshot says of each job.
struct Jobs {
    /// Runs that have begun, and that wait.
    runs: HashMap<JobName, [u64; 2]>,
    all_paused: bool,
    paused: Vec<String>,
}

impl Jobs {
    fn of(snapshot: &Snapshot) -> Self {
        let mut runs: HashMap<JobName, [u64; 2]> = HashMap::new();
        for run in &snapshot.runs {
            runs.entry(run.job.clone()).or_default()[usize::from(run.queued)] += 1;
        }
        let mut paused: Vec<String> = snapshot.paused.iter().filter_map(|pause| pause.job.clone()).collect();
        paused.sort_unstable();
        let all_paused = snapshot.paused.iter().any(|pause| pause.job.is_none());
        Self { runs, all_paused, paused }
    }

    fn is_paused(&self, job: &JobName) -> bool {
        self.all_paused || self.paused.binary_search_by(|one| one.as_str().cmp(job.as_str())).is_ok()
    }
}

impl Scrape {
    /// Writes the text, a piece at a time: that of thousands of jobs is never held whole.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write(&self, to: &mut dyn fmt::Write, form: Form) -> fmt::Result {
        text::write(self, to, form)
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").field("now", &self.0.now).finish_non_exhaustive()
    }
}
