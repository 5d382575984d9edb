//! What the end of a run leaves to be told, as the ledger keeps it: bounded, whatever the job said. Makes no text of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::message::cut;
use crate::ledger::Incident;
use crate::logs::harmless;
use crate::model::{Checked, Finding, Outcome, RunId, Severity};

/// A reason is a sentence; what is longer is in the log.
pub(super) const LONGEST_REASON: usize = 2000;
const LONGEST_FINDING: usize = 500;
const FINDINGS: usize = 20;
const CHECKS: usize = 20;
/// A newer jobs.yaml has no longer ones; a ledger may.
const LONGEST_NAME: usize = 200;

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
                consequences: caused.map(|check| name_of(&check.name)).take(CHECKS).collect(),
                name: name_of(&name),
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

/// In one line, and with nothing in it that reaches for a terminal.
fn name_of(check: &str) -> String {
    cut(&harmless(check), LONGEST_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CheckState, JobName};

    #[test]
    fn the_name_of_a_check_is_cut_and_harmless() {
        let bad = format!("a\u{1b}[2J\nb{}", "é".repeat(300));
        let at = Timestamp::UNIX_EPOCH;
        let seen = |name: &str, because_of: Option<&str>| Checked {
            name: name.to_owned(),
            severity: Severity::Critical,
            state: CheckState::Failing,
            text: "down".into(),
            because_of: because_of.map(str::to_owned),
            measures: vec![],
        };
        let checks = [seen(&bad, None), seen("c\td\u{202e}", Some(&bad))];
        let job = Incident::of_job(JobName::new("web").unwrap(), RunId(1), at);
        let incident = Incident { check: Some(bad.clone()), ..job };
        let story = Story::new("web1", &incident, Outcome::Failed, at)
            .about(std::slice::from_ref(&incident), &checks);
        let told = &story.checks[0];
        assert!(told.name.starts_with("a\\x1b[2J\\nbéé") && told.name.len() <= 210, "{}", told.name);
        assert!(told.name.ends_with("é […]"), "{}", told.name);
        assert_eq!((told.text.as_str(), &told.consequences[..]), ("down", &["c\td\\u{202e}".to_owned()][..]));
    }
}
