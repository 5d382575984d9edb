//! Rows that were known elsewhere, written as they were: of a ledger that was set aside, or from memory.

use rusqlite::{Connection, OptionalExtension, params};

use super::write::{as_json, continue_order_after, micros, owner_id};
use super::{JobPast, OpenRun, Owner};
use crate::model::RunRecord;

type Result<T> = rusqlite::Result<T>;

pub(super) fn adopt_row(connection: &Connection, record: &RunRecord, owner: &Owner) -> Result<()> {
    let owner = owner_id(connection, owner)?;
    let moment = record.slot.or(record.started_at).unwrap_or_default();
    // Under an epoch of its own: the ledger that it comes from answers for the slot.
    connection.execute(
        "INSERT OR IGNORE INTO runs (id, job, kind, trigger, slot, slots, epoch, moment, claimed_at, outcome, reason,
             started_at, finished_at, host, owner, summary, facts, findings)
         VALUES (?1, ?2, ?3, ?4, ?15, 1, -?1, ?5, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        params![
            record.run.0,
            record.job,
            record.kind,
            record.trigger.word(),
            micros(moment),
            record.outcome.word(),
            record.reason,
            record.started_at.map(micros),
            record.finished_at.map(micros),
            record.host,
            owner,
            record.summary,
            as_json(&record.facts),
            as_json(&record.findings),
            record.slot.map(micros),
        ],
    )?;
    connection.execute("INSERT OR IGNORE INTO jobs (job, epoch) VALUES (?1, 0)", [&record.job])?;
    for attempt in &record.attempts {
        connection.execute(
            "INSERT OR REPLACE INTO attempts (run, number, started_at, finished_at, outcome, error)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                record.run.0,
                attempt.number,
                micros(attempt.started_at),
                attempt.finished_at.map(micros),
                attempt.outcome.word(),
                attempt.error,
            ],
        )?;
    }
    Ok(())
}

/// A run without an end, from a ledger that is damaged. Under an epoch of its own where another row has its slot.
pub(super) fn restore(connection: &Connection, open: &OpenRun) -> Result<()> {
    let OpenRun { record, epoch, owner, dry_run, .. } = open;
    let known = connection
        .prepare_cached("SELECT 1 FROM runs WHERE id = ?1")?
        .query_row([record.run.0], |_| Ok(()))
        .optional()?;
    if known.is_some() {
        return Ok(());
    }
    adopt_row(connection, record, owner)?;
    connection
        .prepare_cached("UPDATE OR IGNORE runs SET epoch = ?2, dry_run = ?3 WHERE id = ?1")?
        .execute(params![record.run.0, epoch, dry_run])?;
    Ok(())
}

pub(super) fn restore_jobs(connection: &Connection, jobs: &[JobPast]) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT OR IGNORE INTO jobs (job, epoch, last_slot, last_started, last_succeeded) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for job in jobs {
        statement.execute(params![
            job.job,
            job.epoch,
            job.last_slot.map(micros),
            job.last_started,
            job.last_succeeded,
        ])?;
    }
    let last = jobs.iter().flat_map(|job| [job.last_started, job.last_succeeded]).flatten().max();
    last.map_or(Ok(()), |last| continue_order_after(connection, last))
}
