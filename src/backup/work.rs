//! What work on backups is given, and how it fails: the same for a job's attempt and for a verb of the command line.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::host::docker::DockerError;
use crate::host::postgres::PostgresError;
use crate::host::process::{Programs, StartError};
use crate::host::secret::SecretError;
use crate::logs::RunLog;

#[derive(Clone)]
pub struct Work {
    /// Whose work it is, as names and marks tell it; of a verb, the verb's name.
    pub job: String,
    /// `0`: of a verb.
    pub run: String,
    /// Do nothing that lasts; say what would be done.
    pub dry_run: bool,
    pub clock: Arc<dyn Clock>,
    pub log: RunLog,
    /// Starts programs; whatever it started ends with the work.
    pub programs: Programs,
    /// Scratch files; survives restarts.
    pub state: PathBuf,
    /// Set when the work is to end: work on other threads must look at it.
    pub cancel: CancellationToken,
}

impl Work {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Into the log of the run, or to the operator's terminal.
    pub fn note(&self, text: &str) {
        self.log.note(self.now(), text);
    }
}

/// Why work on a backup failed.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It may be over by the next attempt.
    #[error("{0:#}")]
    Passing(anyhow::Error),
    /// No attempt mends it: a wrong password, a missing program, a backup that is not whole.
    #[error("{0:#}")]
    Lasting(anyhow::Error),
}

impl Trouble {
    pub fn passing(error: impl Into<anyhow::Error>) -> Self {
        Self::Passing(error.into())
    }

    pub fn lasting(error: impl Into<anyhow::Error>) -> Self {
        Self::Lasting(error.into())
    }
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        Self::Passing(error)
    }
}

impl From<StartError> for Trouble {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Program { .. } => Self::lasting(error),
            StartError::Host { .. } => Self::passing(error),
        }
    }
}

impl From<PostgresError> for Trouble {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Away(_) => Self::passing(error),
            PostgresError::Refused(_) => Self::lasting(error),
        }
    }
}

impl From<DockerError> for Trouble {
    fn from(error: DockerError) -> Self {
        if error.is_lasting() { Self::lasting(error) } else { Self::passing(error) }
    }
}

impl From<SecretError> for Trouble {
    fn from(error: SecretError) -> Self {
        Self::lasting(error)
    }
}
