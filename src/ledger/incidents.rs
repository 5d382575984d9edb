//! What is failing, as rows: one for each incident. Never judges them: that is `alert`.

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, Result, Row, params};

use super::Incident;
use super::read::{instant, json, maybe_instant, unreadable, word};
use super::write::{as_json, micros};
use crate::model::{JobName, RunId, Severity};

const COLUMNS: &str = "SELECT job, check_name, severity, opened_at, run, failures, reason, told_at, openings, flapping, \
                       closed_at FROM incidents";

/// The same of a file that is only read, and that nobody has brought up to version 8 yet.
const COLUMNS_BEFORE_8: &str = "SELECT job, '' AS check_name, 'critical', opened_at, run, failures, NULL, \
                                iif(told, opened_at, NULL), json_array(opened_at), 0, NULL FROM incidents";

pub(super) fn all(connection: &Connection) -> Result<Vec<Incident>> {
    let sql = format!("{} ORDER BY job, check_name", columns(connection)?);
    connection.prepare(&sql)?.query_map((), incident)?.collect()
}

/// Up to the first that can't be read.
pub(super) fn readable(connection: &Connection) -> Result<Vec<Incident>> {
    let sql = columns(connection)?;
    Ok(connection.prepare(sql)?.query_map((), incident)?.map_while(Result::ok).collect())
}

pub(super) fn of_job(connection: &Connection, job: &str) -> Result<Vec<Incident>> {
    let sql = format!("{} WHERE job = ?1 ORDER BY check_name", columns(connection)?);
    connection.prepare_cached(&sql)?.query_map([job], incident)?.collect()
}

fn columns(connection: &Connection) -> Result<&'static str> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(if version < 8 { COLUMNS_BEFORE_8 } else { COLUMNS })
}

pub(super) fn write(connection: &Connection, incident: &Incident) -> Result<()> {
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

pub(super) fn forget(connection: &Connection, job: &str, check: Option<&str>) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM incidents WHERE job = ?1 AND check_name = ?2")?
        .execute([job, check.unwrap_or_default()])?;
    Ok(())
}

fn incident(row: &Row<'_>) -> Result<Incident> {
    let check: String = row.get(1)?;
    let openings: Vec<i64> = json(row, 8)?;
    let openings: std::result::Result<_, _> = openings.into_iter().map(Timestamp::from_microsecond).collect();
    Ok(Incident {
        job: word(row, 0, JobName::of_incident)?,
        check: (!check.is_empty()).then_some(check),
        severity: word(row, 2, Severity::from_word)?,
        opened_at: instant(row, 3)?,
        run: RunId(row.get(4)?),
        failures: row.get::<_, i64>(5)?.cast_unsigned(),
        reason: row.get(6)?,
        told_at: maybe_instant(row, 7)?,
        openings: openings.map_err(|error| unreadable(8, Type::Text, error))?,
        flapping: row.get(9)?,
        closed_at: maybe_instant(row, 10)?,
    })
}
