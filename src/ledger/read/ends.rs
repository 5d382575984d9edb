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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use jiff::Timestamp;

    use crate::ledger::conformance::{claim, claimed};
    use crate::ledger::{LastEnd, Ledger, NewState, Owner, SqliteLedger, Write};
    use crate::model::{Outcome, Report, SkipReason};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn each_job_is_known_by_its_last_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut ledger = SqliteLedger::open(&path, Owner::current("daemon"), "web1").unwrap();
        let mut run = |job: &str, slot: i64, dry_run: bool, end: Option<Outcome>| {
            let mut row = claim(job, Some(slot), NewState::Started);
            if let Write::Claim(row) = &mut row {
                row.dry_run = dry_run;
            }
            let run = claimed(&ledger.apply(&[row]).unwrap())[0];
            if let Some(outcome) = end {
                let report = Some(Report::new("done").fact("slot", slot));
                let end = Write::Finished { run, at: at(slot + 5), outcome, error: None, report };
                ledger.apply(&[end]).unwrap();
            }
        };
        run("fine", 100, false, Some(Outcome::Succeeded));
        run("fine", 200, true, Some(Outcome::Failed));
        run("fine", 300, false, None);
        run("bad", 100, false, Some(Outcome::Succeeded));
        run("bad", 200, false, Some(Outcome::Failed));
        run("bad", 300, true, Some(Outcome::Succeeded));
        run("never", 100, false, Some(Outcome::TimedOut));
        run("new", 100, false, None);
        ledger.apply(&[claim("bad", Some(400), NewState::Skipped(SkipReason::Paused))]).unwrap();

        let locks = || {
            let inode = format!(":{} ", std::fs::metadata(&path).unwrap().ino());
            let locks = std::fs::read_to_string("/proc/locks").unwrap();
            locks.lines().filter(|line| line.contains("POSIX") && line.contains(&inode)).count()
        };
        let before = locks();
        let beside = SqliteLedger::open_beside(&path).unwrap();
        let end = |job: &str, outcome, end: i64, success: Option<i64>| LastEnd {
            job: job.to_owned(),
            outcome,
            at: at(end),
            succeeded_at: success.map(at),
            facts: [("slot".to_owned(), (end - 5).into())].into_iter().collect(),
        };
        assert_eq!(
            beside.last_ends().unwrap(),
            [
                end("bad", Outcome::Failed, 205, Some(105)),
                end("fine", Outcome::Succeeded, 105, Some(105)),
                end("never", Outcome::TimedOut, 105, None),
            ]
        );
        drop(beside);
        assert!(before > 0, "an open ledger is locked");
        assert_eq!(locks(), before, "its locks are let go of");
    }
}
