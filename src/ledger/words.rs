//! The words in which a ledger is told and asked: rows, changes, tables, events, and what has befallen a store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{Lost, SetAside};
use crate::model::{
    Channel, JobName, NoticeKind, Outcome, Report, RunId, RunRecord, Severity, SkipReason, Trigger,
};
use crate::schedule::{Schedule, recorded};

/// Who executes a run: enough to tell later whether that process still lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// `daemon` or `run-now`.
    pub role: String,
    /// /proc/sys/kernel/random/boot_id
    pub boot: String,
    pub pid: u32,
    /// Field 22 of /proc/PID/stat: with it a pid that was given out again is told apart.
    pub start_time: u64,
}

/// A new row.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRow {
    pub job: JobName,
    pub kind: String,
    pub trigger: Trigger,
    /// Nominal time; `None` for manual and `after` runs.
    pub slot: Option<Timestamp>,
    /// For a range row: the last slot it stands for, and how many (1 otherwise).
    pub slot_last: Option<Timestamp>,
    pub slots: u64,
    /// The clock epoch of the slot: one more after each set-back of the clock that repeats slots.
    pub epoch: u32,
    pub state: NewState,
    /// Who asked, for a manual run: `root (uid 0)`.
    pub requested_by: Option<String>,
    /// It only says what it would do.
    pub dry_run: bool,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewState {
    /// A run whose first attempt begins now, by the same transaction.
    Started,
    /// A run that waits for its turn (`outcome` running, no `started_at`, reason `queued`).
    Queued,
    Skipped(SkipReason),
}

/// One change. A batch of them is one transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    Claim(NewRow),
    /// A claim under a number that was given already: the run's program was told it. Only where another process has
    /// taken that number meanwhile, the row gets the next one above `above`.
    ClaimAs {
        run: RunId,
        above: RunId,
        row: NewRow,
    },
    /// An attempt begins (the first sets the run's `started_at` and clears its reason).
    AttemptStarted {
        run: RunId,
        number: u32,
        at: Timestamp,
    },
    AttemptEnded {
        run: RunId,
        number: u32,
        at: Timestamp,
        outcome: Outcome,
        error: Option<String>,
    },
    /// The run has ended. `attempt` ends with it where it is still open.
    Finished {
        run: RunId,
        at: Timestamp,
        outcome: Outcome,
        error: Option<String>,
        report: Option<Report>,
    },
    /// A queued run that will not run after all.
    Dropped {
        run: RunId,
        at: Timestamp,
        reason: SkipReason,
    },
    /// The run's program is known to have ended; how that is judged is written later. If it has succeeded, it counts
    /// from here on for those that come `after` it.
    EndKnown {
        run: RunId,
    },
    /// A queued or open run changes hands (a new daemon took it over).
    Adopted {
        run: RunId,
        owner: Owner,
    },
    /// Every slot up to and with this instant has its row.
    Accounted {
        until: Timestamp,
    },
    /// The clock was set back: the newest slots so far no longer tell where jobs go on, and interval slots come
    /// again under this epoch.
    SetBack {
        epoch: u32,
    },
    /// The table in force from now on.
    Table(TableRecord),
    Event(Event),
    /// `job` absent: every job. Replaces an earlier pause of the same scope.
    Pause {
        job: Option<JobName>,
        since: Timestamp,
        until: Option<Timestamp>,
        by: String,
    },
    Resume {
        job: Option<JobName>,
    },
    /// Opens the incident of its job and check, or replaces it.
    Incident(Incident),
    /// It is forgotten.
    IncidentGone {
        job: JobName,
        check: Option<String>,
    },
    /// Somebody is to be told. One that is there already, by its `id`, stays as it is.
    Notice(Notice),
    /// It was delivered, or given up.
    NoticeDone {
        id: String,
    },
}

/// A job that is failing, or one check of a job; kept for a while after its end, in case it comes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    pub job: JobName,
    /// The check of that job; none: the job itself.
    pub check: Option<String>,
    pub severity: Severity,
    /// When the first run of it ended.
    pub opened_at: Timestamp,
    /// That run.
    pub run: RunId,
    /// Runs that have failed since, the first one included.
    pub failures: u64,
    /// Why the newest of them failed.
    pub reason: Option<String>,
    /// When somebody was last told that it fails; none: nobody was.
    pub told_at: Option<Timestamp>,
    /// When it opened of late, oldest first; this time is the last.
    pub openings: Vec<Timestamp>,
    /// It comes and goes: nobody is told of that until it is steady.
    pub flapping: bool,
    /// When it ended; none: it is open.
    pub closed_at: Option<Timestamp>,
}

impl Incident {
    /// That of a job, as its first failure opens it; nobody was told yet.
    pub fn of_job(job: JobName, run: RunId, opened_at: Timestamp) -> Self {
        Self {
            job,
            check: None,
            severity: Severity::Critical,
            opened_at,
            run,
            failures: 1,
            reason: None,
            told_at: None,
            openings: vec![opened_at],
            flapping: false,
            closed_at: None,
        }
    }
}

/// What one contact is still to be told by one channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Names it for ever, beyond this ledger: a message that comes twice has it twice.
    pub id: String,
    pub at: Timestamp,
    pub job: JobName,
    pub run: RunId,
    /// By the name in jobs.yaml: where it leads is looked up when it is sent.
    pub contact: String,
    pub channel: Channel,
    pub kind: NoticeKind,
    /// What the message is made of.
    pub story: serde_json::Value,
}

/// What became of a write, in the order of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Done,
    Claimed(RunId),
    /// `(job, slot, epoch)` has its row already: nothing was written, nothing must be started.
    ///
    /// Rows of a future that did not come (the clock was ahead, and was then set back) don't count: where every
    /// row of the slot is `skipped` and was claimed later than this claim's `at`, the claim is taken under the
    /// slot's next free epoch.
    AlreadyClaimed(RunId),
}

/// A table of jobs as it was in force, so that a past slot is judged by the schedule of its day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableRecord {
    pub in_force_from: Timestamp,
    /// SHA-256 of the file's text, in hex.
    pub hash: String,
    /// The UTC offset changes of each zone as the tz database told them then: `(instant, seconds east)`,
    /// beginning with the one in force.
    pub zones: BTreeMap<String, Vec<(Timestamp, i32)>>,
    pub jobs: Vec<TableJob>,
}

impl TableRecord {
    /// The zones of this table as they were known then. One that can't be told any more is missing.
    pub fn zones_then(&self) -> BTreeMap<&str, TimeZone> {
        let names: BTreeSet<&str> = self.jobs.iter().map(|job| job.timezone.as_str()).collect();
        let then = |name: &str| recorded(name, self.zones.get(name).map_or(&[], Vec::as_slice));
        names.into_iter().filter_map(|name| Some((name, then(name)?))).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableJob {
    pub job: JobName,
    pub kind: String,
    /// The expressions as written; none for a manual job.
    pub schedule: Vec<String>,
    pub timezone: String,
    pub enabled: bool,
    /// How far its slots could be delayed.
    #[serde(default)]
    pub jitter: Duration,
    /// Runs of jobs that are gone hold it until they end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl TableJob {
    /// `None` for a job that had no slots: disabled, manual, or written in a way that this program can't read.
    pub fn schedule_then(&self, zones: &BTreeMap<&str, TimeZone>) -> Option<Schedule> {
        if !self.enabled || self.schedule.is_empty() {
            return None;
        }
        let zone = zones.get(self.timezone.as_str()).cloned().unwrap_or(TimeZone::UTC);
        Schedule::parse(&self.schedule, &zone, self.job.as_str()).ok()
    }
}

/// Something that explains the rows around it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub at: Timestamp,
    /// `daemon_started`, `daemon_stopped`, `clock_stepped`, `reloaded`, `reload_refused`, `paused`, `resumed`, …
    pub kind: String,
    pub detail: serde_json::Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRecord {
    /// Absent: every job.
    pub job: Option<String>,
    pub since: Timestamp,
    pub until: Option<Timestamp>,
    pub by: String,
}

/// A run that has no end yet.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenRun {
    pub record: RunRecord,
    pub epoch: u32,
    pub owner: Owner,
    /// Waits for its turn: no attempt was begun.
    pub queued: bool,
    pub dry_run: bool,
    /// Somebody was told that it is to be ended.
    pub cancel_asked: bool,
}

/// Which rows `history` asks for; newest first.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub job: Option<String>,
    pub outcome: Option<Outcome>,
    /// Rows whose slot, or start where they have none, is not before this.
    pub since: Option<Timestamp>,
    pub limit: Option<usize>,
}

/// What the engine must know of the past when it starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    /// Every slot up to here has its row; `None` in a new ledger.
    pub accounted: Option<Timestamp>,
    /// The table in force at the end.
    pub table: Option<TableRecord>,
    pub open: Vec<OpenRun>,
    /// Of jobs with open runs, as the last table that had them said.
    pub groups: HashMap<String, String>,
    pub pauses: Vec<PauseRecord>,
    /// For each job: its epoch, its newest slot since the clock was last set back, when it last started and when
    /// it last succeeded, dry runs apart.
    pub jobs: Vec<JobPast>,
    /// Open runs that are known to have ended, and from where on they count if they have succeeded.
    pub ended: Vec<(RunId, Place)>,
    /// By job.
    pub incidents: Vec<Incident>,
}

impl Past {
    /// The runs that have no end, with their jobs.
    pub fn open_runs(&self) -> Vec<(RunId, String, u32)> {
        let last = |record: &RunRecord| record.attempts.last().map_or(0, |attempt| attempt.number);
        self.open.iter().map(|open| (open.record.run, open.record.job.clone(), last(&open.record))).collect()
    }
}

impl Write {
    /// The run that it changes or tells of; none for a claim, whose number the ledger gives.
    pub(super) fn run(&self) -> Option<RunId> {
        match self {
            Self::AttemptStarted { run, .. }
            | Self::AttemptEnded { run, .. }
            | Self::Finished { run, .. }
            | Self::Dropped { run, .. }
            | Self::EndKnown { run }
            | Self::Adopted { run, .. }
            | Self::Incident(Incident { run, .. })
            | Self::Notice(Notice { run, .. }) => Some(*run),
            _ => None,
        }
    }

    /// The same of the run `other`.
    pub(super) fn of_run(&self, other: RunId) -> Self {
        let mut write = self.clone();
        match &mut write {
            Self::AttemptStarted { run, .. }
            | Self::AttemptEnded { run, .. }
            | Self::Finished { run, .. }
            | Self::Dropped { run, .. }
            | Self::EndKnown { run }
            | Self::Adopted { run, .. }
            | Self::Incident(Incident { run, .. })
            | Self::Notice(Notice { run, .. }) => *run = other,
            _ => {}
        }
        write
    }
}

/// In the order in which runs began and succeeded.
pub type Place = i64;

#[derive(Clone, Debug, PartialEq)]
pub struct JobPast {
    pub job: String,
    pub epoch: u32,
    pub last_slot: Option<Timestamp>,
    pub last_started: Option<Place>,
    pub last_succeeded: Option<Place>,
}

/// How a job ended last, dry runs apart.
#[derive(Clone, Debug, PartialEq)]
pub struct LastEnd {
    pub job: String,
    pub outcome: Outcome,
    pub at: Timestamp,
    /// When it last succeeded, whether or not that was its last end.
    pub succeeded_at: Option<Timestamp>,
    /// Of that last end.
    pub facts: serde_json::Map<String, serde_json::Value>,
}

/// A row as far as it answers for slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRow {
    pub run: RunId,
    pub slot: Timestamp,
    /// Of a range row: the last slot, and how many it answers for.
    pub slot_last: Option<Timestamp>,
    pub slots: u64,
    pub epoch: u32,
    pub outcome: Outcome,
}

/// What slots are judged by, in the order in which it was written: after a clock was set back that is not the order of
/// the instants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chronicle {
    pub accounted: Option<Timestamp>,
    /// Rows of slots before this may have been dropped by age.
    pub kept_from: Option<Timestamp>,
    pub tables: Vec<TableRecord>,
    pub events: Vec<Event>,
}

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("{path}: the ledger can't be opened: {reason}")]
    Open { path: String, reason: String },
    #[error(
        "{path}: the ledger is of a later version ({found}; this program knows {known}): use the newer program"
    )]
    TooNew { path: String, found: i64, known: i64 },
    #[error("{path}: the ledger is damaged: {reason}")]
    Damaged { path: String, reason: String },
    #[error("{path}: the ledger can't be written: {reason}")]
    Write { path: String, reason: String },
    #[error("{path}: the ledger can't be read: {reason}")]
    Read { path: String, reason: String },
}

/// What has befallen a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreNews {
    /// It takes nothing: changes wait in memory.
    Failing { reason: String },
    /// Another one goes on in its place.
    Replaced(SetAside),
    /// It takes changes again, and all that waited are in it.
    Written { changes: u64, lost: Lost },
}
