//! The ledger's file as it is, read by SQL.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::Connection;

#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) job: String,
    pub(super) trigger: String,
    pub(super) slot: Option<i64>,
    pub(super) slot_last: Option<i64>,
    pub(super) slots: i64,
    pub(super) epoch: i64,
    pub(super) outcome: String,
    pub(super) reason: Option<String>,
    pub(super) claimed_at: i64,
    pub(super) attempts: Vec<Attempt>,
}

impl Row {
    /// Whether it was skipped for one of these reasons.
    pub(super) fn is(&self, reasons: &[&str]) -> bool {
        self.outcome == "skipped" && self.reason.as_deref().is_some_and(|reason| reasons.contains(&reason))
    }
}

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) started_at: i64,
    pub(super) outcome: String,
    pub(super) error: Option<String>,
}

#[derive(Debug)]
pub(super) struct TableRecord {
    pub(super) from: i64,
    pub(super) jobs: serde_json::Value,
}

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) rows: Vec<Row>,
    pub(super) tables: Vec<TableRecord>,
    /// Jobs that the daemon itself held.
    pub(super) held: Vec<String>,
    pub(super) whole: bool,
}

impl Ledger {
    pub(super) fn read(path: &Path) -> rusqlite::Result<Self> {
        let file = Connection::open(path)?;
        let whole: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        let mut attempts: HashMap<i64, Vec<Attempt>> = HashMap::new();
        let mut asked =
            file.prepare("SELECT run, outcome, error, started_at FROM attempts ORDER BY run, number")?;
        let mut found = asked.query([])?;
        while let Some(row) = found.next()? {
            let attempt = Attempt { outcome: row.get(1)?, error: row.get(2)?, started_at: row.get(3)? };
            attempts.entry(row.get(0)?).or_default().push(attempt);
        }
        let mut asked = file.prepare(
            "SELECT id, job, trigger, slot, slot_last, slots, epoch, outcome, reason, claimed_at FROM runs ORDER BY id",
        )?;
        let rows = asked.query_map([], |row| {
            let id = row.get(0)?;
            Ok(Row {
                id,
                job: row.get(1)?,
                trigger: row.get(2)?,
                slot: row.get(3)?,
                slot_last: row.get(4)?,
                slots: row.get(5)?,
                epoch: row.get(6)?,
                outcome: row.get(7)?,
                reason: row.get(8)?,
                claimed_at: row.get(9)?,
                attempts: attempts.remove(&id).unwrap_or_default(),
            })
        })?;
        let rows = rows.collect::<rusqlite::Result<_>>()?;
        let mut asked = file.prepare("SELECT in_force_from, jobs FROM tables ORDER BY id")?;
        let tables = asked.query_map([], |row| {
            let jobs: String = row.get(1)?;
            Ok(TableRecord { from: row.get(0)?, jobs: serde_json::from_str(&jobs).unwrap_or_default() })
        })?;
        let tables = tables.collect::<rusqlite::Result<_>>()?;
        let mut asked = file.prepare("SELECT detail ->> 'job' FROM events WHERE kind = 'held'")?;
        let held = asked.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        Ok(Self { rows, tables, held, whole: whole == "ok" })
    }
}

/// An instant as a person reads it.
pub(super) fn shown(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| micros.to_string(), |at| at.to_string())
}
