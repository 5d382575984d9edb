//! How each job ended last: what metrics of a daemon that has just started are made of. Dry runs don't count.

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::Result;
use super::cells::{instant, json_or_empty, word};
use crate::ledger::LastEnd;
use crate::model::Outcome;

/// Both go down the rows of one job from the newest on, and stop at the first that fits.
pub(in super::super) const LAST_END: &str = "SELECT outcome, finished_at, facts FROM runs
     WHERE job = ?1 AND dry_run = 0 AND finished_at IS NOT NULL AND outcome NOT IN ('running', 'skipped')
     ORDER BY moment DESC, id DESC LIMIT 1";
pub(in super::super) const LAST_SUCCESS: &str = "SELECT finished_at FROM runs
     WHERE job = ?1 AND dry_run = 0 AND outcome = 'succeeded' ORDER BY moment DESC, id DESC LIMIT 1";

pub(in super::super) fn last_ends(connection: &Connection) -> Result<Vec<LastEnd>> {
    let names: Vec<String> = connection
        .prepare("SELECT job FROM jobs ORDER BY job")?
        .query_map((), |row| row.get(0))?
        .collect::<Result<_>>()?;
    let mut end = connection.prepare_cached(LAST_END)?;
    let mut success = connection.prepare_cached(LAST_SUCCESS)?;
    names.into_iter().filter_map(|job| last_end(job, &mut end, &mut success).transpose()).collect()
}

fn last_end(
    job: String,
    end: &mut CachedStatement<'_>,
    success: &mut CachedStatement<'_>,
) -> Result<Option<LastEnd>> {
    let found = end
        .query_row(params![job], |row| {
            Ok((word(row, 0, Outcome::from_word)?, instant(row, 1)?, json_or_empty(row, 2)?))
        })
        .optional()?;
    let Some((outcome, at, facts)) = found else { return Ok(None) };
    let succeeded_at = match outcome {
        Outcome::Succeeded => Some(at),
        _ => success.query_row(params![job], |row| instant(row, 0)).optional()?,
    };
    Ok(Some(LastEnd { job, outcome, at, succeeded_at, facts }))
}
