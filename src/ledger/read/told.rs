//! What people are told of: open incidents, and the notices that wait. Never decides whom to tell.

use rusqlite::{Connection, OptionalExtension, Row};

use super::Result;
use super::cells::{instant, json, word};
use crate::ledger::{Incident, Notice};
use crate::model::{Channel, JobName, NoticeKind, RunId};

const INCIDENT: &str = "SELECT job, opened_at, run, failures, told FROM incidents";

pub(super) fn incidents(connection: &Connection) -> Result<Vec<Incident>> {
    connection.prepare(&format!("{INCIDENT} ORDER BY job"))?.query_map((), incident)?.collect()
}

/// Up to the first that can't be read.
pub(in super::super) fn readable_incidents(connection: &Connection) -> Result<Vec<Incident>> {
    Ok(connection.prepare(INCIDENT)?.query_map((), incident)?.map_while(Result::ok).collect())
}

pub(in super::super) fn incident_of(connection: &Connection, job: &str) -> Result<Option<Incident>> {
    let sql = format!("{INCIDENT} WHERE job = ?1");
    connection.prepare_cached(&sql)?.query_row([job], incident).optional()
}

fn incident(row: &Row<'_>) -> Result<Incident> {
    Ok(Incident {
        job: word(row, 0, JobName::of_incident)?,
        opened_at: instant(row, 1)?,
        run: RunId(row.get(2)?),
        failures: row.get::<_, i64>(3)?.cast_unsigned(),
        told: row.get(4)?,
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
