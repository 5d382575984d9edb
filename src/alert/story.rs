//! What the end of a run leaves to be told, as the ledger keeps it: bounded, whatever the job said. Makes no text of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::message::cut;
use crate::ledger::Incident;
use crate::model::{Checked, Finding, Outcome, RunId, Severity};

/// A reason is a sentence; what is longer is in the log.
pub(super) const LONGEST_REASON: usize = 2000;
const LONGEST_FINDING: usize = 500;
const FINDINGS: usize = 20;
const CHECKS: usize = 20;

/// What the end of a run leaves to be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Story {
    pub host: String,
    pub description: Option<String>,
    pub outcome: Outcome,
    /// Why it failed; of a recovery, what the run says it did.
    pub reason: Option<String>,
    pub attempts: u32,
    /// What the run was for.
    #[serde(default)]
    pub slot: Option<Timestamp>,
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
    /// The checks of the job that this is about; none: it is about the job itself.
    #[serde(default)]
    pub checks: Vec<StoryCheck>,
    /// Checks that there was no room for.
    #[serde(default)]
    pub more_checks: usize,
}

/// What is told of one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoryCheck {
    pub name: String,
    pub severity: Severity,
    /// The measured value against its threshold.
    pub text: String,
    pub since: Timestamp,
    /// Runs in which it failed.
    pub failures: u64,
    /// Checks that fail because of this one.
    pub consequences: Vec<String>,
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
            slot: None,
            started_at: None,
            ended_at,
            since: incident.opened_at,
            first_run: incident.run,
            failures: incident.failures,
            findings: vec![],
            more_findings: 0,
            checks: vec![],
            more_checks: 0,
        }
    }

    /// These incidents of the job's checks, as `seen` by the run.
    #[must_use]
    pub fn about(mut self, incidents: &[Incident], seen: &[Checked]) -> Self {
        let one = |incident: &Incident| {
            let name = incident.check.clone().unwrap_or_default();
            let now = seen.iter().find(|check| check.name == name);
            let text =
                now.map(|check| check.text.as_str()).or(incident.reason.as_deref()).unwrap_or_default();
            let caused = seen.iter().filter(|check| check.because_of.as_ref() == Some(&name));
            StoryCheck {
                severity: incident.severity,
                text: cut(text, LONGEST_FINDING),
                since: incident.opened_at,
                failures: incident.failures,
                consequences: caused.map(|check| check.name.clone()).take(CHECKS).collect(),
                name,
            }
        };
        self.checks = incidents.iter().take(CHECKS).map(one).collect();
        self.more_checks = incidents.len() - self.checks.len();
        self
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
