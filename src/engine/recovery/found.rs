//! What may become of a run that was found without an end: it goes on here, or another process has it.

use jiff::Timestamp;

use super::RUN_NOW;
use crate::host::process::{Orphan, Status};
use crate::ledger::Owner;
use crate::model::{JobName, Outcome, RunId, RunRecord};
use crate::spawner::AdoptedProgram;

/// A run that another process has in hand.
pub(in crate::engine) struct Foreign {
    pub(in crate::engine) run: RunId,
    pub(in crate::engine) job: JobName,
    pub(in crate::engine) started_at: Option<Timestamp>,
    pub(in crate::engine) attempt: u32,
    /// The run has ended at the latest when this process has.
    pub(in crate::engine) owner: Owner,
}

impl Foreign {
    pub(super) fn of(record: &RunRecord, job: &JobName, owner: Owner) -> Self {
        let attempt = record.attempts.last().map_or(0, |attempt| attempt.number);
        Self { run: record.run, job: job.clone(), started_at: record.started_at, attempt, owner }
    }

    pub(in crate::engine) fn can_be_asked_to_end(&self) -> bool {
        self.owner.role == RUN_NOW
    }

    pub(in crate::engine) fn ask_to_end(&self) {
        if self.can_be_asked_to_end() && !self.owner.interrupt() {
            tracing::info!("run {} of {} has just ended by itself", self.run, self.job);
        }
    }
}

/// A run that goes on in this daemon.
pub(in crate::engine) struct Resume {
    pub(in crate::engine) record: RunRecord,
    pub(in crate::engine) job: JobName,
    pub(in crate::engine) dry_run: bool,
    /// Attempts that ended by themselves, as `retries.attempts` counts them.
    pub(in crate::engine) tried: u32,
    /// Somebody was told that it is to be ended; the daemon before did not come to it.
    pub(in crate::engine) cancel: bool,
    pub(in crate::engine) how: How,
}

pub(in crate::engine) enum How {
    Queued,
    /// Another attempt, of this number, when its turn comes: other runs may stand in its way by now.
    Rerun {
        number: u32,
    },
    Adopted {
        number: u32,
        program: Box<AdoptedProgram>,
    },
    /// Its program lives, and no spawner can tell of it.
    Orphaned {
        number: u32,
        orphan: Box<Orphan>,
    },
}

impl How {
    /// When the run ended for good, which no attempt follows. `more`: a failure would be tried again.
    pub(super) fn ended_at(&self, more: bool) -> Option<Timestamp> {
        let Self::Adopted { program, .. } = self else { return None };
        let (status, at) = program.exit?;
        let last = match (program.ended_as, status) {
            (Some(Outcome::Cancelled), _) => true,
            (Some(Outcome::TimedOut), _) => !more,
            // What was interrupted may be run again.
            (Some(_), _) => false,
            (None, Status::Code(code)) => program.keep.success_codes.contains(&code) || !more,
            (None, _) => !more,
        };
        last.then_some(at)
    }

    /// It begins when its turn comes.
    pub(in crate::engine) fn waits(&self) -> bool {
        matches!(self, Self::Queued | Self::Rerun { .. })
    }

    /// How a program that outlived its daemon was found, in the word that the ledger's `adopted` event keeps.
    pub(in crate::engine) fn found(&self) -> Option<&'static str> {
        match self {
            Self::Queued | Self::Rerun { .. } => None,
            Self::Adopted { program, .. } if program.ended => Some("ended"),
            Self::Adopted { .. } => Some("running"),
            Self::Orphaned { .. } => Some("without_spawner"),
        }
    }
}
