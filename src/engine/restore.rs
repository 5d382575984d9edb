//! Runs of which the spawner knows and the ledger does not: their rows waited in the memory of a daemon that was killed
//! while the disk was full.
//!
//! What their programs were told stays true: the rows come back under the same numbers. Without them the programs would
//! be nobody's, and their slots would be taken for missed.

use jiff::Timestamp;

use crate::config::JobTable;
use crate::host::process::Status;
use crate::ledger::{Ledger, NewRow, NewState, OpenRun, Owner, Past, Write};
use crate::model::{Attempt, JobName, Outcome, RunId, RunRecord, Trigger};
use crate::spawner::{AdoptedProgram, Adoption};

const LOST: &str = "its end was lost with the daemon, while the ledger could not be written";

/// Adds such runs to the open ones of `past`; the writes that give them rows.
pub fn restore_lost(
    past: &mut Past,
    adoption: &Adoption,
    ledger: &dyn Ledger,
    table: &JobTable,
    owner: &Owner,
) -> Vec<Write> {
    let last = ledger.last_run().ok().flatten().unwrap_or(RunId(0));
    let mut lost: Vec<&AdoptedProgram> =
        adoption.programs.iter().filter(|program| program.run > last).collect();
    lost.sort_by_key(|program| (program.run, program.attempt));
    // One run, however many of its attempts are still known.
    lost.dedup_by_key(|program| program.run);
    let above = lost.last().map_or(last, |program| program.run);
    let mut writes = vec![];
    for program in lost {
        let Ok(job) = JobName::new(&program.job) else { continue };
        tracing::warn!(
            "run {} of {job} began while the ledger could not be written, and its row was lost with a daemon: it is \
             restored",
            program.run
        );
        let open = open_run(program, &job, past, table, owner);
        let OpenRun { record, epoch, .. } = &open;
        let row = NewRow {
            job,
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
        // The clock was set back in the life of that daemon: what comes again has been claimed under this epoch.
        let epoch = open.epoch;
        past.jobs.iter_mut().for_each(|one| one.epoch = one.epoch.max(epoch));
        past.open.push(open);
    }
    writes
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
            // What came after it follows when the run is taken over.
            number: 1,
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

/// An attempt as its spawner remembers it.
pub(super) fn known_attempt(program: &AdoptedProgram) -> Attempt {
    let outcome = match (program.exit, program.ended_as) {
        (None, _) => Outcome::Running,
        (Some(_), Some(outcome)) => outcome,
        (Some((Status::Code(code), _)), None) if program.keep.success_codes.contains(&code) => {
            Outcome::Succeeded
        }
        (Some((Status::Unknown, _)), None) => Outcome::Interrupted,
        (Some(_), None) => Outcome::Failed,
    };
    Attempt {
        number: program.attempt,
        started_at: program.started_at,
        finished_at: program.exit.map(|(_, at)| at),
        outcome,
        error: None,
    }
}

/// The attempts of a run that waited in the memory of a daemon, which was killed while the disk was full, up to the start
/// of the one of this number. `known`: those before it that a spawner remembers.
pub(super) fn lost_attempts(
    record: &mut RunRecord,
    number: u32,
    at: Timestamp,
    known: &[Attempt],
) -> Vec<Write> {
    let run = record.run;
    let mut writes = vec![];
    let end_of = |number: u32| {
        let known = known.iter().find(|attempt| attempt.number == number && attempt.finished_at.is_some());
        let (outcome, ended) = match known {
            Some(known) => (known.outcome, known.finished_at.unwrap_or(at)),
            None => (Outcome::Interrupted, at),
        };
        (outcome, ended, LOST.to_owned())
    };
    let end = |attempt: &mut Attempt, writes: &mut Vec<Write>| {
        let (outcome, at, error) = end_of(attempt.number);
        let number = attempt.number;
        *attempt = Attempt { outcome, finished_at: Some(at), error: Some(error.clone()), ..attempt.clone() };
        writes.push(Write::AttemptEnded { run, number, at, outcome, error: Some(error) });
    };
    if let Some(last) = record.attempts.last_mut().filter(|attempt| attempt.finished_at.is_none()) {
        end(last, &mut writes);
    }
    let next = record.attempts.last().map_or(1, |attempt| attempt.number + 1);
    for lost in next..=number {
        let known = known.iter().find(|attempt| attempt.number == lost);
        let started_at = known.filter(|_| lost < number).map_or(at, |attempt| attempt.started_at);
        let mut attempt =
            Attempt { number: lost, started_at, finished_at: None, outcome: Outcome::Running, error: None };
        writes.push(Write::AttemptStarted { run, number: lost, at: started_at });
        if lost < number {
            end(&mut attempt, &mut writes);
        }
        record.attempts.push(attempt);
    }
    record.started_at = record.started_at.or(record.attempts.first().map(|attempt| attempt.started_at));
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn attempt(number: u32, ended: Option<(i64, Outcome)>) -> Attempt {
        Attempt {
            number,
            started_at: at(i64::from(number) * 10),
            finished_at: ended.map(|(second, _)| at(second)),
            outcome: ended.map_or(Outcome::Running, |(_, outcome)| outcome),
            error: None,
        }
    }

    /// What is written of the attempts up to number `begun`, which began at 40.
    fn check(written: &[Attempt], begun: u32, known: &[Attempt], expected: &str) {
        let mut record = RunRecord {
            run: RunId(1),
            job: "a".into(),
            kind: "command".into(),
            trigger: Trigger::Manual,
            slot: None,
            outcome: Outcome::Running,
            reason: None,
            started_at: None,
            finished_at: None,
            host: "web1".into(),
            attempts: written.to_vec(),
            summary: None,
            facts: serde_json::Map::new(),
            findings: vec![],
        };
        let writes = lost_attempts(&mut record, begun, at(40), known).into_iter().map(|write| match write {
            Write::AttemptEnded { number, at, outcome, .. } => {
                format!("{number} {outcome} at {}", at.as_second())
            }
            Write::AttemptStarted { number, at, .. } => format!("{number} starts at {}", at.as_second()),
            other => panic!("{other:?}"),
        });
        assert_eq!(writes.collect::<Vec<_>>().join(", "), expected);
        let numbers: Vec<u32> = record.attempts.iter().map(|attempt| attempt.number).collect();
        assert_eq!(numbers, (1..=begun).collect::<Vec<_>>());
        assert!(
            record.attempts.iter().all(|attempt| attempt.finished_at.is_some() != (attempt.number == begun))
        );
    }

    #[test]
    fn attempts_that_were_lost_with_a_daemon_are_written_again() {
        use Outcome::{Failed, TimedOut};
        let failed = |number, second| attempt(number, Some((second, Failed)));
        check(&[], 1, &[], "1 starts at 40");
        check(&[failed(1, 15)], 2, &[], "2 starts at 40");
        check(&[attempt(1, None)], 2, &[], "1 interrupted at 40, 2 starts at 40");
        check(&[attempt(1, None)], 2, &[failed(1, 15)], "1 failed at 15, 2 starts at 40");
        check(
            &[attempt(1, None)],
            4,
            &[attempt(2, Some((25, TimedOut)))],
            "1 interrupted at 40, 2 starts at 20, 2 timed_out at 25, 3 starts at 40, 3 interrupted at 40, 4 starts at 40",
        );
    }
}
