//! Each [`Write`] as SQL, within the caller's transaction.
//!
//! A change of a run that has no row (it was dropped by age, or lost with a damaged file) or that has ended
//! already changes nothing: one odd change must never hold up those after it.

mod claims;
mod course;

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

pub(super) use self::claims::continue_after;
use self::claims::{claim, holder_of};
pub(super) use self::course::continue_order_after;
use self::course::{attempt_started, finished, next_place};
use super::{Applied, Incident, Owner, TableRecord, Write};

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
        Write::Incident(incident) => open_incident(connection, incident)?,
        Write::IncidentGone { job, check } => {
            connection
                .prepare_cached("DELETE FROM incidents WHERE job = ?1 AND check_name = ?2")?
                .execute([job.as_str(), check.as_deref().unwrap_or_default()])?;
        }
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

fn open_incident(connection: &Connection, incident: &Incident) -> Result<()> {
    let openings: Vec<i64> = incident.openings.iter().copied().map(micros).collect();
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO incidents (job, check_name, severity, opened_at, run, failures, reason, told_at,
                                               openings, flapping, closed_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            incident.job.as_str(),
            incident.check.as_deref().unwrap_or_default(),
            incident.severity.word(),
            micros(incident.opened_at),
            incident.run.0,
            incident.failures.cast_signed(),
            incident.reason,
            incident.told_at.map(micros),
            as_json(&openings),
            incident.flapping,
            incident.closed_at.map(micros),
        ])?;
    Ok(())
}

pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// Maps with text keys and plain values always serialise.
pub(super) fn as_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
