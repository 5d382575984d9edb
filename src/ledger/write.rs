//! Each [`Write`] as SQL, within the caller's transaction.
//!
//! A change of a run that has no row (it was dropped by age, or lost with a damaged file) or that has ended
//! already changes nothing: one odd change must never hold up those after it.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Applied, NewRow, NewState, Owner, TableRecord, Write, incidents, read};
use crate::model::{Outcome, Report, RunId};

type Result<T> = rusqlite::Result<T>;

pub(super) fn apply(
    connection: &Connection,
    batch: &[Write],
    owner: &Owner,
    host: &str,
) -> Result<Vec<Applied>> {
    let mut me = None;
    let mut applied = Vec::with_capacity(batch.len());
    let mut renumbered = HashMap::new();
    for change in batch {
        let result = match change {
            Write::Claim(row) | Write::ClaimAs { row, .. } => {
                let me = match me {
                    Some(id) => id,
                    None => *me.insert(owner_id(connection, owner)?),
                };
                let number = match change {
                    Write::ClaimAs { run, above, .. } => match holder_of(connection, *run)? {
                        None => Some(*run),
                        // An earlier try was written although it was reported as failed.
                        Some(holder) if holder == (row.job.to_string(), micros(row.at), me) => {
                            applied.push(Applied::Claimed(*run));
                            continue;
                        }
                        Some(_) => {
                            continue_after(connection, *above)?;
                            None
                        }
                    },
                    _ => None,
                };
                let applied = claim(connection, row, number, me, host)?;
                if let (Write::ClaimAs { run, .. }, Applied::Claimed(to) | Applied::AlreadyClaimed(to)) =
                    (change, applied)
                    && *run != to
                {
                    renumbered.insert(*run, to);
                }
                applied
            }
            other => {
                match other.run().and_then(|run| renumbered.get(&run)) {
                    Some(to) => change_one(connection, &other.of_run(*to))?,
                    None => change_one(connection, other)?,
                }
                Applied::Done
            }
        };
        applied.push(result);
    }
    Ok(applied)
}

fn change_one(connection: &Connection, change: &Write) -> Result<()> {
    match change {
        Write::Claim(_) | Write::ClaimAs { .. } => {}
        Write::AttemptStarted { run, number, at } => attempt_started(connection, *run, *number, *at)?,
        Write::AttemptEnded { run, number, at, outcome, error } => {
            connection
                .prepare_cached(
                    "UPDATE attempts SET finished_at = ?3, outcome = ?4, error = ?5
                     WHERE run = ?1 AND number = ?2 AND finished_at IS NULL",
                )?
                .execute(params![run.0, number, micros(*at), outcome.word(), error])?;
        }
        Write::Finished { run, at, outcome, error, report } => {
            finished(connection, *run, *at, *outcome, error.as_deref(), report.as_ref())?;
        }
        Write::Dropped { run, at: _, reason } => {
            connection
                .prepare_cached(
                    "UPDATE runs SET outcome = 'skipped', reason = ?2
                     WHERE id = ?1 AND outcome = 'running' AND started_at IS NULL",
                )?
                .execute(params![run.0, reason.word()])?;
        }
        Write::EndKnown { run } => {
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO ended (run, place)
                     SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM runs WHERE id = ?1 AND outcome = 'running')",
                )?
                .execute(params![run.0, next_place(connection)?])?;
        }
        Write::Adopted { run, owner } => {
            let owner = owner_id(connection, owner)?;
            connection
                .prepare_cached("UPDATE runs SET owner = ?2 WHERE id = ?1")?
                .execute(params![run.0, owner])?;
        }
        Write::Accounted { until } => {
            connection
                .prepare_cached(
                    "INSERT INTO accounted (one, until) VALUES (1, ?1)
                     ON CONFLICT (one) DO UPDATE SET until = excluded.until",
                )?
                .execute([micros(*until)])?;
        }
        Write::SetBack { epoch } => {
            connection
                .prepare_cached("UPDATE jobs SET last_slot = NULL, epoch = max(epoch, ?1)")?
                .execute([epoch])?;
        }
        Write::Table(table) => insert_table(connection, table)?,
        Write::Event(event) => {
            connection
                .prepare_cached("INSERT INTO events (at, kind, detail) VALUES (?1, ?2, ?3)")?
                .execute(params![micros(event.at), event.kind, event.detail.to_string()])?;
        }
        Write::Pause { job, since, until, by } => {
            let name = job.as_ref().map_or("", |job| job.as_str());
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO pauses (job, since, until, paused_by) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![name, micros(*since), until.map(micros), by])?;
        }
        Write::Resume { job } => {
            let name = job.as_ref().map_or("", |job| job.as_str());
            connection.prepare_cached("DELETE FROM pauses WHERE job = ?1")?.execute([name])?;
        }
        Write::Incident(incident) => incidents::write(connection, incident)?,
        Write::IncidentGone { job, check } => incidents::forget(connection, job.as_str(), check.as_deref())?,
        Write::Notice(notice) => {
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO notices (id, at, job, run, contact, channel, kind, story)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    notice.id,
                    micros(notice.at),
                    notice.job.as_str(),
                    notice.run.0,
                    notice.contact,
                    notice.channel.word(),
                    notice.kind.word(),
                    notice.story.to_string(),
                ])?;
        }
        Write::NoticeDone { id } => {
            connection.prepare_cached("DELETE FROM notices WHERE id = ?1")?.execute([id])?;
        }
    }
    Ok(())
}

/// The next row gets a number above `run`.
pub(super) fn continue_after(connection: &Connection, run: RunId) -> Result<()> {
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'runs' AND seq < ?1", [run.0])?;
    connection.execute(
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'runs', ?1
         WHERE ?1 > 0 AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'runs')",
        [run.0],
    )?;
    Ok(())
}

/// The job of a row, when it was claimed and by which owner.
fn holder_of(connection: &Connection, run: RunId) -> Result<Option<(String, i64, i64)>> {
    connection
        .prepare_cached("SELECT job, claimed_at, owner FROM runs WHERE id = ?1")?
        .query_row([run.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()
}

/// `number`: the one that was promised to it.
fn claim(
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

fn attempt_started(connection: &Connection, run: RunId, number: u32, at: Timestamp) -> Result<()> {
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

fn open_attempt(connection: &Connection, run: i64, number: u32, at: Timestamp) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO attempts (run, number, started_at, outcome) VALUES (?1, ?2, ?3, 'running')",
        )?
        .execute(params![run, number, micros(at)])?;
    Ok(())
}

fn note_start(connection: &Connection, run: i64) -> Result<()> {
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
fn next_place(connection: &Connection) -> Result<i64> {
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
pub(super) fn continue_order_after(connection: &Connection, place: i64) -> Result<()> {
    connection.execute("UPDATE sequence SET last = max(last, ?1)", [place])?;
    Ok(())
}

fn finished(
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

fn insert_table(connection: &Connection, table: &TableRecord) -> Result<()> {
    connection
        .prepare_cached("INSERT INTO tables (in_force_from, hash, jobs, zones) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            micros(table.in_force_from),
            table.hash,
            as_json(&table.jobs),
            as_json(&table.zones)
        ])?;
    Ok(())
}

pub(super) fn owner_id(connection: &Connection, owner: &Owner) -> Result<i64> {
    let Owner { role, boot, pid, start_time } = owner;
    let key = params![role, boot, pid, start_time.cast_signed()];
    let known = connection
        .prepare_cached(
            "SELECT id FROM owners WHERE role = ?1 AND boot = ?2 AND pid = ?3 AND start_time = ?4",
        )?
        .query_row(key, |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    connection
        .prepare_cached("INSERT INTO owners (role, boot, pid, start_time) VALUES (?1, ?2, ?3, ?4)")?
        .execute(key)?;
    Ok(connection.last_insert_rowid())
}

pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// Maps with text keys and plain values always serialise.
pub(super) fn as_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
