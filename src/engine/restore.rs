//! Runs of which the spawner knows and the ledger does not: their rows waited in the memory of a daemon that was killed
//! while the disk was full.
//!
//! What their programs were told stays true: the rows come back under the same numbers. Without them the programs would
//! be nobody's, and their slots would be taken for missed.

use crate::config::JobTable;
use crate::ledger::{Ledger, NewRow, NewState, OpenRun, Owner, Past, Write};
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
    let mut lost: Vec<&AdoptedProgram> =
        adoption.programs.iter().filter(|program| program.run > last).collect();
    lost.sort_by_key(|program| program.run);
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
        if program.attempt > 1 {
            let (run, number, at) = (program.run, program.attempt, program.started_at);
            let error =
                Some("its end was lost with the daemon, while the ledger could not be written".to_owned());
            writes.push(Write::AttemptEnded { run, number: 1, at, outcome: Outcome::Interrupted, error });
            writes.push(Write::AttemptStarted { run, number, at });
        }
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
