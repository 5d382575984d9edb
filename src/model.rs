//! The words of the product as types: job names, runs, slots, outcomes, reports.
//!
//! Owns the vocabulary that every other module shares. Never reads a clock, a file or the network.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of a job: `[a-z0-9][a-z0-9_-]{0,62}`, so that it is safe as a file name, a label and an argument.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobName(Arc<str>);

impl JobName {
    /// # Errors
    /// A sentence that says what a name may be made of.
    pub fn new(text: &str) -> Result<Self, String> {
        let bytes = text.as_bytes();
        let letter = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let fine = (1..=63).contains(&bytes.len())
            && letter(&bytes[0])
            && bytes.iter().all(|b| letter(b) || matches!(b, b'_' | b'-'));
        if fine {
            return Ok(Self(text.into()));
        }
        Err(format!(
            "`{}` is not a job name: use 1 to 63 of a-z, 0-9, `_` and `-`, beginning with a letter or a digit",
            text.escape_debug()
        ))
    }

    /// Names the daemon's own log; no job can have it.
    pub(crate) fn daemon() -> Self {
        Self("_daemon".into())
    }

    /// Names the ledger in incidents and notices; no job can have it.
    pub(crate) fn ledger() -> Self {
        Self("_ledger".into())
    }

    /// What an incident can be of: a job, or a part of the daemon itself.
    pub(crate) fn of_incident(text: &str) -> Option<Self> {
        if text == Self::ledger().as_str() { Some(Self::ledger()) } else { Self::new(text).ok() }
    }

    /// False for the names that only the daemon itself has.
    pub(crate) fn is_job(&self) -> bool {
        !self.0.starts_with('_')
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for JobName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for JobName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&std::borrow::Cow::<str>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl AsRef<str> for JobName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for JobName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The number of a row of the ledger: of a run, or of a slot that was not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub i64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a row of the ledger exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    Schedule,
    CatchUp,
    Manual,
    After,
}

/// How a run or a slot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Claimed and not ended; a run that still waits for its turn has no `started_at`.
    Running,
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
    Interrupted,
    Skipped,
}

/// Why a slot was not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    Overlap,
    Paused,
    Missed,
    Coalesced,
    Removed,
    Stopping,
}

macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word used in the ledger, in JSON and on the command line.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.word() == word)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

words!(Trigger { Schedule = "schedule", CatchUp = "catch_up", Manual = "manual", After = "after" });
words!(Outcome {
    Running = "running",
    Succeeded = "succeeded",
    Failed = "failed",
    TimedOut = "timed_out",
    Cancelled = "cancelled",
    Interrupted = "interrupted",
    Skipped = "skipped",
});
words!(SkipReason {
    Overlap = "overlap",
    Paused = "paused",
    Missed = "missed",
    Coalesced = "coalesced",
    Removed = "removed",
    Stopping = "stopping",
});

/// What a contact is told of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    Failed,
    Recovered,
    /// It is not started any more until somebody resumes it.
    Held,
    /// It was told before, and still fails.
    Reminder,
    /// It fails and recovers by turns: no more of that is told until it is one or the other for a while.
    Flapping,
}

words!(NoticeKind {
    Failed = "failed",
    Recovered = "recovered",
    Held = "held",
    Reminder = "reminder",
    Flapping = "flapping",
});

/// By which way a contact is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    Email,
    Webhook,
}

words!(Channel { Email = "email", Webhook = "webhook" });

/// What a run returns: a line for people, numbers for programs, and what someone should look at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub summary: String,
    /// Numbers and short texts by name; units are part of the name or the kind's documentation.
    pub facts: serde_json::Map<String, serde_json::Value>,
    pub findings: Vec<Finding>,
    /// What the run looked at, each with a state of its own: their incidents open and close by it, and the run's
    /// outcome opens none. Not kept in the ledger.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Checked>,
}

impl Report {
    pub fn new(summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), ..Self::default() }
    }

    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    pub message: String,
}

impl Finding {
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, message: message.into() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

words!(Severity { Info = "info", Warning = "warning", Critical = "critical" });

/// One thing that a run looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// The same from run to run, and no other check's of the job.
    pub name: String,
    pub state: CheckState,
    pub severity: Severity,
    /// The measured value against its threshold, in words.
    pub text: String,
    /// The failing check of the same run that explains this one's failure: nobody is told of this one on its own.
    pub because_of: Option<String>,
    /// What was measured, in numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<Measure>,
}

/// One number that a check measures, in base units, and what it is held against.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// What of the thing that is looked at: `free`, `p95`. The same from run to run.
    pub quantity: String,
    pub unit: Unit,
    /// None: it could not be measured.
    pub value: Option<f64>,
    /// None: it is shown, and held against nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

/// Of a [`Measure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A share: from 0 to 1.
    Ratio,
    Seconds,
    Bytes,
    /// A plain number.
    Count,
}

words!(Unit { Ratio = "ratio", Seconds = "seconds", Bytes = "bytes", Count = "count" });

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    Ok,
    /// Bad, but not as often as it takes to fail.
    Pending,
    Failing,
    /// Not measured: says nothing about what is looked at.
    Unknown,
}

words!(CheckState { Ok = "ok", Pending = "pending", Failing = "failing", Unknown = "unknown" });

/// One try within a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub number: u32,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub outcome: Outcome,
    pub error: Option<String>,
}

/// One row of the ledger as `history --json` shows it; the field order is the document's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    pub run: RunId,
    pub job: String,
    pub kind: String,
    pub trigger: Trigger,
    pub slot: Option<Timestamp>,
    pub outcome: Outcome,
    pub reason: Option<String>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub host: String,
    pub attempts: Vec<Attempt>,
    pub summary: Option<String>,
    pub facts: serde_json::Map<String, serde_json::Value>,
    pub findings: Vec<Finding>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_name_is_safe_as_a_file_name() {
        let check = |text: &str, fine: bool| assert_eq!(JobName::new(text).is_ok(), fine, "{text:?}");
        check("db-backup", true);
        check("0", true);
        check(&"a".repeat(63), true);
        check(&"a".repeat(64), false);
        check("", false);
        check("../etc/passwd", false);
        check("-a", false);
        check("Backup", false);
        check("é", false);
    }
}
