//! What a job's policy keys say, as types. Pure data: the engine acts on them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// `retries: {attempts, backoff, max_backoff}`; `attempts` counts the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    pub attempts: u32,
    pub backoff: Duration,
    pub max_backoff: Duration,
}

impl Retries {
    /// The default of kinds that are not safe, or of no use, to try again.
    pub const ONCE: Self =
        Self { attempts: 1, backoff: Duration::from_secs(30), max_backoff: Duration::from_secs(600) };
    /// The default of kinds that talk to something which may be briefly away.
    pub const THRICE: Self = Self { attempts: 3, ..Self::ONCE };
}

/// What a slot does while the job still runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    #[default]
    Skip,
    Queue,
    Replace,
    Allow,
}

/// What becomes of slots that passed while nobody could run them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissedPolicy {
    #[default]
    RunOnce,
    RunAll,
    Skip,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    pub policy: MissedPolicy,
    /// How late a missed slot may still be run; `None`: until the next slot is due.
    pub within: Option<Duration>,
}

/// What becomes of a run that the daemon's death or a power cut ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interrupted {
    Rerun,
    Leave,
}

/// `io:`, the I/O scheduling class of the programs that a job starts (ioprio_set(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IoClass {
    Idle,
    BestEffort,
}

/// How late one due slot may be and still be an ordinary run.
pub const PUNCTUAL: Duration = Duration::from_secs(10);

/// A longer gap between the last instant accounted for and now is no outage that anybody wants made up run by run.
pub const FAR: Duration = Duration::from_secs(30 * 86_400);

/// What a run is given between TERM and KILL.
pub const TERM_GRACE: Duration = Duration::from_secs(10);
