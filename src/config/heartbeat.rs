//! Where a job's heartbeat goes: the checked address, and what it becomes for one job. Sends nothing.

use crate::host::http::Target;
use crate::host::secret::{self, ExposeSecret, SecretError, SecretString, SecretText};
use crate::model::JobName;

/// Asked as runs of a job begin and end, so that somebody notices when nobody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    url: SecretText,
    /// The URL as it is, after each success; else in the manner of healthchecks.io, with `/start` and `/fail`.
    pub only_success: bool,
}

/// What stands for the job's name in a URL under `defaults`.
const JOB: &str = "{job}";

impl Heartbeat {
    pub fn new(url: SecretText, only_success: bool) -> Self {
        Self { url, only_success }
    }

    /// # Errors
    /// What is wrong with it, without the text.
    pub fn check(url: &str) -> Result<(), String> {
        Target::secret(&url.trim().replace(JOB, "job")).map(drop)
    }

    /// With its secrets fetched anew: one that was mended is used at the next try.
    ///
    /// # Errors
    /// Where a secret can't be read.
    pub async fn url(&self, job: &JobName) -> Result<SecretString, SecretError> {
        let url = self.url.resolve_within(secret::PATIENCE).await?;
        Ok(url.expose_secret().trim().replace(JOB, job.as_str()).into())
    }
}
