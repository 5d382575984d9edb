//! What the plan is told and what it answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::JobTable;
use crate::ledger::{NewRow, PauseRecord, Place};
use crate::model::{JobName, Outcome, RunId, SkipReason};
use crate::schedule::Schedule;

/// What the plan knows of one row before the ledger has given it a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

#[derive(Debug)]
pub enum Event {
    /// The alarm rang, or something else woke the loop: look at the clock.
    Tick,
    /// The wall clock was set (the loop measured it against the time since boot): `back` tells how far back.
    ClockStepped {
        back: Option<Duration>,
    },
    /// So much time has passed at once: the clock was set forward, or the machine slept.
    Gap {
        of: Duration,
    },
    /// What the ledger answered to [`Decision::Claim`].
    Claimed {
        token: Token,
        run: RunId,
    },
    /// The ledger had that `(job, slot, epoch)` already: forget the token; nothing starts.
    AlreadyClaimed {
        token: Token,
    },
    /// A run has ended for good (all attempts).
    Ended {
        run: RunId,
        outcome: Outcome,
    },
    Reload(Arc<JobTable>),
    Pause {
        job: Option<JobName>,
        until: Option<Timestamp>,
    },
    Resume {
        job: Option<JobName>,
    },
    /// Answered by a `Claim` with this request, or a `Refuse`.
    Manual {
        job: JobName,
        request: u64,
        by: String,
        dry_run: bool,
    },
    Cancel {
        run: RunId,
    },
    /// The daemon stops taking slots.
    Stop,
}

#[derive(Debug, PartialEq)]
pub enum Decision {
    /// Write this row. `NewState::Started`: start the run as soon as the transaction is durable.
    Claim {
        token: Token,
        row: NewRow,
        request: Option<u64>,
    },
    /// A queued run's turn has come.
    Start {
        token: Token,
        run: RunId,
    },
    /// A queued run will not run after all; the plan has forgotten it.
    Drop {
        run: RunId,
        reason: SkipReason,
    },
    /// End a run: `replace`d by its next slot, or asked by a person. One that was queued is forgotten by the plan
    /// and never started: it only needs its end written.
    Cancel {
        run: RunId,
    },
    Refuse {
        request: u64,
        reason: RefuseReason,
    },
    /// Everything up to here has its row (in this batch).
    Accounted {
        until: Timestamp,
    },
    /// The clock was set back, from this instant: slots go on under this epoch, and the interval slots of these jobs
    /// come again.
    SetBack {
        from: Timestamp,
        epoch: u32,
        again: Vec<JobName>,
    },
    /// At start: the ledger's last instant lies in the future and is not believed. As a `SetBack` for what follows.
    BehindLedger {
        accounted: Timestamp,
        /// Up to where each slot has its row: rows alone can lie beyond, where others waited for their jitter.
        complete: Option<Timestamp>,
        epoch: u32,
    },
    /// At start: the ledger's last instant lies more than [`crate::policy::FAR`] ago.
    FarBehind {
        accounted: Timestamp,
    },
    /// Something that the operator should read in the daemon's log.
    Notice(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefuseReason {
    UnknownJob,
    RunsAlready(RunId),
    Stopping,
}

/// What the plan is told of the past when it begins.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Every slot up to here has its row.
    pub accounted: Option<Timestamp>,
    /// The schedules by which slots since then are judged: the table that was in force.
    pub past: Vec<PastJob>,
    /// When that table came into force.
    pub past_since: Option<Timestamp>,
    /// Runs that go on: adopted, to be rerun, queued, or of a living `run-now`.
    pub open: Vec<OpenRun>,
    /// Of jobs with open runs, as the last table that had them said.
    pub groups: HashMap<JobName, String>,
    pub pauses: Vec<PauseRecord>,
    pub epochs: Vec<(JobName, u32)>,
    /// The newest slot of each job that has a row, since the clock was last set back.
    pub slots: Vec<(JobName, Timestamp)>,
    /// For `after`: each job, and where in the order of all starts and successes its last ones are.
    pub last: Vec<(JobName, Option<Place>, Option<Place>)>,
    pub boot: Option<Timestamp>,
}

/// A job of the table that was in force; without those that were disabled.
#[derive(Debug)]
pub struct PastJob {
    pub job: JobName,
    pub kind: String,
    pub schedule: Option<Schedule>,
    /// Absent: not known; then slots shortly before the table came into force may be judged by it.
    pub jitter: Option<Duration>,
}

#[derive(Debug)]
pub struct OpenRun {
    pub run: RunId,
    pub job: JobName,
    pub slot: Option<Timestamp>,
    pub queued: bool,
    pub dry_run: bool,
    /// It has ended, of which the loop is about to tell: from then on it stands in no slot's way.
    pub ended_at: Option<Timestamp>,
    /// Where its success counts, if it is one: it ended before others began that are known.
    pub ended: Option<Place>,
}
