//! What a job does: the [`Job`] trait, and [`KINDS`], the one table of kinds.
//!
//! A kind is one file here: a struct of options (serde reads it, schemars describes it), `run`, its tests. A
//! job knows nothing of the engine, the ledger, the file it was written in, or another job.

pub mod archive;
pub mod certbot_renew;
pub mod command;
pub mod health_check;
pub mod pg_dump;
pub mod prune_backups;
pub mod verify_backup;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::backup::copies::Destination;
use crate::backup::work::{Trouble, Work};
use crate::clock::Clock;
use crate::document::{ConnectionName, Invalid, JobRef, Reader};
use crate::host::postgres::Connection;
use crate::host::process::{Programs, StartError};
use crate::logs::RunLog;
use crate::model::{JobName, Report, RunId, Trigger};
use crate::policy::{Interrupted, Retries};

/// Every kind, in the order in which the README lists them.
pub const KINDS: &[Kind] = &[
    kind::<command::Command>(),
    kind::<pg_dump::PgDump>(),
    kind::<archive::Archive>(),
    kind::<verify_backup::VerifyBackup>(),
    kind::<prune_backups::PruneBackups>(),
    kind::<health_check::HealthCheck>(),
    kind::<certbot_renew::CertbotRenew>(),
];

/// A kind of job.
pub struct Kind {
    pub name: &'static str,
    pub summary: &'static str,
    pub retries: Retries,
    pub interrupted: Interrupted,
    /// Reads the options; problems are left with the reader, and `None` is returned where there are any.
    pub read: fn(&mut Reader<'_>) -> Option<Arc<dyn Job>>,
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

/// What the author of a kind declares beside `run`.
pub trait KindOptions: Job + DeserializeOwned + JsonSchema + 'static {
    const NAME: &'static str;
    /// One line, for `list`, the schema and the README.
    const SUMMARY: &'static str;
    const RETRIES: Retries = Retries::ONCE;
    const INTERRUPTED: Interrupted = Interrupted::Rerun;

    /// What types alone can't say: options that exclude each other, ranges.
    fn invalid(&self) -> Vec<Invalid> {
        vec![]
    }
}

pub const fn kind<K: KindOptions>() -> Kind {
    Kind {
        name: K::NAME,
        summary: K::SUMMARY,
        retries: K::RETRIES,
        interrupted: K::INTERRUPTED,
        read: |reader| {
            let options: K = reader.read(K::invalid)?;
            Some(Arc::new(options))
        },
        schema: |generator| generator.subschema_for::<K>(),
    }
}

#[async_trait]
pub trait Job: Debug + Send + Sync {
    /// One attempt.
    ///
    /// # Errors
    /// What went wrong, and whether another attempt may mend it.
    async fn run(&self, ctx: &JobContext) -> Result<Report, JobError>;

    /// What this host lacks to run the job; `check` prints it.
    async fn preflight(&self, _ctx: &HostContext) -> Vec<Lack> {
        vec![]
    }

    /// Whether the job can say, without doing it, what it would do (`run-now --dry-run`).
    fn can_dry_run(&self) -> bool {
        false
    }

    /// Where its backups are, of a job that makes some; `name` is its own.
    fn keeps(&self, _name: &str) -> Option<Kept> {
        None
    }

    /// The jobs (`of:`) on whose backups it works, each with its key among the options.
    fn works_on(&self) -> Vec<(String, &JobRef)> {
        vec![]
    }

    /// The same job, told where those backups are, by the jobs' names; `None`: it works on none.
    fn handed(&self, _kept: &BTreeMap<String, Kept>) -> Option<Arc<dyn Job>> {
        None
    }

    /// Where copies of its backups go.
    fn copies_to(&self) -> Vec<Destination> {
        vec![]
    }

    /// The directory in which the job leaves backups, of one that makes some; `backups` looks there.
    fn backups_in(&self) -> Option<&Path> {
        None
    }

    /// Whether the work is one program that goes on without this process, for the next daemon to adopt.
    fn outlives_daemon(&self) -> bool {
        false
    }
}

/// Where a job keeps its backups.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The job's name.
    pub job: String,
    pub directory: PathBuf,
    pub of: Backs,
}

/// What backups are of.
#[derive(Clone, Debug, PartialEq)]
pub enum Backs {
    /// The database of this connection.
    Database(ConnectionName),
    /// What an archive of this name holds.
    Files(String),
}

/// What an attempt is given.
pub struct JobContext {
    pub job: JobName,
    pub run: RunId,
    pub attempt: u32,
    pub trigger: Trigger,
    pub slot: Option<Timestamp>,
    /// In which the job counts days.
    pub zone: TimeZone,
    /// When the attempt times out, by the wall clock: for the daemon that may have to judge it.
    pub deadline: Option<Timestamp>,
    /// Do nothing that lasts; say what would be done.
    pub dry_run: bool,
    pub clock: Arc<dyn Clock>,
    pub log: RunLog,
    /// Starts programs; whatever it started ends with the attempt.
    pub programs: Programs,
    pub connections: Arc<BTreeMap<String, Connection>>,
    /// Scratch files of the program; survives restarts.
    pub state: PathBuf,
    /// Set when the attempt times out or is cancelled: work on other threads must look at it.
    pub cancel: CancellationToken,
}

/// What `preflight` may look at.
pub struct HostContext {
    pub connections: Arc<BTreeMap<String, Connection>>,
    pub clock: Arc<dyn Clock>,
    /// The job's `user`.
    pub user: Option<String>,
    /// The PATH that the job's `env` sets.
    pub path: Option<String>,
}

/// Something that the host lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The job can't work without it; otherwise a warning.
    pub fatal: bool,
    pub message: String,
    pub hint: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error("{0:#}")]
    Retryable(anyhow::Error),
    /// A retry can't mend it: a wrong password, a missing program, a bad option.
    #[error("{0:#}")]
    Permanent(anyhow::Error),
    /// The work was done, and what it found is a failure; the report says what. Another attempt may find otherwise.
    #[error("{}", .0.summary)]
    Found(Box<Report>),
    /// The work was done as far as it can be, and what it lacks is a failure that no further attempt mends.
    #[error("{}", .0.summary)]
    Lacking(Box<Report>),
}

impl From<anyhow::Error> for JobError {
    fn from(error: anyhow::Error) -> Self {
        Self::Retryable(error)
    }
}

impl From<StartError> for JobError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Program { .. } => Self::permanent(error),
            StartError::Host { .. } => Self::Retryable(error.into()),
        }
    }
}

impl From<Trouble> for JobError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Passing(error) => Self::Retryable(error),
            Trouble::Lasting(error) => Self::Permanent(error),
        }
    }
}

impl JobContext {
    /// What this attempt hands to work on backups.
    pub fn work(&self) -> Work {
        Work {
            job: self.job.to_string(),
            run: self.run.to_string(),
            dry_run: self.dry_run,
            clock: self.clock.clone(),
            log: self.log.clone(),
            programs: self.programs.clone(),
            state: self.state.clone(),
            cancel: self.cancel.clone(),
        }
    }
}

impl JobError {
    pub fn permanent(error: impl Into<anyhow::Error>) -> Self {
        Self::Permanent(error.into())
    }
}
