//! Runs of which the spawner knows and the ledger does not: their rows waited in the memory of a daemon that was killed
//! while the disk was full.
//!
//! What their programs were told stays true: the rows come back under the same numbers. Without them the programs would
//! be nobody's, and their slots would be taken for missed.

use std::time::Duration;

use jiff::Timestamp;

use crate::config::JobTable;
use crate::ledger::{JobPast, Ledger, NewRow, NewState, OpenRun, Owner, Past, Place, Write};
use crate::model::{Attempt, JobName, Outcome, RunId, RunRecord, Trigger};
use crate::spawner::{AdoptedProgram, Adoption};

/// Adds such runs to the open ones of `past`; the writes that give them rows.
pub fn restore_lost(
    past: &mut Past,
    adoption: &Adoption,
    ledger: &dyn Ledger,
    table: &JobTable,
    owner: &Owner,
) -> Vec<Write> {
    let last = ledger.last_run().ok().flatten().unwrap_or(RunId(0));
    let lost = adoption.programs.iter().filter(|program| program.run > last);
    let above = lost.map(|program| program.run).max().unwrap_or(last);
    let mut places = Places::after(past);
    let mut writes = vec![];
    for (index, moment) in in_order(adoption.programs.iter().map(|program| Times::of(program, last))) {
        let program = &adoption.programs[index];
        if moment == Moment::Ended {
            writes.push(Write::EndKnown { run: program.run });
            places.ended(program.run, past);
            continue;
        }
        let Ok(job) = JobName::new(&program.job) else { continue };
        tracing::warn!(
            "run {} of {job} began while the ledger could not be written, and its row was lost with a daemon: it is \
             restored",
            program.run
        );
        let open = open_run(program, &job, past, table, owner);
        let OpenRun { record, epoch, .. } = &open;
        let row = NewRow {
            job: job.clone(),
            kind: record.kind.clone(),
            trigger: record.trigger,
            slot: record.slot,
            slot_last: None,
            slots: 1,
            epoch: *epoch,
            state: NewState::Started,
            requested_by: program.origin.as_ref().and_then(|origin| origin.requested_by.clone()),
            dry_run: false,
            at: program.started_at,
        };
        writes.push(Write::ClaimAs { run: program.run, above, row });
        if program.attempt > 1 {
            let (run, number, at) = (program.run, program.attempt, program.started_at);
            let error =
                Some("its end was lost with the daemon, while the ledger could not be written".to_owned());
            writes.push(Write::AttemptEnded { run, number: 1, at, outcome: Outcome::Interrupted, error });
            writes.push(Write::AttemptStarted { run, number, at });
        }
        places.started(&job, past);
        past.open.push(open);
    }
    writes
}

/// A program as far as its place among the others goes.
struct Times {
    lost: bool,
    began: (Option<Duration>, Timestamp),
    ended: Option<(Option<Duration>, Timestamp)>,
}

impl Times {
    fn of(program: &AdoptedProgram, last: RunId) -> Self {
        Self {
            lost: program.run > last,
            began: (program.started_since_boot, program.started_at),
            ended: program.exit.map(|(_, at)| (program.ended_since_boot, at)),
        }
    }
}

/// In the order in which they count at one instant: an end may be what brought about a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Ended,
    Began,
}

/// The starts that were lost, each after the ends that came before it: what an `after` job has run for already must not
/// count as a success that came later. By the time since boot, which nobody sets, where the spawners tell it.
fn in_order(programs: impl Iterator<Item = Times>) -> Vec<(usize, Moment)> {
    let mut moments = vec![];
    for (index, times) in programs.enumerate() {
        moments.extend(times.lost.then_some((times.began, Moment::Began, index)));
        moments.extend(times.ended.map(|ended| (ended, Moment::Ended, index)));
    }
    let by_boot = moments.iter().all(|((since_boot, _), ..)| since_boot.is_some());
    moments.sort_by_key(|((since_boot, at), moment, index)| {
        (since_boot.filter(|_| by_boot), (!by_boot).then_some(*at), *moment, *index)
    });
    // What ended after all of them is no news: it counts when it is judged.
    let last = moments.iter().rposition(|(_, moment, _)| *moment == Moment::Began);
    moments.truncate(last.map_or(0, |last| last + 1));
    moments.into_iter().map(|(_, moment, index)| (index, moment)).collect()
}

/// The order that the ledger will give to what is written here, for the plan of this start.
struct Places(Place);

impl Places {
    fn after(past: &Past) -> Self {
        let jobs = past.jobs.iter().flat_map(|job| [job.last_started, job.last_succeeded]).flatten();
        Self(jobs.chain(past.ended.iter().map(|(_, place)| *place)).max().unwrap_or_default())
    }

    fn ended(&mut self, run: RunId, past: &mut Past) {
        self.0 += 1;
        if past.ended.iter().all(|(known, _)| *known != run) {
            past.ended.push((run, self.0));
        }
    }

    fn started(&mut self, job: &JobName, past: &mut Past) {
        self.0 += 1;
        let last_started = Some(self.0);
        match past.jobs.iter_mut().find(|known| known.job == job.as_str()) {
            Some(known) => known.last_started = last_started,
            None => past.jobs.push(JobPast {
                job: job.to_string(),
                epoch: 0,
                last_slot: None,
                last_started,
                last_succeeded: None,
            }),
        }
    }
}

fn open_run(
    program: &AdoptedProgram,
    job: &JobName,
    past: &Past,
    table: &JobTable,
    owner: &Owner,
) -> OpenRun {
    let spec = table.job(job.as_str());
    let scheduled = past.table.iter().flat_map(|table| &table.jobs).find(|one| one.job == *job);
    let kind = spec.map(|spec| spec.kind.name.to_owned()).or_else(|| scheduled.map(|one| one.kind.clone()));
    let record = RunRecord {
        run: program.run,
        job: job.to_string(),
        kind: kind.unwrap_or_else(|| "command".to_owned()),
        trigger: match &program.origin {
            Some(origin) => origin.trigger,
            // A spawner of a former version doesn't know.
            None if program.slot.is_some() => Trigger::Schedule,
            None => Trigger::Manual,
        },
        slot: program.slot,
        outcome: Outcome::Running,
        reason: None,
        started_at: Some(program.started_at),
        finished_at: None,
        host: crate::host::procfs::host_name(),
        attempts: vec![Attempt {
            number: program.attempt,
            started_at: program.started_at,
            finished_at: None,
            outcome: Outcome::Running,
            error: None,
        }],
        summary: None,
        facts: serde_json::Map::new(),
        findings: vec![],
    };
    let zones = past.table.as_ref().map(|table| table.zones_then()).unwrap_or_default();
    let interval = program.slot.zip(scheduled.and_then(|one| one.schedule_then(&zones)));
    let epoch = match interval {
        _ if let Some(origin) = &program.origin => origin.epoch,
        Some((slot, schedule)) if super::plan::is_interval(&schedule, slot) => {
            past.jobs.iter().map(|job| job.epoch).max().unwrap_or(0)
        }
        _ => 0,
    };
    OpenRun { record, epoch, owner: owner.clone(), queued: false, dry_run: false, cancel_asked: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `lost` or `known`, then when it began and ended by the clock and since the boot, in seconds.
    fn program(what: &str, clock: (i64, Option<i64>), since_boot: Option<(u64, Option<u64>)>) -> Times {
        let boot = |seconds| Some(Duration::from_secs(seconds));
        let wall = |seconds| Timestamp::from_second(seconds).unwrap();
        Times {
            lost: what == "lost",
            began: (since_boot.and_then(|(began, _)| boot(began)), wall(clock.0)),
            ended: clock.1.map(|at| (since_boot.and_then(|(_, ended)| boot(ended?)), wall(at))),
        }
    }

    fn check(programs: Vec<Times>, expected: &str) {
        let words =
            in_order(programs.into_iter()).into_iter().map(|(index, moment)| format!("{moment:?} {index}"));
        assert_eq!(words.collect::<Vec<_>>().join(", "), expected);
    }

    #[test]
    fn an_end_goes_before_the_start_that_it_brought_about_whatever_the_clock_was_set_to() {
        let first = |since_boot| program("lost", (7_200, Some(7_260)), since_boot);
        // Then the clock was set back by two hours.
        let then = |since_boot| program("lost", (60, Some(90)), since_boot);
        let known = |since_boot| program("known", (7_100, Some(7_250)), since_boot);
        let boot = |began, ended| Some((began, Some(ended)));
        let all = vec![then(boot(60, 80)), first(boot(10, 60)), known(boot(5, 50))];
        check(all, "Began 1, Ended 2, Ended 1, Began 0");
        // A spawner of a former version tells of one of them.
        let some = vec![then(boot(60, 80)), first(boot(10, 60)), known(None)];
        check(some, "Began 0, Ended 0, Began 1");
    }

    #[test]
    fn what_ended_after_all_of_them_has_yet_to_count() {
        let lost = || program("lost", (10, None), Some((10, None)));
        check(vec![lost(), program("known", (5, Some(11)), Some((5, Some(11))))], "Began 0");
        check(vec![program("known", (5, Some(11)), Some((5, Some(11))))], "");
        check(vec![lost(), program("known", (5, None), Some((5, None)))], "Began 0");
    }
}
