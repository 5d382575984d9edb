//! What the end of a run leaves to be told, as the ledger keeps it: bounded, whatever the job said. Makes no text of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::message::cut;
use crate::ledger::Incident;
use crate::model::{Finding, Outcome, RunId};

/// A reason is a sentence; what is longer is in the log.
pub(super) const LONGEST_REASON: usize = 2000;
const LONGEST_FINDING: usize = 500;
const FINDINGS: usize = 20;

/// What the end of a run leaves to be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Story {
    pub host: String,
    pub description: Option<String>,
    pub outcome: Outcome,
    /// Why it failed; of a recovery, what the run says it did.
    pub reason: Option<String>,
    pub attempts: u32,
    pub started_at: Option<Timestamp>,
    pub ended_at: Timestamp,
    /// When the first run of this incident failed, and which it was.
    pub since: Timestamp,
    pub first_run: RunId,
    /// Runs that failed in this incident.
    pub failures: u64,
    pub findings: Vec<Finding>,
    /// Findings that there was no room for.
    pub more_findings: usize,
}

impl Story {
    /// Bounded, whatever the job said.
    pub fn new(host: &str, incident: &Incident, outcome: Outcome, ended_at: Timestamp) -> Self {
        Self {
            host: host.to_owned(),
            description: None,
            outcome,
            reason: None,
            attempts: 0,
            started_at: None,
            ended_at,
            since: incident.opened_at,
            first_run: incident.run,
            failures: incident.failures,
            findings: vec![],
            more_findings: 0,
        }
    }

    #[must_use]
    pub fn reason(mut self, reason: Option<&str>) -> Self {
        self.reason = reason.filter(|reason| !reason.is_empty()).map(|reason| cut(reason, LONGEST_REASON));
        self
    }

    #[must_use]
    pub fn findings(mut self, findings: &[Finding]) -> Self {
        let shortened =
            |one: &Finding| Finding { message: cut(&one.message, LONGEST_FINDING), ..one.clone() };
        self.findings = findings.iter().take(FINDINGS).map(shortened).collect();
        self.more_findings = findings.len() - self.findings.len();
        self
    }
}
