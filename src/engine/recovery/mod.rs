//! What a daemon finds when it starts, and what becomes of each run that has no end.
//!
//! Pure: the ledger's past, the programs that still live and the new table come in; what to write, what goes on
//! and what the plan must know come out.

mod found;
mod left;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

pub(super) use self::found::{Foreign, How, Resume};
pub(super) use self::left::Left;
pub use self::left::living_programs;
use super::hold;
use super::plan::{OpenRun, PastJob, Recovered};
use super::restore::lost_attempts;
use crate::config::JobTable;
use crate::host::process::Orphan;
use crate::ledger::{self, Incident, Owner, Past, Place, TableRecord, Write};
use crate::model::{Attempt, JobName, Outcome, RunId, RunRecord, Trigger};
use crate::policy::Interrupted;
use crate::spawner::{AdoptedProgram, Adoption};

/// The role of an owner that is a `run-now` without a daemon.
pub const RUN_NOW: &str = "run-now";

#[derive(Default)]
pub struct Recovery {
    pub(super) recovered: Recovered,
    pub(super) writes: Vec<Write>,
    pub(super) resume: Vec<Resume>,
    /// Runs that a living `run-now` has in hand.
    pub(super) foreign: Vec<Foreign>,
    /// Programs of runs that have their end already.
    pub(super) orphans: Vec<AdoptedProgram>,
    /// Processes that bear the marks of runs which aren't open.
    pub(super) strangers: Vec<Orphan>,
    /// Those that only say what they would do.
    pub(super) dry_runs: HashSet<RunId>,
    pub(super) incidents: Vec<Incident>,
    /// Runs with an attempt that the death of a daemon or of the host has interrupted, as they were.
    pub(super) interrupted: Vec<RunRecord>,
    /// Runs after which their job is held, and why.
    pub(super) held: HashMap<RunId, String>,
}

/// `boot` is when this machine booted, for `@reboot`; `alive` tells whether the process that had a run lives.
pub fn recover(
    past: Past,
    table: &JobTable,
    adoption: Adoption,
    owner: &Owner,
    alive: impl Fn(&Owner) -> bool,
    boot: Option<Timestamp>,
    now: Timestamp,
) -> Recovery {
    let mut left = Left { ended: past.ended.into_iter().collect(), ..Left::of(adoption) };
    let mut found = Recovery {
        recovered: Recovered {
            accounted: past.accounted,
            past: past.table.iter().flat_map(past_jobs).collect(),
            past_since: past.table.as_ref().map(|table| table.in_force_from),
            groups: past
                .groups
                .into_iter()
                .filter_map(|(job, group)| Some((JobName::new(&job).ok()?, group)))
                .collect(),
            pauses: past.pauses,
            epochs: vec![],
            last: vec![],
            boot,
            ..Recovered::default()
        },
        writes: vec![],
        resume: vec![],
        foreign: vec![],
        orphans: vec![],
        strangers: vec![],
        dry_runs: dry_runs(&past.open),
        incidents: past.incidents,
        interrupted: vec![],
        held: HashMap::new(),
    };
    for job in past.jobs {
        let Ok(name) = JobName::new(&job.job) else { continue };
        found.recovered.epochs.push((name.clone(), job.epoch));
        found.recovered.slots.extend(job.last_slot.map(|slot| (name.clone(), slot)));
        found.recovered.last.push((name, job.last_started, job.last_succeeded));
    }
    for open in past.open {
        found.take(open, table, &mut left, owner, &alive, now);
    }
    found.orphans = left.programs;
    found.strangers = left.orphans.into_values().collect();
    found
}

/// For a `run-now` without a daemon: no slot is looked at, and runs that live elsewhere only stand in the way.
/// `programs`: what outlived its daemon, by run.
pub fn recover_for_one_run(
    past: Past,
    mut programs: HashMap<RunId, Owner>,
    alive: impl Fn(&Owner) -> bool,
) -> Recovery {
    let mut found =
        Recovery { dry_runs: dry_runs(&past.open), incidents: past.incidents, ..Recovery::default() };
    for open in past.open {
        let Ok(job) = JobName::new(&open.record.job) else { continue };
        let program = programs.remove(&open.record.run);
        if let Some(owner) = Some(open.owner.clone()).into_iter().chain(program).find(|owner| alive(owner)) {
            found.recovered.open.push(known(&open, &job));
            found.foreign.push(Foreign::of(&open.record, &job, owner));
        }
    }
    found
}

/// What a daemon takes over of a run whose `run-now` has died beside it. None where nothing of it is left.
pub(super) fn recover_beside(
    open: ledger::OpenRun,
    table: &JobTable,
    left: &mut Left,
    owner: &Owner,
    now: Timestamp,
) -> Option<(Vec<Write>, Resume)> {
    let mut found = Recovery::default();
    found.take(open, table, left, owner, |_| false, now);
    let resume = found.resume.pop().filter(|resume| resume.how.found().is_some())?;
    Some((found.writes, resume))
}

impl Recovery {
    /// Before what follows from them.
    pub fn write_first(&mut self, writes: Vec<Write>) {
        self.writes.splice(..0, writes);
    }

    /// As the ledger will count it once the run's end is written: as a start that comes after all that is known.
    fn note_given_up(&mut self, job: &JobName) {
        for (known, started, _) in &mut self.recovered.last {
            if known == job {
                *started = Some(Place::MAX);
            }
        }
    }

    fn take(
        &mut self,
        mut open: ledger::OpenRun,
        table: &JobTable,
        left: &mut Left,
        owner: &Owner,
        alive: impl Fn(&Owner) -> bool,
        now: Timestamp,
    ) {
        let run = open.record.run;
        let Ok(job) = JobName::new(&open.record.job) else { return };
        let number = open.record.attempts.last().map_or(0, |attempt| attempt.number);
        let how = if let Some(program) = left.program_of(&open.record, number) {
            How::Adopted { number: program.attempt.max(1), program: Box::new(program) }
        } else if !(open.queued && open.owner.role == RUN_NOW) && alive(&open.owner) {
            self.recovered.open.push(known(&open, &job));
            self.foreign.push(Foreign::of(&open.record, &job, open.owner.clone()));
            return;
        } else if let Some(orphan) = left.orphan_of(&open, owner) {
            How::Orphaned { number: number.max(1), orphan: Box::new(orphan) }
        } else if open.cancel_asked {
            if open.queued && open.record.trigger == Trigger::After {
                self.note_given_up(&job);
            }
            let under_way = open.record.attempts.last().is_some_and(|attempt| attempt.finished_at.is_none());
            if under_way {
                let outcome = Outcome::Interrupted;
                let error = Some(hold::DIED.to_owned());
                self.writes.push(Write::AttemptEnded { run, number, at: now, outcome, error });
                self.interrupted.push(open.record.clone());
            }
            let error = Some("cancelled, shortly before its daemon died".to_owned());
            self.writes.push(Write::Finished {
                run,
                at: now,
                outcome: Outcome::Cancelled,
                error,
                report: None,
            });
            return;
        } else if open.queued {
            // That of a living `run-now` too: it begins nothing more once a daemon has come.
            How::Queued
        } else {
            let error = Some(hold::DIED.to_owned());
            // It only waited for its next attempt: nothing of it was interrupted.
            let waited = open.record.attempts.last().is_some_and(ended_by_itself);
            if open.record.attempts.last().is_some_and(|attempt| attempt.finished_at.is_none()) {
                let outcome = Outcome::Interrupted;
                self.writes.push(Write::AttemptEnded { run, number, at: now, outcome, error: error.clone() });
                self.interrupted.push(open.record.clone());
            }
            match table.job(job.as_str()) {
                Some(spec) if waited || spec.interrupted == Interrupted::Rerun => {
                    How::Rerun { number: number + 1 }
                }
                _ => {
                    let outcome = Outcome::Interrupted;
                    self.writes.push(Write::Finished { run, at: now, outcome, error, report: None });
                    return;
                }
            }
        };
        self.writes.push(Write::Adopted { run, owner: owner.clone() });
        if let How::Adopted { number: begun, program } = &how
            && *begun > number
        {
            let known = left.attempts_of(&open.record);
            self.writes.extend(lost_attempts(&mut open.record, *begun, program.started_at, &known));
        }
        let tried = open.record.attempts.iter().filter(|attempt| ended_by_itself(attempt)).count();
        let tried = u32::try_from(tried).unwrap_or(u32::MAX);
        let cancel = open.cancel_asked;
        let attempts = table.job(job.as_str()).map_or(1, |spec| spec.retries.attempts);
        let more = !cancel && tried.saturating_add(1) < attempts;
        let ended_at = how.ended_at(more);
        let (queued, again) = (matches!(how, How::Queued), matches!(how, How::Rerun { .. }));
        let ended = left.ended.get(&run).copied();
        self.recovered.open.push(OpenRun { queued, again, ended_at, ended, ..known(&open, &job) });
        self.resume.push(Resume { record: open.record, job, dry_run: open.dry_run, tried, cancel, how });
    }
}

fn dry_runs(open: &[ledger::OpenRun]) -> HashSet<RunId> {
    open.iter().filter(|open| open.dry_run).map(|open| open.record.run).collect()
}

fn ended_by_itself(attempt: &Attempt) -> bool {
    attempt.finished_at.is_some() && attempt.outcome != Outcome::Interrupted
}

/// One that runs.
fn known(open: &ledger::OpenRun, job: &JobName) -> OpenRun {
    let ledger::OpenRun { record, epoch, dry_run, .. } = open;
    OpenRun {
        run: record.run,
        job: job.clone(),
        slot: record.slot,
        epoch: *epoch,
        queued: false,
        again: false,
        dry_run: *dry_run,
        ended_at: None,
        ended: None,
    }
}

/// The jobs as they were scheduled when the ledger was last written. One whose schedule can't be read any more has no
/// slots to account for.
fn past_jobs(table: &TableRecord) -> impl Iterator<Item = PastJob> {
    let zones = table.zones_then();
    table.jobs.iter().map(move |job| PastJob {
        job: job.job.clone(),
        kind: job.kind.clone(),
        jitter: Some(job.jitter),
        schedule: job.schedule_then(&zones),
    })
}
