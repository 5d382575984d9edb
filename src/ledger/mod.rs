//! The durable store of slots, runs and attempts.
//!
//! Owns what is remembered and that it is remembered whole: every change goes through [`Ledger::apply`],
//! one transaction a batch. Never decides what a job does next; that is the engine's plan.

pub mod audit;
mod buffered;
mod damage;
mod file;
mod owner;
mod prune;
mod read;
mod rows;
mod salvage;
mod schema;
mod seen;
mod sqlite;
pub mod timeline;
mod words;
mod write;

#[cfg(test)]
mod audit_tests;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;

pub use buffered::{Buffered, Lost};
pub use damage::{SetAside, open_or_set_aside};
pub use sqlite::SqliteLedger;
pub use words::*;

use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::{JobName, RunId, RunRecord};

/// A store of rows. Calls block; the engine's thread is the one writer of a daemon.
pub trait Ledger: Send {
    /// All of the batch or nothing, durable on return.
    ///
    /// # Errors
    /// [`LedgerError::Write`]; then nothing of the batch was written.
    fn apply(&mut self, batch: &[Write]) -> Result<Vec<Applied>, LedgerError>;

    /// # Errors
    /// [`LedgerError::Read`]
    fn past(&self) -> Result<Past, LedgerError>;

    /// Newest first.
    ///
    /// # Errors
    /// [`LedgerError::Read`]
    fn history(&self, filter: &Filter) -> Result<Vec<RunRecord>, LedgerError>;

    /// As [`Ledger::history`], a row at a time: a ledger of ten million rows is never held whole.
    ///
    /// # Errors
    /// [`LedgerError::Read`]
    fn visit(
        &self,
        filter: &Filter,
        each: &mut dyn FnMut(RunRecord) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        for record in self.history(filter)? {
            if each(record).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// # Errors
    /// [`LedgerError::Read`]
    fn run(&self, run: RunId) -> Result<Option<RunRecord>, LedgerError>;

    /// The newest row of each job that ended or runs: for `list`.
    ///
    /// # Errors
    /// [`LedgerError::Read`]
    fn latest(&self) -> Result<Vec<RunRecord>, LedgerError>;

    /// Of one job, and of its checks.
    ///
    /// # Errors
    /// [`LedgerError::Read`]
    fn incidents_of(&self, job: &JobName) -> Result<Vec<Incident>, LedgerError> {
        let mut incidents = self.past()?.incidents;
        incidents.retain(|incident| incident.job == *job);
        Ok(incidents)
    }

    /// What is still to be told, oldest first.
    ///
    /// # Errors
    /// [`LedgerError::Read`]
    fn notices(&self) -> Result<Vec<Notice>, LedgerError>;

    /// The row that holds `(job, slot, epoch)`.
    ///
    /// # Errors
    /// [`LedgerError::Read`]
    fn claimed(&self, job: &JobName, slot: Timestamp, epoch: u32) -> Result<Option<RunId>, LedgerError>;

    /// The row that refuses this claim, if it is made at its `at`; see [`Applied::AlreadyClaimed`].
    ///
    /// # Errors
    /// [`LedgerError::Read`]
    fn refuses(&self, claim: &NewRow) -> Result<Option<RunId>, LedgerError>;

    /// The highest number given so far, of rows that were dropped since too.
    ///
    /// # Errors
    /// [`LedgerError::Read`]
    fn last_run(&self) -> Result<Option<RunId>, LedgerError>;

    /// What was told of the time from `from` on, oldest first.
    ///
    /// # Errors
    /// [`LedgerError::Read`]
    fn events(&self, from: Timestamp) -> Result<Vec<Event>, LedgerError>;

    /// The tables that were in force at `from` or later, oldest first.
    ///
    /// # Errors
    /// [`LedgerError::Read`]
    fn tables(&self, from: Timestamp) -> Result<Vec<TableRecord>, LedgerError>;

    /// Tables and events as they were written, and how far they go.
    ///
    /// # Errors
    /// [`LedgerError::Read`]
    fn chronicle(&self) -> Result<Chronicle, LedgerError>;

    /// The rows of one job that answer for slots from `from` on, in the order of their slots, a row at a time. A range
    /// row that begins earlier comes first.
    ///
    /// # Errors
    /// [`LedgerError::Read`]
    fn visit_slots(
        &self,
        job: &JobName,
        from: Timestamp,
        each: &mut dyn FnMut(SlotRow) -> ControlFlow<()>,
    ) -> Result<(), LedgerError>;

    /// What an operator should know: since when and why rows are not durable.
    fn problem(&self) -> Option<String> {
        None
    }

    /// What has befallen it since this was last asked, oldest first.
    fn news(&mut self) -> Vec<StoreNews> {
        vec![]
    }

    /// Looks whether the store is still the one that was opened. One that somebody has taken away from its place
    /// is put back there, whole.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`] where somebody has changed it and it is not whole any more; [`LedgerError::Write`]
    /// where it can't be put back.
    fn look(&mut self, _now: Timestamp) -> Result<Option<SetAside>, LedgerError> {
        Ok(None)
    }

    /// Takes over runs that have no end yet, under their numbers; those that it has stay as they are.
    ///
    /// # Errors
    /// [`LedgerError::Write`]
    fn restore(&mut self, _open: &[OpenRun]) -> Result<(), LedgerError> {
        Ok(())
    }

    /// How long a call may wait for another process that holds the store. Five seconds at first.
    fn patience(&self, _wait: Duration) {}

    /// The next row gets a number above `run`: logs name runs by number, so that none may come twice.
    ///
    /// # Errors
    /// [`LedgerError::Write`]
    fn continue_after(&mut self, run: RunId) -> Result<(), LedgerError>;

    /// Deletes at most `batch` rows that ended before `before`; how many it deleted. Call again while it is `batch`.
    ///
    /// # Errors
    /// [`LedgerError::Write`]
    fn prune(&mut self, before: Timestamp, batch: usize) -> Result<usize, LedgerError>;
}
