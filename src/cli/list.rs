//! `list`: the jobs of the table, each with its next slot and what became of its last.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::args::ListArgs;
use super::failure::{Failure, code};
use super::output::{self, Colour, Paint, Table};
use super::{Context, time};
use crate::clock::{Clock, SystemClock};
use crate::config::JobSpec;
use crate::engine::is_hold;
use crate::ledger::{Ledger, PauseRecord, SqliteLedger};
use crate::model::{Outcome, RunId, RunRecord};

/// One element of `list --json`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    job: &'a str,
    kind: &'a str,
    description: Option<&'a str>,
    schedule: &'a [String],
    timezone: Option<String>,
    enabled: bool,
    next: Option<Timestamp>,
    last: Option<Last>,
    paused: bool,
    /// By the daemon, as a crash loop.
    #[serde(skip)]
    held: bool,
}

#[derive(Debug, Serialize)]
struct Last {
    run: RunId,
    outcome: Outcome,
    slot: Option<Timestamp>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
}

pub(super) fn run(context: &Context, args: &ListArgs) -> Result<u8, Failure> {
    let table = context.table()?;
    let now = SystemClock.now();
    let (latest, pauses) = past(&table.paths.state.join("ledger.db"));
    let rows = table.jobs.iter().map(|job| (job, row(job, now, &latest, &pauses)));
    if args.json.wanted {
        output::json(&rows.map(|(_, row)| row).collect::<Vec<_>>())?;
        return Ok(code::DONE);
    }
    let mut out = output::data();
    in_words(rows, now).print(&mut out, Paint::stdout())?;
    out.flush()?;
    Ok(code::DONE)
}

fn in_words<'a>(rows: impl Iterator<Item = (&'a Arc<JobSpec>, Row<'a>)>, now: Timestamp) -> Table {
    let mut shown = Table::default();
    shown.row(["JOB", "KIND", "SCHEDULE", "NEXT", "LAST"].map(|name| (name.to_owned(), Some(Colour::Dim))));
    for (job, row) in rows {
        let (state, colour) = last_in_words(row.last.as_ref(), now);
        shown.row([
            (row.job.to_owned(), Some(Colour::Bold)),
            (row.kind.to_owned(), None),
            (schedule_in_words(job), None),
            (next_in_words(job, &row), row.paused.then_some(Colour::Yellow)),
            (state, colour),
        ]);
    }
    shown
}

/// What the ledger knows; nothing where there is none yet, or none that we may read.
fn past(ledger: &std::path::Path) -> (HashMap<String, RunRecord>, Vec<PauseRecord>) {
    if !ledger.exists() {
        return Default::default();
    }
    let read = || -> Result<_, crate::ledger::LedgerError> {
        let ledger = SqliteLedger::open_read_only(ledger)?;
        Ok((ledger.latest()?, ledger.pauses()?))
    };
    match read() {
        Ok((latest, pauses)) => (latest.into_iter().map(|row| (row.job.clone(), row)).collect(), pauses),
        Err(error) => {
            output::message(format!("{error}: the last outcomes and pauses are not shown"));
            Default::default()
        }
    }
}

fn row<'a>(
    job: &'a JobSpec,
    now: Timestamp,
    latest: &HashMap<String, RunRecord>,
    pauses: &[PauseRecord],
) -> Row<'a> {
    let schedule = job.schedule.as_ref();
    let paused = |pause: &PauseRecord| {
        pause.job.as_deref().is_none_or(|name| name == job.name.as_str())
            && pause.until.is_none_or(|until| until > now)
    };
    Row {
        job: job.name.as_str(),
        kind: job.kind.name,
        description: job.description.as_deref(),
        schedule: schedule.map(|schedule| schedule.expressions()).unwrap_or_default(),
        timezone: schedule.and_then(|schedule| schedule.zone().iana_name()).map(str::to_owned),
        enabled: job.enabled,
        next: schedule.filter(|_| job.enabled).and_then(|schedule| schedule.next_after(now)),
        last: latest.get(job.name.as_str()).map(|record| Last {
            run: record.run,
            outcome: record.outcome,
            slot: record.slot,
            started_at: record.started_at,
            finished_at: record.finished_at,
        }),
        paused: pauses.iter().any(paused),
        held: pauses.iter().any(|pause| pause.job.is_some() && paused(pause) && is_hold(pause)),
    }
}

fn schedule_in_words(job: &JobSpec) -> String {
    match &job.schedule {
        Some(schedule) => format!("{} ({})", schedule.expressions().join(", "), schedule.explain()),
        None if job.after.is_empty() => "by hand".into(),
        None => {
            let names: Vec<&str> = job.after.iter().map(crate::model::JobName::as_str).collect();
            format!("after {}", names.join(", "))
        }
    }
}

fn next_in_words(job: &JobSpec, row: &Row<'_>) -> String {
    if !job.enabled {
        return "disabled".into();
    }
    let next = match (row.next, &job.schedule) {
        (Some(next), Some(schedule)) => time::show(next, schedule.zone()),
        _ => "-".into(),
    };
    match (row.held, row.paused) {
        (true, _) => format!("{next} (held)"),
        (false, true) => format!("{next} (paused)"),
        (false, false) => next,
    }
}

fn last_in_words(last: Option<&Last>, now: Timestamp) -> (String, Option<Colour>) {
    let Some(last) = last else { return ("-".into(), None) };
    let colour = match last.outcome {
        Outcome::Succeeded => Colour::Green,
        Outcome::Running | Outcome::Skipped => Colour::Yellow,
        _ => Colour::Red,
    };
    let at = last.finished_at.or(last.started_at).or(last.slot);
    let at = at.map(|at| format!(" {}", time::distance(at, now))).unwrap_or_default();
    (format!("{}{at}", last.outcome), Some(colour))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::table;
    use crate::model::Trigger;

    const TABLE: &str = "\
timezone: Africa/Lagos
jobs:
  backup: { description: Nightly dump, schedule: '0 3 * * *', nothing: {} }
  check: { schedule: ['@every 90s', '30 4 * * 0'], timezone: UTC, enabled: false, nothing: {} }
  after: { after: [backup], nothing: {} }
  hand: { nothing: {} }
";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn failed_yesterday() -> HashMap<String, RunRecord> {
        let record = RunRecord {
            run: RunId(7),
            job: "backup".into(),
            kind: "nothing".into(),
            trigger: Trigger::Schedule,
            slot: Some(at("2026-11-21T02:00:00Z")),
            outcome: Outcome::TimedOut,
            reason: None,
            started_at: Some(at("2026-11-21T02:00:00.25Z")),
            finished_at: Some(at("2026-11-21T03:00:00Z")),
            host: "web1".into(),
            attempts: vec![],
            summary: None,
            facts: serde_json::Map::new(),
            findings: vec![],
        };
        HashMap::from([("backup".into(), record)])
    }

    #[test]
    fn the_jobs_as_json_and_as_people_read_them() {
        let table = table(TABLE);
        let now = at("2026-11-22T03:00:00Z");
        let pause = |job: Option<&str>, until: &str| PauseRecord {
            job: job.map(str::to_owned),
            since: at("2026-11-22T00:00:00Z"),
            until: Some(at(until)),
            by: "root (uid 0)".into(),
        };
        let pauses = [pause(Some("backup"), "2026-11-22T04:00:00Z"), pause(None, "2026-11-22T02:59:00Z")];
        let latest = failed_yesterday();
        let rows = || table.jobs.iter().map(|job| (job, row(job, now, &latest, &pauses)));
        let json: Vec<String> = rows().map(|(_, row)| serde_json::to_string(&row).unwrap()).collect();
        assert_eq!(
            json,
            [
                r#"{"job":"backup","kind":"nothing","description":"Nightly dump","schedule":["0 3 * * *"],"timezone":"Africa/Lagos","enabled":true,"next":"2026-11-23T02:00:00Z","last":{"run":7,"outcome":"timed_out","slot":"2026-11-21T02:00:00Z","started_at":"2026-11-21T02:00:00.25Z","finished_at":"2026-11-21T03:00:00Z"},"paused":true}"#,
                r#"{"job":"check","kind":"nothing","description":null,"schedule":["@every 90s","30 4 * * 0"],"timezone":"UTC","enabled":false,"next":null,"last":null,"paused":false}"#,
                r#"{"job":"after","kind":"nothing","description":null,"schedule":[],"timezone":null,"enabled":true,"next":null,"last":null,"paused":false}"#,
                r#"{"job":"hand","kind":"nothing","description":null,"schedule":[],"timezone":null,"enabled":true,"next":null,"last":null,"paused":false}"#,
            ]
        );
        let mut out = Vec::new();
        in_words(rows(), now).print(&mut out, Paint::plain()).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
