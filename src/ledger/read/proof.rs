//! What the proof that every slot is accounted for is made of: tables, events, and the rows by their slots. Judges
//! none of it.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Result;
use super::cells::{instant, json, maybe_instant, word};
use crate::ledger::write::micros;
use crate::ledger::{Chronicle, Event, SlotRow, TableRecord};
use crate::model::{Outcome, RunId};

pub(in super::super) fn newest_table(connection: &Connection) -> Result<Option<TableRecord>> {
    connection
        .query_row("SELECT in_force_from, hash, jobs, zones FROM tables ORDER BY id DESC LIMIT 1", (), table)
        .optional()
}

pub(in super::super) fn events(connection: &Connection, from: Timestamp) -> Result<Vec<Event>> {
    connection
        .prepare_cached("SELECT at, kind, detail FROM events WHERE at >= ?1 ORDER BY at, id")?
        .query_map([micros(from)], event)?
        .collect()
}

pub(in super::super) fn tables(connection: &Connection, from: Timestamp) -> Result<Vec<TableRecord>> {
    connection
        .prepare_cached(
            "SELECT in_force_from, hash, jobs, zones FROM tables
             WHERE in_force_from >= ifnull((SELECT max(in_force_from) FROM tables WHERE in_force_from <= ?1), ?1)
             ORDER BY in_force_from, id",
        )?
        .query_map([micros(from)], table)?
        .collect()
}

pub(in super::super) fn chronicle(connection: &Connection) -> Result<Chronicle> {
    let instant_of = |sql: &str| connection.query_row(sql, (), |row| instant(row, 0)).optional();
    // A ledger that only a reader has opened may still be of the version before.
    let knows =
        connection.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'kept'", (), |row| {
            row.get::<_, bool>(0)
        })?;
    Ok(Chronicle {
        accounted: instant_of("SELECT until FROM accounted")?,
        kept_from: if knows { instant_of("SELECT from_when FROM kept")? } else { None },
        tables: connection
            .prepare("SELECT in_force_from, hash, jobs, zones FROM tables ORDER BY id")?
            .query_map((), table)?
            .collect::<Result<_>>()?,
        events: connection
            .prepare("SELECT at, kind, detail FROM events ORDER BY id")?
            .query_map((), event)?
            .collect::<Result<_>>()?,
    })
}

/// The next rows of a job in the order of their slots, after `(slot, epoch)`. Rows that [`super::Buffered`] keeps of
/// another ledger have negative epochs: they answer for no slot here.
pub(in super::super) const SLOT_ROWS: &str = "SELECT id, slot, slot_last, slots, epoch, outcome FROM runs
     WHERE job = ?1 AND (slot, epoch) > (?2, ?3) AND epoch >= 0 ORDER BY slot, epoch LIMIT ?4";

/// Range rows that begin before an instant and end after it.
pub(in super::super) const RANGES_OVER: &str = "SELECT id, slot, slot_last, slots, epoch, outcome FROM runs
     WHERE job = ?1 AND slot_last >= ?2 AND slot < ?2 AND epoch >= 0";

pub(in super::super) fn slot_rows(
    connection: &Connection,
    job: &str,
    after: (i64, i64),
    limit: usize,
) -> Result<Vec<SlotRow>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection
        .prepare_cached(SLOT_ROWS)?
        .query_map(params![job, after.0, after.1, limit], slot_row)?
        .collect()
}

pub(in super::super) fn ranges_over(
    connection: &Connection,
    job: &str,
    at: Timestamp,
) -> Result<Vec<SlotRow>> {
    let mut rows: Vec<SlotRow> = connection
        .prepare_cached(RANGES_OVER)?
        .query_map(params![job, micros(at)], slot_row)?
        .collect::<Result<_>>()?;
    rows.sort_by_key(|row| (row.slot, row.epoch));
    Ok(rows)
}

fn slot_row(row: &Row<'_>) -> Result<SlotRow> {
    Ok(SlotRow {
        run: RunId(row.get(0)?),
        slot: instant(row, 1)?,
        slot_last: maybe_instant(row, 2)?,
        slots: row.get::<_, i64>(3)?.cast_unsigned(),
        epoch: row.get(4)?,
        outcome: word(row, 5, Outcome::from_word)?,
    })
}

fn event(row: &Row<'_>) -> Result<Event> {
    Ok(Event { at: instant(row, 0)?, kind: row.get(1)?, detail: json(row, 2)? })
}

pub(super) fn table(row: &Row<'_>) -> Result<TableRecord> {
    Ok(TableRecord {
        in_force_from: instant(row, 0)?,
        hash: row.get(1)?,
        jobs: json(row, 2)?,
        zones: json(row, 3)?,
    })
}
