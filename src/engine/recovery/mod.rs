//! What a daemon finds when it starts, and what becomes of each run that has no end.
//!
//! Pure: the ledger's past, the programs that still live and the new table come in; what to write, what goes on
//! and what the plan must know come out.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::hold;
use super::plan::{OpenRun, PastJob, Recovered};
use super::restore::{known_attempt, lost_attempts};
use crate::config::JobTable;
use crate::host::process::{Orphan, Status};
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

/// A run that another process has in hand.
pub(super) struct Foreign {
    pub(super) run: RunId,
    pub(super) job: JobName,
    pub(super) started_at: Option<Timestamp>,
    pub(super) attempt: u32,
    /// The run has ended at the latest when this process has.
    pub(super) owner: Owner,
}

impl Foreign {
    fn of(record: &RunRecord, job: &JobName, owner: Owner) -> Self {
        let attempt = record.attempts.last().map_or(0, |attempt| attempt.number);
        Self { run: record.run, job: job.clone(), started_at: record.started_at, attempt, owner }
    }

    pub(super) fn can_be_asked_to_end(&self) -> bool {
        self.owner.role == RUN_NOW
    }

    pub(super) fn ask_to_end(&self) {
        if self.can_be_asked_to_end() && !self.owner.interrupt() {
            tracing::info!("run {} of {} has just ended by itself", self.run, self.job);
        }
    }
}

/// A run that goes on in this daemon.
pub(super) struct Resume {
    pub(super) record: RunRecord,
    pub(super) job: JobName,
    pub(super) dry_run: bool,
    /// Attempts that ended by themselves, as `retries.attempts` counts them.
    pub(super) tried: u32,
    /// Somebody was told that it is to be ended; the daemon before did not come to it.
    pub(super) cancel: bool,
    pub(super) how: How,
}

pub(super) enum How {
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
    fn ended_at(&self, more: bool) -> Option<Timestamp> {
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
    pub(super) fn waits(&self) -> bool {
        matches!(self, Self::Queued | Self::Rerun { .. })
    }

    /// How a program that outlived its daemon was found, in the word that the ledger's `adopted` event keeps.
    pub(super) fn found(&self) -> Option<&'static str> {
        match self {
            Self::Queued | Self::Rerun { .. } => None,
            Self::Adopted { program, .. } if program.ended => Some("ended"),
            Self::Adopted { .. } => Some("running"),
            Self::Orphaned { .. } => Some("without_spawner"),
        }
    }
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

/// What outlived the process that had its run, each program as one whose end can be waited for.
pub fn living_programs(left: &Adoption) -> HashMap<RunId, Owner> {
    let programs = left.programs.iter().filter(|program| !program.ended);
    let programs = programs.map(|program| (program.run, program.pid));
    let orphans = left.orphans.iter().filter_map(|orphan| Some((orphan.run, orphan.pid()?)));
    programs.chain(orphans).map(|(run, pid)| (run, Owner::of("program", pid))).collect()
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

/// What daemons before this one left running.
#[derive(Default)]
pub(super) struct Left {
    pub(super) programs: Vec<AdoptedProgram>,
    orphans: HashMap<RunId, Orphan>,
    /// From where on runs that have ended count.
    ended: HashMap<RunId, Place>,
}

impl Left {
    pub(super) fn of(adoption: Adoption) -> Self {
        let orphans = adoption.orphans.into_iter().map(|orphan| (orphan.run, orphan)).collect();
        Self { programs: adoption.programs, orphans, ended: HashMap::new() }
    }

    /// That of the attempt which is under way. An attempt that has its end already keeps it: its exit came too late, from
    /// a spawner that could not be talked to meanwhile.
    fn program_of(&mut self, record: &RunRecord, number: u32) -> Option<AdoptedProgram> {
        let ended = record.attempts.last().is_some_and(|attempt| attempt.finished_at.is_some());
        let under_way = |program: &AdoptedProgram| {
            let newer = if ended { program.attempt > number } else { program.attempt >= number };
            program.run == record.run && program.job == record.job && newer
        };
        // Where the ledger could not be written, spawners keep the exits of the attempts before it as well.
        let found = self.programs.iter().enumerate().filter(|(_, program)| under_way(program));
        let (index, _) = found.rev().max_by_key(|(_, program)| program.attempt)?;
        Some(self.programs.remove(index))
    }

    /// Those that spawners still know, as they were or ended.
    fn attempts_of(&self, record: &RunRecord) -> Vec<Attempt> {
        let of_run = |program: &&AdoptedProgram| program.run == record.run && program.job == record.job;
        self.programs.iter().filter(of_run).map(known_attempt).collect()
    }

    /// A number alone won't do: ledgers come and go, and begin to count anew.
    fn orphan_of(&mut self, open: &ledger::OpenRun, owner: &Owner) -> Option<Orphan> {
        let record = &open.record;
        let slot = record.slot.map(|slot| slot.to_string()).unwrap_or_default();
        let orphan = self.orphans.get(&record.run)?;
        let ours = orphan.job == record.job
            && orphan.slot.as_ref().is_none_or(|theirs| *theirs == slot)
            && open.owner.boot == owner.boot;
        ours.then(|| self.orphans.remove(&record.run)).flatten()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::JobPast;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn owner(role: &str, pid: u32) -> Owner {
        Owner { role: role.into(), boot: String::new(), pid, start_time: 1 }
    }

    /// `failed`, `interrupted` and so on: attempts that ended so; `running`: one that did not end.
    fn open(run: i64, job: &str, attempts: &[Outcome], owner: Owner) -> ledger::OpenRun {
        let attempts: Vec<Attempt> = (1..)
            .zip(attempts)
            .map(|(number, outcome)| Attempt {
                number,
                started_at: at(10),
                finished_at: (*outcome != Outcome::Running).then(|| at(20)),
                outcome: *outcome,
                error: None,
            })
            .collect();
        let record = RunRecord {
            run: RunId(run),
            job: job.into(),
            kind: "command".into(),
            trigger: Trigger::Manual,
            slot: None,
            outcome: Outcome::Running,
            reason: None,
            started_at: (!attempts.is_empty()).then(|| at(10)),
            finished_at: None,
            host: "web1".into(),
            attempts,
            summary: None,
            facts: serde_json::Map::new(),
            findings: vec![],
        };
        let queued = record.started_at.is_none();
        ledger::OpenRun { record, epoch: 0, owner, queued, dry_run: false, cancel_asked: false }
    }

    /// `left` and `again` say what becomes of them when they are interrupted.
    fn table() -> JobTable {
        let text = "jobs:\n  left: { interrupted: leave, command: { run: [/bin/true] } }\n  \
                    again: { interrupted: rerun, command: { run: [/bin/true] } }\n";
        let environment = crate::config::Environment::of_process(&crate::clock::SystemClock);
        crate::config::read(text, std::path::Path::new("jobs.yaml"), &environment).unwrap().0
    }

    /// What becomes of one open run of a daemon that is gone: what goes on, and what is written.
    fn check(job: &str, attempts: &[Outcome], goes_on: &str, written: &str) {
        let past = Past { open: vec![open(1, job, attempts, owner("daemon", 7))], ..Past::default() };
        let found =
            recover(past, &table(), Adoption::default(), &owner("daemon", 8), |_| false, None, at(30));
        let how = |resume: &Resume| match &resume.how {
            How::Queued => "queued".to_owned(),
            How::Rerun { number } => format!("attempt {number} after {}", resume.tried),
            How::Adopted { number, .. } => format!("adopted {number}"),
            How::Orphaned { number, .. } => format!("watched {number}"),
        };
        assert_eq!(found.resume.iter().map(how).collect::<String>(), goes_on, "{job} {attempts:?}");
        assert_eq!(found.recovered.open.len(), found.resume.len(), "{job} {attempts:?}");
        let write = |write: &Write| match write {
            Write::AttemptEnded { number, outcome, .. } => format!("attempt {number} {outcome}"),
            Write::Finished { outcome, .. } => outcome.to_string(),
            Write::Adopted { owner, .. } => format!("taken by {}", owner.pid),
            other => format!("{other:?}"),
        };
        assert_eq!(
            found.writes.iter().map(write).collect::<Vec<_>>().join(", "),
            written,
            "{job} {attempts:?}"
        );
    }

    #[test]
    fn a_run_that_was_interrupted_follows_its_policy() {
        use Outcome::{Failed, Interrupted, Running, TimedOut};
        check("left", &[Running], "", "attempt 1 interrupted, interrupted");
        check("again", &[Running], "attempt 2 after 0", "attempt 1 interrupted, taken by 8");
        check("again", &[Failed, Running], "attempt 3 after 1", "attempt 2 interrupted, taken by 8");
        check("again", &[Interrupted], "attempt 2 after 0", "taken by 8");
        check("left", &[Interrupted], "", "interrupted");
        // One that waited for its next attempt was not interrupted.
        check("left", &[Failed], "attempt 2 after 1", "taken by 8");
        check("left", &[Interrupted, TimedOut], "attempt 3 after 1", "taken by 8");
        check("left", &[], "queued", "taken by 8");
        check("gone", &[Running], "", "attempt 1 interrupted, interrupted");
        check("gone", &[Failed], "", "interrupted");
    }

    #[test]
    fn what_was_to_be_cancelled_is_not_run_again() {
        for (attempts, expected) in [(&[Outcome::Running][..], 2), (&[Outcome::Failed][..], 1), (&[][..], 1)]
        {
            let mut run = open(1, "again", attempts, owner("daemon", 7));
            run.cancel_asked = true;
            let past = Past { open: vec![run], ..Past::default() };
            let found =
                recover(past, &table(), Adoption::default(), &owner("daemon", 8), |_| false, None, at(30));
            assert_eq!((found.resume.len(), found.recovered.open.len()), (0, 0), "{attempts:?}");
            assert_eq!(found.writes.len(), expected, "{attempts:?}");
            let last = found.writes.last();
            assert!(
                matches!(last, Some(Write::Finished { outcome: Outcome::Cancelled, .. })),
                "{attempts:?}: {last:?}"
            );
        }
    }

    /// What it came after must not bring about another one.
    #[test]
    fn a_run_after_others_that_was_to_be_cancelled_while_it_waited_counts_as_begun() {
        let started = |trigger, attempts: &[Outcome]| {
            let mut run = open(1, "again", attempts, owner("daemon", 7));
            (run.cancel_asked, run.record.trigger) = (true, trigger);
            let job = JobPast {
                job: "again".into(),
                epoch: 0,
                last_slot: None,
                last_started: Some(3),
                last_succeeded: None,
            };
            let past = Past { open: vec![run], jobs: vec![job], ..Past::default() };
            let found =
                recover(past, &table(), Adoption::default(), &owner("daemon", 8), |_| false, None, at(30));
            found.recovered.last[0].1
        };
        assert_eq!(started(Trigger::After, &[]), Some(Place::MAX));
        assert_eq!(started(Trigger::After, &[Outcome::Running]), Some(3));
        assert_eq!(started(Trigger::Manual, &[]), Some(3));
    }

    #[test]
    fn a_run_of_a_living_run_now_is_left_alone() {
        let past = || Past {
            open: vec![open(1, "again", &[Outcome::Running], owner(RUN_NOW, 7))],
            ..Past::default()
        };
        let found = recover(
            past(),
            &table(),
            Adoption::default(),
            &owner("daemon", 8),
            |owner| owner.pid == 7,
            None,
            at(30),
        );
        assert_eq!((found.writes.len(), found.resume.len(), found.recovered.open.len()), (0, 0, 1));
        assert_eq!((found.foreign[0].run, found.foreign[0].attempt), (RunId(1), 1));
        assert!(found.foreign[0].can_be_asked_to_end());
    }

    #[test]
    fn for_one_run_only_what_lives_stands_in_the_way() {
        let check = |program: Option<u32>, living: &[u32], expected: Option<u32>| {
            let past = Past {
                open: vec![open(1, "again", &[Outcome::Running], owner("daemon", 7))],
                ..Past::default()
            };
            let programs = program.map(|pid| (RunId(1), owner("program", pid))).into_iter().collect();
            let found = recover_for_one_run(past, programs, |owner| living.contains(&owner.pid));
            assert_eq!(found.foreign.first().map(|foreign| foreign.owner.pid), expected);
            assert_eq!(found.recovered.open.len(), usize::from(expected.is_some()));
        };
        check(None, &[], None);
        check(None, &[7], Some(7));
        check(Some(9), &[9], Some(9));
        check(Some(9), &[], None);
    }
}
