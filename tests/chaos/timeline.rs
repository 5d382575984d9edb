//! What the driver did and saw, in order: the checker's own knowledge of the past. Times are microseconds since 1970
//! by the host's clock, bent or not.

use serde::{Deserialize, Serialize};

/// A job as the driver wrote it into jobs.yaml.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) schedule: Vec<String>,
    pub(crate) timezone: String,
    pub(crate) enabled: bool,
    pub(crate) overlap: String,
    pub(crate) missed: String,
    /// Seconds.
    pub(crate) within: Option<i64>,
    pub(crate) interrupted: String,
    pub(crate) attempts: i64,
    /// Milliseconds.
    pub(crate) timeout: i64,
    /// Seconds.
    pub(crate) jitter: i64,
    pub(crate) group: Option<String>,
    pub(crate) after: Option<String>,
    pub(crate) behaviour: String,
    pub(crate) number: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// By the host's wall clock, just before.
    pub(crate) wall: i64,
    /// By a clock that nothing bends.
    pub(crate) steady: i64,
    pub(crate) what: What,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// A daemon was started with this table; `accounted` is what the ledger said before, `tables` its number of tables.
    Started {
        jobs: Vec<Job>,
        accounted: Option<i64>,
        tables: i64,
    },
    /// It answers; from here on it is synced.
    Ready,
    /// Every slot up to the entry's `wall` was dealt with, none after `until`.
    Synced {
        until: i64,
    },
    Reloaded {
        jobs: Vec<Job>,
        until: i64,
    },
    Jumped {
        to: i64,
        how: String,
    },
    Frozen,
    Thawed,
    /// The daemon is gone; what the ledger said then.
    Down {
        how: String,
        accounted: Option<i64>,
        tables: i64,
    },
    SpawnerKilled,
    /// No job: all. It came about behind the ledger's row `after` and before the first one behind `by`.
    Paused {
        job: Option<String>,
        after: i64,
        by: i64,
    },
    Resumed {
        job: Option<String>,
        after: i64,
        by: i64,
    },
    Manual {
        job: String,
        run: i64,
    },
    Cancelled {
        run: i64,
    },
    /// A `run-now` of its own, while no daemon was there at first.
    Alone {
        job: String,
    },
    AloneKilled,
    DiskFull,
    DiskFree,
    /// A file was put in place that is no table, and its reload refused.
    BadReload,
    SecondDaemon,
    /// For whoever reads the schedule of a seed.
    Note(String),
}

impl What {
    /// Whether this is something that the driver did to the daemon. Time that passes is none.
    pub(crate) fn is_fault(&self) -> bool {
        match self {
            Self::Jumped { how, .. } => how.contains("step") || how.contains("suspend"),
            Self::Frozen
            | Self::Down { .. }
            | Self::SpawnerKilled
            | Self::Reloaded { .. }
            | Self::BadReload
            | Self::Paused { .. }
            | Self::Resumed { .. }
            | Self::Manual { .. }
            | Self::Cancelled { .. }
            | Self::Alone { .. }
            | Self::AloneKilled
            | Self::DiskFull
            | Self::SecondDaemon => true,
            Self::Started { .. }
            | Self::Ready
            | Self::Synced { .. }
            | Self::Thawed
            | Self::DiskFree
            | Self::Note(_) => false,
        }
    }
}
