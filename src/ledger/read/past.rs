//! What a daemon asks of those before it when it starts: open runs, pauses, how far each job has come. Never what has
//! long ended.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::cells::{instant, maybe_instant};
use super::proof::{newest_table, table};
use super::told::incidents;
use super::{RECORD, Result, record};
use crate::ledger::{JobPast, OpenRun, Owner, Past, PauseRecord, Place};
use crate::model::RunId;

/// In the words of the partial index, so that it is used.
pub(in super::super) const OPEN_RUNS: &str = "FROM runs JOIN owners ON owners.id = runs.owner
     WHERE outcome = 'running' AND outcome <> 'succeeded'";

pub(in super::super) fn past(connection: &Connection) -> Result<Past> {
    let open = open_runs(connection)?;
    Ok(Past {
        accounted: accounted(connection)?,
        table: newest_table(connection)?,
        groups: groups(connection, &open)?,
        open,
        pauses: pauses(connection)?,
        jobs: jobs(connection)?,
        ended: ended(connection)?,
        incidents: incidents(connection)?,
    })
}

pub(in super::super) fn accounted(connection: &Connection) -> Result<Option<Timestamp>> {
    connection.query_row("SELECT until FROM accounted", (), |row| instant(row, 0)).optional()
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

pub(in super::super) fn jobs(connection: &Connection) -> Result<Vec<JobPast>> {
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

pub(in super::super) fn pauses(connection: &Connection) -> Result<Vec<PauseRecord>> {
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
pub(in super::super) fn open_runs(connection: &Connection) -> Result<Vec<OpenRun>> {
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
