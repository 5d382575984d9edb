//! The course of a run after its claim: its attempts, its end, and its place in the order of starts and successes. A run
//! that has ended stays as it is, unless it was interrupted and goes on.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Result, as_json, micros};
use crate::model::{Outcome, Report, RunId};

pub(super) fn attempt_started(connection: &Connection, run: RunId, number: u32, at: Timestamp) -> Result<()> {
    // A run that was interrupted may go on with a further attempt; any other end is final.
    let goes_on = connection
        .prepare_cached(
            "UPDATE runs SET outcome = 'running', reason = NULL, finished_at = NULL
             WHERE id = ?1 AND outcome IN ('running', 'interrupted')",
        )?
        .execute([run.0])?;
    if goes_on == 0 {
        return Ok(());
    }
    take_end(connection, run)?;
    open_attempt(connection, run.0, number, at)?;
    let first = connection
        .prepare_cached(
            "UPDATE runs SET started_at = ?2, moment = CASE WHEN slot IS NULL THEN ?2 ELSE moment END
             WHERE id = ?1 AND started_at IS NULL",
        )?
        .execute(params![run.0, micros(at)])?;
    if first > 0 {
        note_start(connection, run.0)?;
    }
    Ok(())
}

pub(super) fn open_attempt(connection: &Connection, run: i64, number: u32, at: Timestamp) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO attempts (run, number, started_at, outcome) VALUES (?1, ?2, ?3, 'running')",
        )?
        .execute(params![run, number, micros(at)])?;
    Ok(())
}

pub(super) fn note_start(connection: &Connection, run: i64) -> Result<()> {
    let place = next_place(connection)?;
    connection
        .prepare_cached(
            "UPDATE jobs SET latest = max(ifnull(latest, 0), ?1),
                 last_started = CASE WHEN (SELECT dry_run FROM runs WHERE id = ?1) THEN last_started
                     ELSE ?2 END
             WHERE job = (SELECT job FROM runs WHERE id = ?1)",
        )?
        .execute(params![run, place])?;
    Ok(())
}

/// In the order of starts and successes, which no clock upsets.
pub(super) fn next_place(connection: &Connection) -> Result<i64> {
    connection
        .prepare_cached("UPDATE sequence SET last = last + 1 RETURNING last")?
        .query_row((), |row| row.get(0))
}

/// From where on a run counts that was known to have ended.
fn take_end(connection: &Connection, run: RunId) -> Result<Option<i64>> {
    connection
        .prepare_cached("DELETE FROM ended WHERE run = ?1 RETURNING place")?
        .query_row([run.0], |row| row.get(0))
        .optional()
}

/// The next start or success comes after `place`.
pub(in crate::ledger) fn continue_order_after(connection: &Connection, place: i64) -> Result<()> {
    connection.execute("UPDATE sequence SET last = max(last, ?1)", [place])?;
    Ok(())
}

pub(super) fn finished(
    connection: &Connection,
    run: RunId,
    at: Timestamp,
    outcome: Outcome,
    error: Option<&str>,
    report: Option<&Report>,
) -> Result<()> {
    // An error that no attempt tells (cancelled while it waited) is the run's own reason.
    let changed = connection
        .prepare_cached(
            "UPDATE runs SET outcome = ?2, finished_at = ?3, summary = ?5, facts = ?6, findings = ?7,
                 reason = CASE WHEN EXISTS (
                     SELECT 1 FROM attempts WHERE run = ?1 AND (finished_at IS NULL OR error IS ?4)
                 ) THEN NULL ELSE ?4 END
             WHERE id = ?1 AND outcome = 'running'",
        )?
        .execute(params![
            run.0,
            outcome.word(),
            micros(at),
            error,
            report.map(|report| report.summary.as_str()),
            report.map(|report| as_json(&report.facts)),
            report.map(|report| as_json(&report.findings)),
        ])?;
    if changed == 0 {
        return Ok(());
    }
    connection
        .prepare_cached(
            "UPDATE attempts SET finished_at = ?2, outcome = ?3, error = ?4 WHERE run = ?1 AND finished_at IS NULL",
        )?
        .execute(params![run.0, micros(at), outcome.word(), error])?;
    let known = take_end(connection, run)?;
    let succeeded = match (outcome, known) {
        (Outcome::Succeeded, None) => Some(next_place(connection)?),
        (Outcome::Succeeded, known) => known,
        _ => None,
    };
    connection
        .prepare_cached(
            "UPDATE jobs SET latest = max(ifnull(latest, 0), ?1),
                 last_succeeded = CASE WHEN (SELECT dry_run FROM runs WHERE id = ?1) THEN last_succeeded
                     ELSE max(ifnull(last_succeeded, ?2), ifnull(?2, last_succeeded)) END
             WHERE job = (SELECT job FROM runs WHERE id = ?1)",
        )?
        .execute(params![run.0, succeeded])?;
    if outcome != Outcome::Succeeded {
        note_given_up(connection, run)?;
    }
    Ok(())
}

/// A run `after` others that was cancelled while it waited counts as begun: what brought it about must not bring about
/// another one. One that was dropped is no such thing; its job stays due.
fn note_given_up(connection: &Connection, run: RunId) -> Result<()> {
    let given_up: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM runs WHERE id = ?1 AND trigger = 'after' AND started_at IS NULL)",
        )?
        .query_row([run.0], |row| row.get(0))?;
    if given_up { note_start(connection, run.0) } else { Ok(()) }
}
