//! Why a dump failed, as an operator should read it, and whether another attempt may help.

use std::path::Path;

use anyhow::anyhow;

use crate::backup::stream::StreamError;
use crate::host::files;
use crate::host::postgres::{Connection, PostgresError};
use crate::host::process::StartError;
use crate::jobs::JobError;

/// Why a program's output didn't become what was wanted.
pub(super) enum Failure {
    Start(StartError),
    Stream(StreamError),
    Program(JobError),
}

impl Failure {
    /// A stream knows nothing of the program that it comes from.
    pub(super) fn of(self, program: &str, connection: &Connection) -> Self {
        match self {
            Self::Stream(error @ StreamError::Stalled(_)) => Self::Program(JobError::Retryable(anyhow!(
                "{program} of {} at {} was ended: {error}, which is the limit (stall:); does it wait for a lock?",
                connection.database,
                connection.address()
            ))),
            Self::Stream(error @ (StreamError::Stopped | StreamError::Read(_))) => {
                Self::Program(JobError::Retryable(anyhow!("{program} of {}: {error}", connection.database)))
            }
            other => other,
        }
    }
}

impl From<Failure> for JobError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Start(error) => error.into(),
            Failure::Program(error) => error,
            Failure::Stream(error) => Self::Retryable(anyhow!("the dump {error}")),
        }
    }
}

pub(super) fn incomplete(program: &str, file: &str) -> JobError {
    JobError::Retryable(anyhow!(
        "{program} ended with code 0, but its output breaks off before its closing comment: {file} is not whole and \
         was removed"
    ))
}

pub(super) fn cant(path: &Path, what: &str, error: &std::io::Error) -> JobError {
    JobError::Retryable(anyhow!("the directory {} can't be {what}: {error}", path.display()))
}

pub(super) fn unwritable(
    path: &Path,
    error: &std::io::Error,
    written: u64,
    needed: String,
    free: u64,
) -> JobError {
    if files::is_full(error) {
        return JobError::Retryable(anyhow!(
            "no space is left in {}: the dump stopped after {written} bytes with {free} bytes free; {needed}. The \
             unfinished file was removed",
            path.display()
        ));
    }
    JobError::Retryable(anyhow!(
        "the dump in {} can't be written after {written} bytes: {error}",
        path.display()
    ))
}

impl From<PostgresError> for JobError {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Away(_) => Self::Retryable(error.into()),
            PostgresError::Refused(_) => Self::Permanent(error.into()),
        }
    }
}
