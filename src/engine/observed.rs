//! What others hear of runs and slots, once it has been written: metrics, heartbeats.
//!
//! Owns the words for it, and finds what is to be told among the writes of a turn. Nobody who hears can change anything.

use std::sync::Arc;

use jiff::Timestamp;

use super::Engine;
use crate::config::JobSpec;
use crate::ledger::{Applied, NewState, Write};
use crate::model::{JobName, Outcome, Report, RunId, SkipReason, Trigger};

/// Called on the engine's thread: must neither block nor ask the engine.
pub trait Observer: Send + Sync {
    fn hears(&self, seen: &Seen<'_>);
}

/// A run or a slot, and what became of it.
#[derive(Debug)]
pub struct Seen<'a> {
    pub job: &'a JobName,
    /// Of a skipped slot: its row.
    pub run: RunId,
    pub trigger: Trigger,
    /// Nominal time; `None` for manual and `after` runs.
    pub slot: Option<Timestamp>,
    /// When that slot is due on this host: its `jitter` comes on top.
    pub due: Option<Timestamp>,
    /// It only says what it would do.
    pub dry_run: bool,
    /// As it runs; of a job that is gone from the table, where the run began before that.
    pub spec: Option<&'a Arc<JobSpec>>,
    pub what: What<'a>,
}

#[derive(Debug)]
pub enum What<'a> {
    /// The first attempt of a run that has begun here.
    Began { at: Timestamp },
    /// A further attempt.
    Again { number: u32, at: Timestamp },
    /// After its last attempt.
    Ended {
        at: Timestamp,
        started_at: Option<Timestamp>,
        outcome: Outcome,
        error: Option<&'a str>,
        report: Option<&'a Report>,
    },
    /// So many slots of the job.
    Skipped { reason: SkipReason, slots: u64 },
}

/// What is known of a run, whoever has it in hand.
struct Known {
    job: JobName,
    trigger: Trigger,
    slot: Option<Timestamp>,
    dry_run: bool,
    started_at: Option<Timestamp>,
}

impl Engine {
    /// Tells of what this turn has written. To be called before runs are forgotten that have ended with it.
    pub(super) fn tell_observers(&self, writes: &[Write], applied: &[Applied]) {
        if self.observers.is_empty() {
            return;
        }
        for (at, write) in writes.iter().enumerate() {
            match write {
                Write::Claim(row) => {
                    let Some(Applied::Claimed(run)) = applied.get(at) else { continue };
                    let what = match row.state {
                        NewState::Started => What::Began { at: row.at },
                        NewState::Skipped(reason) => What::Skipped { reason, slots: row.slots },
                        NewState::Queued => continue,
                    };
                    let (job, run) = (&row.job, *run);
                    let (trigger, slot, dry_run) = (row.trigger, row.slot, row.dry_run);
                    let due = self.due_at(job, slot);
                    let spec = self.table.job(job.as_str());
                    self.be_heard(&Seen { job, run, trigger, slot, due, dry_run, spec, what });
                }
                Write::AttemptStarted { run, number: 1, at } => {
                    self.be_heard_of(*run, |_| What::Began { at: *at });
                }
                Write::AttemptStarted { run, number, at } => {
                    self.be_heard_of(*run, |_| What::Again { number: *number, at: *at });
                }
                Write::Finished { run, at, outcome, error, report } => {
                    self.be_heard_of(*run, |known| What::Ended {
                        at: *at,
                        started_at: known.started_at,
                        outcome: *outcome,
                        error: error.as_deref(),
                        report: report.as_ref(),
                    })
                }
                Write::Dropped { run, reason, .. } => {
                    self.be_heard_of(*run, |_| What::Skipped { reason: *reason, slots: 1 });
                }
                _ => {}
            }
        }
    }

    fn be_heard_of<'a>(&self, run: RunId, what: impl FnOnce(&Known) -> What<'a>) {
        let Some(known) = self.known(run) else { return };
        let what = what(&known);
        let Known { job, trigger, slot, dry_run, .. } = known;
        let due = self.due_at(&job, slot);
        let of_run = self.runs.get(&run).and_then(|active| active.spec.as_ref());
        let spec = of_run.or_else(|| self.table.job(job.as_str()));
        self.be_heard(&Seen { job: &job, run, trigger, slot, due, dry_run, spec, what });
    }

    fn due_at(&self, job: &JobName, slot: Option<Timestamp>) -> Option<Timestamp> {
        slot.map(|slot| self.plan.due(job, slot))
    }

    fn be_heard(&self, seen: &Seen<'_>) {
        for observer in &self.observers {
            observer.hears(seen);
        }
    }

    fn known(&self, run: RunId) -> Option<Known> {
        if let Some(active) = self.runs.get(&run) {
            return Some(Known {
                job: active.job.clone(),
                trigger: active.trigger,
                slot: active.slot,
                dry_run: active.dry_run,
                started_at: active.started_at,
            });
        }
        // One that was in the hands of another process.
        let record = self.ledger.run(run).ok().flatten()?;
        Some(Known {
            job: JobName::new(&record.job).ok()?,
            trigger: record.trigger,
            slot: record.slot,
            dry_run: self.dry_runs.contains(&run),
            started_at: record.started_at,
        })
    }
}

/// Those who hear.
pub type Observers = Vec<Arc<dyn Observer>>;
