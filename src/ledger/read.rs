//! What is asked of the SQLite ledger, within the caller's snapshot. Here the records of runs and what stands against a
//! claim, the rest by topic in the modules below. Never writes.

mod cells;
mod ends;
mod past;
mod proof;
mod told;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use self::cells::{instant, json_or_empty, maybe_instant, word};
pub(super) use self::ends::last_ends;
#[cfg(test)]
pub(super) use self::ends::{LAST_END, LAST_SUCCESS};
#[cfg(test)]
pub(super) use self::past::OPEN_RUNS;
pub(super) use self::past::{accounted, jobs, open_runs, past, pauses};
#[cfg(test)]
pub(super) use self::proof::{RANGES_OVER, SLOT_ROWS};
pub(super) use self::proof::{chronicle, events, newest_table, ranges_over, slot_rows, tables};
pub(super) use self::told::{incidents_of, notices, readable_incidents, readable_notices};
use super::write::micros;
use super::{Filter, NewRow};
use crate::model::{Attempt, Outcome, RunId, RunRecord, Trigger};

type Result<T> = rusqlite::Result<T>;

/// The columns of a record, in the order that [`record`] reads.
const RECORD: &str = "runs.id, runs.job, kind, trigger, slot, outcome, reason, started_at, finished_at, host, \
                      summary, facts, findings, moment";

/// Where a row stands in the order of `history`.
#[derive(Clone, Copy)]
pub(super) struct Position {
    moment: i64,
    run: i64,
}

impl Position {
    pub(super) const NEWEST: Self = Self { moment: i64::MAX, run: i64::MAX };
}

/// The newest rows below a position, newest first.
pub(super) fn history(
    connection: &Connection,
    filter: &Filter,
    below: Position,
    limit: usize,
) -> Result<Vec<(Position, RunRecord)>> {
    let (sql, mut values) = history_sql(filter);
    values.insert(0, below.moment.into());
    values.insert(1, below.run.into());
    values.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let record = record(connection, row)?;
        found.push((Position { moment: row.get(13)?, run: record.run.0 }, record));
    }
    Ok(found)
}

/// The question, and the values of the filter: those of the position come before them, the limit after.
pub(super) fn history_sql(filter: &Filter) -> (String, Vec<Value>) {
    let mut sql = format!("SELECT {RECORD} FROM runs WHERE (moment, id) < (?, ?)");
    let mut values = Vec::new();
    if let Some(job) = &filter.job {
        sql.push_str(" AND job = ?");
        values.push(job.clone().into());
    }
    if let Some(outcome) = filter.outcome {
        sql.push_str(" AND outcome = ?");
        values.push(outcome.word().to_owned().into());
        if outcome != Outcome::Succeeded {
            // Said again in the words of the partial index, so that it is used.
            sql.push_str(" AND outcome <> 'succeeded'");
        }
    }
    if let Some(since) = filter.since {
        sql.push_str(" AND moment >= ?");
        values.push(micros(since).into());
    }
    sql.push_str(" ORDER BY moment DESC, id DESC LIMIT ?");
    (sql, values)
}

pub(super) fn run(connection: &Connection, run: RunId) -> Result<Option<RunRecord>> {
    let sql = format!("SELECT {RECORD} FROM runs WHERE id = ?1");
    connection.prepare_cached(&sql)?.query_row([run.0], |row| record(connection, row)).optional()
}

pub(super) fn latest(connection: &Connection) -> Result<Vec<RunRecord>> {
    let sql = format!("SELECT {RECORD} FROM jobs JOIN runs ON runs.id = jobs.latest ORDER BY jobs.job");
    connection.prepare_cached(&sql)?.query_map((), |row| record(connection, row))?.collect()
}

pub(super) fn claimed(
    connection: &Connection,
    job: &str,
    slot: Timestamp,
    epoch: u32,
) -> Result<Option<RunId>> {
    connection
        .prepare_cached("SELECT id FROM runs WHERE job = ?1 AND slot = ?2 AND epoch = ?3")?
        .query_row(params![job, micros(slot), epoch], |row| row.get(0).map(RunId))
        .optional()
}

/// The row that stands against a claim: none where every row of the slot is of a future that did not come, nor where
/// the claim stands for further slots that the others leave out. These would otherwise have no row at all.
pub(super) fn refuses(connection: &Connection, claim: &NewRow) -> Result<Option<RunId>> {
    let (job, Some(slot)) = (claim.job.as_str(), claim.slot) else { return Ok(None) };
    let Some(holder) = claimed(connection, job, slot, claim.epoch)? else { return Ok(None) };
    let last = claim.slot_last.unwrap_or(slot);
    let stands: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM runs
                 WHERE job = ?1 AND slot = ?2 AND NOT (outcome = 'skipped' AND claimed_at > ?3)
                   AND ifnull(slot_last, slot) >= ?4)",
        )?
        .query_row(params![job, micros(slot), micros(claim.at), micros(last)], |row| row.get(0))?;
    Ok(stands.then_some(holder))
}

pub(super) fn last_run(connection: &Connection) -> Result<Option<RunId>> {
    connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'runs'")?
        .query_row((), |row| row.get(0).map(RunId))
        .optional()
}

fn record(connection: &Connection, row: &Row<'_>) -> Result<RunRecord> {
    let run = RunId(row.get(0)?);
    Ok(RunRecord {
        run,
        job: row.get(1)?,
        kind: row.get(2)?,
        trigger: word(row, 3, Trigger::from_word)?,
        slot: maybe_instant(row, 4)?,
        outcome: word(row, 5, Outcome::from_word)?,
        reason: row.get(6)?,
        started_at: maybe_instant(row, 7)?,
        finished_at: maybe_instant(row, 8)?,
        host: row.get(9)?,
        attempts: attempts(connection, run)?,
        summary: row.get(10)?,
        facts: json_or_empty(row, 11)?,
        findings: json_or_empty(row, 12)?,
    })
}

fn attempts(connection: &Connection, run: RunId) -> Result<Vec<Attempt>> {
    connection
        .prepare_cached(
            "SELECT number, started_at, finished_at, outcome, error FROM attempts WHERE run = ?1 ORDER BY number",
        )?
        .query_map([run.0], |row| {
            Ok(Attempt {
                number: row.get(0)?,
                started_at: instant(row, 1)?,
                finished_at: maybe_instant(row, 2)?,
                outcome: word(row, 3, Outcome::from_word)?,
                error: row.get(4)?,
            })
        })?
        .collect()
}
