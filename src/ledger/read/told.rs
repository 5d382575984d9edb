//! What people are told of: open incidents, and the notices that wait. Never decides whom to tell.

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, Row};

use super::Result;
use super::cells::{instant, json, maybe_instant, unreadable, word};
use crate::ledger::{Incident, Notice};
use crate::model::{Channel, JobName, NoticeKind, RunId, Severity};

const COLUMNS: &str = "SELECT job, check_name, severity, opened_at, run, failures, reason, told_at, openings, flapping, \
                       closed_at FROM incidents";

/// The same of a file that is only read, and that nobody has brought up to version 8 yet.
const COLUMNS_BEFORE_8: &str = "SELECT job, '' AS check_name, 'critical', opened_at, run, failures, NULL, \
                                iif(told, opened_at, NULL), json_array(opened_at), 0, NULL FROM incidents";

pub(super) fn incidents(connection: &Connection) -> Result<Vec<Incident>> {
    let sql = format!("{} ORDER BY job, check_name", columns(connection)?);
    connection.prepare(&sql)?.query_map((), incident)?.collect()
}

/// Up to the first that can't be read.
pub(in super::super) fn readable_incidents(connection: &Connection) -> Result<Vec<Incident>> {
    let sql = columns(connection)?;
    Ok(connection.prepare(sql)?.query_map((), incident)?.map_while(Result::ok).collect())
}

pub(in super::super) fn incidents_of(connection: &Connection, job: &str) -> Result<Vec<Incident>> {
    let sql = format!("{} WHERE job = ?1 ORDER BY check_name", columns(connection)?);
    connection.prepare_cached(&sql)?.query_map([job], incident)?.collect()
}

fn columns(connection: &Connection) -> Result<&'static str> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(if version < 8 { COLUMNS_BEFORE_8 } else { COLUMNS })
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

pub(in super::super) fn notices(connection: &Connection) -> Result<Vec<Notice>> {
    connection.prepare(NOTICES)?.query_map((), notice)?.collect()
}

/// Up to the first that can't be read.
pub(in super::super) fn readable_notices(connection: &Connection) -> Result<Vec<Notice>> {
    Ok(connection.prepare(NOTICES)?.query_map((), notice)?.map_while(Result::ok).collect())
}

const NOTICES: &str = "SELECT id, at, job, run, contact, channel, kind, story FROM notices ORDER BY number";

fn notice(row: &Row<'_>) -> Result<Notice> {
    Ok(Notice {
        id: row.get(0)?,
        at: instant(row, 1)?,
        job: word(row, 2, JobName::of_incident)?,
        run: RunId(row.get(3)?),
        contact: row.get(4)?,
        channel: word(row, 5, Channel::from_word)?,
        kind: word(row, 6, NoticeKind::from_word)?,
        story: json(row, 7)?,
    })
}
