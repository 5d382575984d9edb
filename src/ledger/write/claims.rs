//! A slot claimed, or a number taken: one row, whoever asks for it a second time. Never changes a run that has one.

use rusqlite::{Connection, OptionalExtension, params};

use super::course::{note_start, open_attempt};
use super::{Result, micros};
use crate::ledger::{Applied, NewRow, NewState, read};
use crate::model::{Outcome, RunId};

/// `number`: the one that was promised to it.
pub(super) fn claim(
    connection: &Connection,
    row: &NewRow,
    number: Option<RunId>,
    owner: i64,
    host: &str,
) -> Result<Applied> {
    let (outcome, reason, started) = match row.state {
        NewState::Started => (Outcome::Running, None, Some(row.at)),
        NewState::Queued => (Outcome::Running, Some("queued"), None),
        NewState::Skipped(reason) => (Outcome::Skipped, Some(reason.word()), None),
    };
    let last_slot = row.slot_last.or(row.slot);
    let insert = |epoch: i64| {
        connection
        .prepare_cached(
            "INSERT INTO runs (job, kind, trigger, slot, slot_last, slots, epoch, moment, claimed_at, outcome,
                               reason, started_at, host, owner, requested_by, dry_run, id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
             ON CONFLICT (job, slot, epoch) DO NOTHING",
        )?
        .execute(params![
            row.job.as_str(),
            row.kind,
            row.trigger.word(),
            row.slot.map(micros),
            row.slot_last.map(micros),
            row.slots.cast_signed(),
            epoch,
            micros(last_slot.unwrap_or(row.at)),
            micros(row.at),
            outcome.word(),
            reason,
            started.map(micros),
            host,
            owner,
            row.requested_by,
            row.dry_run,
            number.map(|number| number.0),
        ])
    };
    if insert(row.epoch.into())? == 0
        && let Some(slot) = row.slot
    {
        if let Some(holder) = read::refuses(connection, row)? {
            return Ok(Applied::AlreadyClaimed(holder));
        }
        // All that stands there is of a future that did not come, or of fewer slots. `jobs.epoch` stays: the clock's
        // epoch is the same.
        let highest: i64 = connection
            .prepare_cached("SELECT max(epoch) FROM runs WHERE job = ?1 AND slot = ?2")?
            .query_row(params![row.job.as_str(), micros(slot)], |row| row.get(0))?;
        insert(highest + 1)?;
    }
    let run = connection.last_insert_rowid();
    connection
        .prepare_cached(
            "INSERT INTO jobs (job, epoch, last_slot) VALUES (?1, ?2, ?3)
             ON CONFLICT (job) DO UPDATE SET
                 epoch = max(epoch, excluded.epoch),
                 last_slot = max(ifnull(last_slot, excluded.last_slot), ifnull(excluded.last_slot, last_slot))",
        )?
        .execute(params![row.job.as_str(), row.epoch, last_slot.map(micros)])?;
    if let Some(at) = started {
        open_attempt(connection, run, 1, at)?;
        note_start(connection, run)?;
    }
    Ok(Applied::Claimed(RunId(run)))
}

/// The job of a row, when it was claimed and by which owner.
pub(super) fn holder_of(connection: &Connection, run: RunId) -> Result<Option<(String, i64, i64)>> {
    connection
        .prepare_cached("SELECT job, claimed_at, owner FROM runs WHERE id = ?1")?
        .query_row([run.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()
}

/// The next row gets a number above `run`.
pub(in crate::ledger) fn continue_after(connection: &Connection, run: RunId) -> Result<()> {
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'runs' AND seq < ?1", [run.0])?;
    connection.execute(
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'runs', ?1
         WHERE ?1 > 0 AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'runs')",
        [run.0],
    )?;
    Ok(())
}
