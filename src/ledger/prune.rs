//! What goes by age: rows, and the events and tables that explain none that is left.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::write::micros;

type Result<T> = rusqlite::Result<T>;

/// By `moment`, which has an index and is hardly ever after the end: so nothing newer is looked at. The rows of the
/// last boot stay: they keep its `@reboot` jobs from running once more, however long ago it was.
pub(super) const PRUNABLE: &str = "SELECT id FROM runs
     WHERE moment < ?1 AND outcome <> 'running' AND ifnull(finished_at, claimed_at) < ?1 AND slot IS NOT ?3
     ORDER BY moment, id LIMIT ?2";

/// Deletes old rows, and the events and tables that explain no row that is left.
pub(super) fn prune(connection: &Connection, before: Timestamp, batch: usize) -> Result<usize> {
    let (before_text, before) = (before.to_string(), micros(before));
    let boot = last_boot(connection)?;
    let old: Vec<i64> = connection
        .prepare_cached(PRUNABLE)?
        .query_map(params![before, i64::try_from(batch).unwrap_or(i64::MAX), boot], |row| row.get(0))?
        .collect::<Result<_>>()?;
    for run in &old {
        connection.prepare_cached("DELETE FROM attempts WHERE run = ?1")?.execute([run])?;
        connection.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([run])?;
    }
    if !old.is_empty() {
        connection
            .prepare_cached(
                "INSERT INTO kept (one, from_when) VALUES (1, ?1)
                 ON CONFLICT (one) DO UPDATE SET from_when = max(from_when, excluded.from_when)",
            )?
            .execute([before])?;
    }
    // The last start tells of the boot; a clock that was set back from a later time explains rows that stay.
    connection
        .prepare_cached(
            "DELETE FROM events WHERE at < ?1
                 AND id IS NOT (SELECT max(id) FROM events WHERE kind = 'daemon_started')
                 AND NOT (kind IN ('clock_stepped', 'clock_behind_ledger')
                     AND ifnull(ifnull(detail ->> 'from', detail ->> 'accounted'), '') >= ?2)",
        )?
        .execute(params![before, before_text])?;
    // The newest table before that instant was in force at it. The one that came last is in force, whatever
    // its date: the clock may have been behind when it came.
    connection
        .prepare_cached(
            "DELETE FROM tables WHERE in_force_from < (
                 SELECT max(in_force_from) FROM tables WHERE in_force_from <= ?1)
             AND id < (SELECT max(id) FROM tables)",
        )?
        .execute([before])?;
    Ok(old.len())
}

/// When this host booted, as the daemon that started last found it.
fn last_boot(connection: &Connection) -> Result<Option<i64>> {
    let told = connection
        .prepare_cached(
            "SELECT detail ->> 'boot_time' FROM events WHERE kind = 'daemon_started' ORDER BY id DESC LIMIT 1",
        )?
        .query_row((), |row| row.get::<_, Option<String>>(0))
        .optional()?;
    Ok(told.flatten().and_then(|boot| boot.parse().ok()).map(micros))
}
