//! What is asked of the SQLite ledger, within the caller's snapshot.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use rusqlite::types::{FromSqlError, Type, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde::de::DeserializeOwned;

use super::write::micros;
use super::{
    Chronicle, Event, Filter, JobPast, NewRow, Notice, OpenRun, Owner, Past, PauseRecord, Place,
    SlotRow, TableRecord, incidents,
};
use crate::model::{Attempt, Channel, JobName, NoticeKind, Outcome, RunId, RunRecord, Trigger};

type Result<T> = rusqlite::Result<T>;

/// The columns of a record, in the order that [`record`] reads.
const RECORD: &str = "runs.id, runs.job, kind, trigger, slot, outcome, reason, started_at, finished_at, host, \
                      summary, facts, findings, moment";

/// In the words of the partial index, so that it is used.
pub(super) const OPEN_RUNS: &str = "FROM runs JOIN owners ON owners.id = runs.owner
     WHERE outcome = 'running' AND outcome <> 'succeeded'";

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

pub(super) fn past(connection: &Connection) -> Result<Past> {
    let open = open_runs(connection)?;
    Ok(Past {
        accounted: accounted(connection)?,
        table: newest_table(connection)?,
        groups: groups(connection, &open)?,
        open,
        pauses: pauses(connection)?,
        jobs: jobs(connection)?,
        ended: ended(connection)?,
        incidents: incidents::all(connection)?,
    })
}

pub(super) fn accounted(connection: &Connection) -> Result<Option<Timestamp>> {
    connection.query_row("SELECT until FROM accounted", (), |row| instant(row, 0)).optional()
}

pub(super) fn newest_table(connection: &Connection) -> Result<Option<TableRecord>> {
    connection
        .query_row("SELECT in_force_from, hash, jobs, zones FROM tables ORDER BY id DESC LIMIT 1", (), table)
        .optional()
}

fn ended(connection: &Connection) -> Result<Vec<(RunId, Place)>> {
    // A reader meets ledgers of former versions.
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'ended'";
    if connection.query_row(sql, (), |row| row.get::<_, i64>(0))? == 0 {
        return Ok(vec![]);
    }
    connection
        .prepare("SELECT run, place FROM ended ORDER BY place")?
        .query_map((), |row| Ok((RunId(row.get(0)?), row.get(1)?)))?
        .collect()
}

pub(super) fn jobs(connection: &Connection) -> Result<Vec<JobPast>> {
    connection
        .prepare("SELECT job, epoch, last_slot, last_started, last_succeeded FROM jobs ORDER BY job")?
        .query_map((), |row| {
            Ok(JobPast {
                job: row.get(0)?,
                epoch: row.get(1)?,
                last_slot: maybe_instant(row, 2)?,
                last_started: row.get(3)?,
                last_succeeded: row.get(4)?,
            })
        })?
        .collect()
}

pub(super) fn notices(connection: &Connection) -> Result<Vec<Notice>> {
    connection.prepare(NOTICES)?.query_map((), notice)?.collect()
}

/// Up to the first that can't be read.
pub(super) fn readable_notices(connection: &Connection) -> Result<Vec<Notice>> {
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

pub(super) fn pauses(connection: &Connection) -> Result<Vec<PauseRecord>> {
    connection
        .prepare("SELECT job, since, until, paused_by FROM pauses ORDER BY job")?
        .query_map((), |row| {
            let job: String = row.get(0)?;
            Ok(PauseRecord {
                job: (!job.is_empty()).then_some(job),
                since: instant(row, 1)?,
                until: maybe_instant(row, 2)?,
                by: row.get(3)?,
            })
        })?
        .collect()
}

/// In the order of their claims.
pub(super) fn open_runs(connection: &Connection) -> Result<Vec<OpenRun>> {
    let sql = format!("SELECT {RECORD}, epoch, role, boot, pid, start_time, dry_run {OPEN_RUNS}");
    let mut open: Vec<OpenRun> = connection
        .prepare(&sql)?
        .query_map((), |row| {
            let record = record(connection, row)?;
            let owner = Owner {
                role: row.get(15)?,
                boot: row.get(16)?,
                pid: row.get(17)?,
                start_time: row.get::<_, i64>(18)?.cast_unsigned(),
            };
            let queued = record.started_at.is_none();
            // Negative where `Buffered` keeps a row of another ledger; that one tells the true epoch.
            let epoch = u32::try_from(row.get::<_, i64>(14)?).unwrap_or_default();
            Ok(OpenRun { record, epoch, owner, queued, dry_run: row.get(19)?, cancel_asked: false })
        })?
        .collect::<Result<_>>()?;
    open.sort_by_key(|open| open.record.run);
    if !open.is_empty() {
        let cancelled = cancelled(connection)?;
        open.iter_mut().for_each(|open| open.cancel_asked = cancelled.contains(&open.record.run.0));
    }
    Ok(open)
}

/// Runs that somebody was told are to be ended.
fn cancelled(connection: &Connection) -> Result<HashSet<i64>> {
    let run = |detail: String| serde_json::from_str::<serde_json::Value>(&detail).ok()?["run"].as_i64();
    let mut asked = connection.prepare("SELECT detail FROM events WHERE kind = 'cancel_asked'")?;
    let found = asked.query_map((), |row| row.get(0))?.collect::<Result<Vec<String>>>()?;
    Ok(found.into_iter().filter_map(run).collect())
}

/// The groups of jobs with open runs, by the last table that had each. Older ones are read only while jobs are missing.
fn groups(connection: &Connection, open: &[OpenRun]) -> Result<HashMap<String, String>> {
    let mut wanted: HashSet<&str> = open.iter().map(|open| open.record.job.as_str()).collect();
    let mut groups = HashMap::new();
    let mut tables =
        connection.prepare("SELECT in_force_from, hash, jobs, zones FROM tables ORDER BY id DESC")?;
    let mut tables = tables.query_map((), table)?;
    while !wanted.is_empty()
        && let Some(table) = tables.next().transpose()?
    {
        for job in table.jobs.iter().filter(|job| wanted.remove(job.job.as_str())) {
            groups.extend(job.group.clone().map(|group| (job.job.to_string(), group)));
        }
    }
    Ok(groups)
}

pub(super) fn events(connection: &Connection, from: Timestamp) -> Result<Vec<Event>> {
    connection
        .prepare_cached("SELECT at, kind, detail FROM events WHERE at >= ?1 ORDER BY at, id")?
        .query_map([micros(from)], event)?
        .collect()
}

pub(super) fn tables(connection: &Connection, from: Timestamp) -> Result<Vec<TableRecord>> {
    connection
        .prepare_cached(
            "SELECT in_force_from, hash, jobs, zones FROM tables
             WHERE in_force_from >= ifnull((SELECT max(in_force_from) FROM tables WHERE in_force_from <= ?1), ?1)
             ORDER BY in_force_from, id",
        )?
        .query_map([micros(from)], table)?
        .collect()
}

pub(super) fn chronicle(connection: &Connection) -> Result<Chronicle> {
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
pub(super) const SLOT_ROWS: &str = "SELECT id, slot, slot_last, slots, epoch, outcome FROM runs
     WHERE job = ?1 AND (slot, epoch) > (?2, ?3) AND epoch >= 0 ORDER BY slot, epoch LIMIT ?4";

/// Range rows that begin before an instant and end after it.
pub(super) const RANGES_OVER: &str = "SELECT id, slot, slot_last, slots, epoch, outcome FROM runs
     WHERE job = ?1 AND slot_last >= ?2 AND slot < ?2 AND epoch >= 0";

pub(super) fn slot_rows(
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

pub(super) fn ranges_over(connection: &Connection, job: &str, at: Timestamp) -> Result<Vec<SlotRow>> {
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

fn table(row: &Row<'_>) -> Result<TableRecord> {
    Ok(TableRecord {
        in_force_from: instant(row, 0)?,
        hash: row.get(1)?,
        jobs: json(row, 2)?,
        zones: json(row, 3)?,
    })
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

pub(super) fn instant(row: &Row<'_>, index: usize) -> Result<Timestamp> {
    Timestamp::from_microsecond(row.get(index)?).map_err(|error| unreadable(index, Type::Integer, error))
}

pub(super) fn maybe_instant(row: &Row<'_>, index: usize) -> Result<Option<Timestamp>> {
    match row.get_ref(index)? {
        ValueRef::Null => Ok(None),
        _ => instant(row, index).map(Some),
    }
}

pub(super) fn word<T>(row: &Row<'_>, index: usize, from_word: fn(&str) -> Option<T>) -> Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    from_word(text).ok_or_else(|| unreadable(index, Type::Text, FromSqlError::Other(text.into())))
}

pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, index: usize) -> Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    serde_json::from_str(text).map_err(|error| unreadable(index, Type::Text, error))
}

fn json_or_empty<T: DeserializeOwned + Default>(row: &Row<'_>, index: usize) -> Result<T> {
    match row.get_ref(index)? {
        ValueRef::Null => Ok(T::default()),
        _ => json(row, index),
    }
}

pub(super) fn unreadable(
    index: usize,
    kind: Type,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, kind, Box::new(error))
}
