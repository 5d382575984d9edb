//! What the engine is told and asked, and what it answers.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::Gone;
use super::alerts::News;
use super::runner::{Held, RunEnd, RunSink};
use crate::config::JobTable;
use crate::ledger::{self, Owner, TableRecord};
use crate::logs::LogLine;
use crate::model::{JobName, Outcome, RunId};
use crate::spawner::Adoption;

/// What the engine is told.
pub(super) enum Message {
    /// The alarm rang or the clock was set: the loop looks at the clock with every message.
    Wake,
    BeginAttempt {
        run: RunId,
        number: u32,
        at: Timestamp,
        written: oneshot::Sender<()>,
    },
    AttemptEnded {
        run: RunId,
        number: u32,
        at: Timestamp,
        outcome: Outcome,
        error: Option<String>,
        held: Held,
    },
    Finished(RunEnd, Held),
    /// The living `run-now` that had this run is gone.
    ForeignGone {
        run: RunId,
    },
    /// What was found of it, and of others that have died like it.
    ForeignLeft {
        run: RunId,
        adoption: Adoption,
    },
    /// In a `run-now`: which program of it lives on.
    ForeignLives {
        run: RunId,
        program: Option<Owner>,
    },
    RunNow {
        job: String,
        dry_run: bool,
        by: String,
        reply: oneshot::Sender<Result<Accepted, Refusal>>,
    },
    Cancel {
        run: RunId,
        by: String,
        reply: oneshot::Sender<bool>,
    },
    Pause {
        job: Option<JobName>,
        until: Option<Timestamp>,
        by: String,
        done: oneshot::Sender<()>,
    },
    Resume {
        job: Option<JobName>,
        by: String,
        done: oneshot::Sender<()>,
    },
    Reload {
        table: Arc<JobTable>,
        record: TableRecord,
        by: String,
        done: oneshot::Sender<()>,
    },
    Note {
        kind: String,
        detail: serde_json::Value,
    },
    Status {
        reply: oneshot::Sender<Snapshot>,
    },
    Stop {
        end_programs: bool,
        grace: Duration,
        done: oneshot::Sender<()>,
    },
    /// Answered after a whole turn of the loop.
    Ping {
        reply: oneshot::Sender<()>,
    },
    GraceOver,
    News(News),
}

/// A manual run that was claimed.
pub struct Accepted {
    pub run: RunId,
    pub queued: bool,
    pub lines: UnboundedReceiver<LogLine>,
    pub ended: oneshot::Receiver<Ended>,
}

/// How a followed run ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub outcome: Outcome,
    pub reason: Option<String>,
    pub summary: Option<String>,
    pub error: Option<String>,
}

#[derive(Debug)]
pub enum Refusal {
    UnknownJob,
    RunsAlready(RunId),
    Stopping,
    NoDryRun {
        kind: &'static str,
    },
    /// What could not be written down must not run.
    Unwritten(String),
}

/// What the engine knows at one moment.
pub struct Snapshot {
    pub table: Arc<JobTable>,
    pub runs: Vec<SnapshotRun>,
    pub next: Option<(JobName, Timestamp)>,
    pub paused: Vec<ledger::PauseRecord>,
    /// Why rows wait in memory, where the ledger can't be written.
    pub ledger_problem: Option<String>,
    /// Those that are open, the oldest first.
    pub incidents: Vec<ledger::Incident>,
    /// Of each job of the table, in its order: its next slot.
    pub slots: Vec<Option<Timestamp>>,
}

pub struct SnapshotRun {
    pub run: RunId,
    pub job: JobName,
    pub started_at: Option<Timestamp>,
    pub attempt: u32,
    pub queued: bool,
}

/// The runners' way to the engine. A message that nobody takes any more belongs to a daemon that has ended; the
/// next one finds the run open.
pub(super) struct Outbox(pub(super) Sender<Message>);

#[async_trait::async_trait]
impl RunSink for Outbox {
    async fn attempt_started(&self, run: RunId, number: u32, at: Timestamp) -> Result<(), Gone> {
        let (written, done) = oneshot::channel();
        let _ = self.0.send(Message::BeginAttempt { run, number, at, written });
        done.await.map_err(|_| Gone)
    }

    fn attempt_ended(
        &self,
        run: RunId,
        number: u32,
        at: Timestamp,
        outcome: Outcome,
        error: Option<String>,
        held: Held,
    ) {
        let _ = self.0.send(Message::AttemptEnded { run, number, at, outcome, error, held });
    }

    fn finished(&self, end: RunEnd, held: Held) {
        let _ = self.0.send(Message::Finished(end, held));
    }
}
