//! The socket between the daemon and its clients: one protocol, shared by both ends. And what is read over HTTP.

pub mod client;
pub mod http;
pub mod protocol;
pub mod server;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::logs::LogLine;
use crate::model::{Outcome, RunId, Severity};

/// What a daemon can be asked to do. The server carries the protocol's requests to it; `run-now` without a
/// daemon has one of its own in its process.
#[async_trait]
pub trait Control: Send + Sync {
    /// # Errors
    /// [`Refused`]
    async fn run_now(&self, job: &str, dry_run: bool, by: &str) -> Result<Started, Refused>;
    async fn cancel(&self, run: RunId, by: &str) -> Result<(), Refused>;
    /// `job` absent: every job. `until` absent: until resumed.
    async fn pause(&self, job: Option<&str>, until: Option<Timestamp>, by: &str) -> Result<(), Refused>;
    async fn resume(&self, job: Option<&str>, by: &str) -> Result<(), Refused>;
    async fn reload(&self, by: &str) -> Result<Reloaded, Refused>;
    async fn status(&self) -> Status;
}

/// A run that was asked for and accepted.
#[derive(Debug)]
pub struct Started {
    pub run: RunId,
    /// Its log from the first line, then its end, then closed.
    pub events: UnboundedReceiver<RunEvent>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEvent {
    /// It waits: `for a run of the same job`, `for the group backups`, `for one of 64 places`.
    Waiting(String),
    Line(LogLine),
    Ended {
        outcome: Outcome,
        reason: Option<String>,
        summary: Option<String>,
        error: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    #[error("there is no job named `{name}`{}", nearest.as_ref().map(|n| format!(": did you mean `{n}`?")).unwrap_or_default())]
    UnknownJob { name: String, nearest: Option<String> },
    #[error("not run: {job} runs already (run {run})")]
    RunsAlready { job: String, run: RunId },
    #[error("run {run} is not running")]
    NotRunning { run: RunId },
    /// The new file is wrong: the old table stays in force. The problems, as `check` prints them.
    #[error("{0}")]
    BadFile(String),
    #[error("{0}")]
    Other(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    pub jobs: usize,
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
}

/// What `status --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub started_at: Timestamp,
    pub config: String,
    /// The file on disk differs from the table in force.
    pub config_changed: bool,
    pub jobs: usize,
    pub running: Vec<RunningRun>,
    /// The next due slot of all jobs.
    pub next: Option<NextSlot>,
    pub paused: Vec<Paused>,
    /// What an operator should know: an unwritable ledger, a clock that is wrong.
    pub problems: Vec<String>,
    /// What fails now, the oldest first.
    #[serde(default)]
    pub incidents: Vec<OpenIncident>,
}

/// A job that fails, or one check of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenIncident {
    /// Absent: the ledger.
    pub job: Option<String>,
    /// Absent: the job itself.
    pub check: Option<String>,
    pub severity: Severity,
    /// When the first run of it ended.
    pub since: Timestamp,
    /// Runs that have failed since.
    pub failures: u64,
    /// Why the newest of them failed.
    pub reason: Option<String>,
    /// It comes and goes.
    pub flapping: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningRun {
    pub run: RunId,
    pub job: String,
    pub started_at: Option<Timestamp>,
    pub attempt: u32,
    /// Waits for its turn.
    pub queued: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextSlot {
    pub job: String,
    pub slot: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Absent: every job.
    pub job: Option<String>,
    pub since: Timestamp,
    pub until: Option<Timestamp>,
    pub by: String,
}

/// A user as `who asked` is recorded: `backup (uid 34)`. Asks the user database, which may take its time.
pub fn name_of(uid: u32) -> String {
    match nix::unistd::User::from_uid(uid.into()) {
        Ok(Some(user)) => format!("{} (uid {uid})", user.name),
        _ => format!("uid {uid}"),
    }
}
