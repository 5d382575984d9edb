//! `next`: coming slots, of the table's jobs or of any expression.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::args::NextArgs;
use super::failure::{Failure, code};
use super::output::{self, Paint, Table};
use super::{Context, time, unknown_job};
use crate::clock::{Clock, SystemClock};
use crate::config::JobTable;
use crate::document::nearest;
use crate::schedule::Schedule;

/// One element of `next --json`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    /// `None` for an expression that belongs to no job.
    job: Option<String>,
    slot: Timestamp,
    local: String,
}

pub(super) fn run(context: &Context, args: &NextArgs) -> Result<u8, Failure> {
    let now = SystemClock.now();
    let rows = match &args.expr {
        Some(expression) => of_expression(expression, args, now)?,
        None => of_table(&context.table()?, args, now)?,
    };
    if args.json.wanted {
        output::json(&rows)?;
        return Ok(code::DONE);
    }
    let mut table = Table::default();
    for row in &rows {
        let local = row.local.replacen('T', " ", 1);
        let distance = time::distance(row.slot, now);
        match &row.job {
            Some(job) => table.row([(local, None), (distance, None), (job.clone(), None)]),
            None => table.row([(local, None), (distance, None)]),
        }
    }
    let mut out = output::data();
    table.print(&mut out, Paint::stdout())?;
    out.flush()?;
    Ok(code::DONE)
}

fn of_expression(expression: &str, args: &NextArgs, now: Timestamp) -> Result<Vec<Row>, Failure> {
    let zone = match &args.timezone {
        Some(name) => zone(name)?,
        None => TimeZone::system(),
    };
    let schedule = Schedule::parse(&[expression.to_owned()], &zone, "").map_err(|errors| {
        let Some(error) = errors.into_iter().next() else { return Failure::wrong("--expr is wrong") };
        let failure = Failure::wrong(format!("--expr: {}", error.message));
        error.hint.into_iter().fold(failure, |failure, hint| failure.hint(hint))
    })?;
    let from = time::parse(&args.from, now, &zone).map_err(|e| Failure::wrong(format!("--from: {e}")))?;
    let rows = merged(&[(None, &schedule)], from, args.count);
    if rows.is_empty() {
        return Err(no_slot(&format!("`{expression}`"), &schedule, from));
    }
    Ok(rows)
}

/// Of one job, or of all that are enabled.
fn of_table(table: &JobTable, args: &NextArgs, now: Timestamp) -> Result<Vec<Row>, Failure> {
    let from = time::parse(&args.from, now, &table.timezone);
    let from = from.map_err(|error| Failure::wrong(format!("--from: {error}")))?;
    let Some(name) = &args.job else {
        let enabled = table.jobs.iter().filter(|job| job.enabled);
        let schedules: Vec<_> =
            enabled.filter_map(|job| Some((Some(job.name.as_str()), job.schedule.as_ref()?))).collect();
        return Ok(merged(&schedules, from, args.count));
    };
    let job = table.job(name);
    let job = job.ok_or_else(|| unknown_job(name, table.jobs.iter().map(|job| job.name.as_str())))?;
    let Some(schedule) = &job.schedule else {
        let failure = Failure::wrong(format!("{name} has no slots: it has no `schedule`"));
        return Err(failure.hint(format!("`punk-eco-sched run-now {name}` runs it")));
    };
    let rows = merged(&[(Some(name), schedule)], from, args.count);
    if rows.is_empty() {
        return Err(no_slot(name, schedule, from));
    }
    if !job.enabled {
        output::message(format!("{name} is disabled: these slots will not be run"));
    }
    Ok(rows)
}

fn no_slot(subject: &str, schedule: &Schedule, from: Timestamp) -> Failure {
    if schedule.at_boot() {
        return Failure::wrong(format!(
            "{subject} has no slot that could be foretold: @reboot is due once a boot"
        ));
    }
    Failure::wrong(format!("{subject} has no slot in the 50 years after {from}"))
}

fn zone(name: &str) -> Result<TimeZone, Failure> {
    TimeZone::get(name).map_err(|_| {
        let failure =
            Failure::wrong(format!("--timezone: `{name}` is not a zone of this system's tz database"));
        let known: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
        match nearest(name, known.iter().map(String::as_str)) {
            Some(nearest) => failure.hint(format!("did you mean {nearest}?")),
            None => failure.hint("write it like Africa/Casablanca"),
        }
    })
}

/// The slots of all schedules after `from`, in the order of time.
fn merged(schedules: &[(Option<&str>, &Schedule)], from: Timestamp, count: u32) -> Vec<Row> {
    let next = |index: usize, after: Timestamp| Some(Reverse((schedules[index].1.next_after(after)?, index)));
    let mut due: BinaryHeap<_> = (0..schedules.len()).filter_map(|index| next(index, from)).collect();
    let mut rows = Vec::new();
    while let Some(Reverse((slot, index))) = due.pop() {
        let (job, schedule) = schedules[index];
        rows.push(Row { job: job.map(str::to_owned), slot, local: time::rfc3339(slot, schedule.zone()) });
        if rows.len() == count as usize {
            break;
        }
        due.extend(next(index, slot));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{table, verb};

    const TABLE: &str = "\
timezone: Europe/Paris
jobs:
  night: { schedule: '30 2 * * *', nothing: {} }
  often: { schedule: '0 */12 * * *', timezone: UTC, nothing: {} }
  off: { schedule: '0 * * * *', enabled: false, nothing: {} }
  hand: { nothing: {} }
  boot: { schedule: '@reboot', nothing: {} }
";

    fn slots(arguments: &str) -> Result<String, Failure> {
        let crate::cli::args::Verb::Next(args) = verb(arguments) else { panic!("{arguments}") };
        let now = "2026-03-28T12:00:00Z".parse().unwrap();
        let rows = of_table(&table(TABLE), &args, now)?;
        let line = |row: Row| format!("{} {} {}\n", row.job.unwrap(), row.slot, row.local);
        Ok(rows.into_iter().map(line).collect())
    }

    #[test]
    fn slots_of_all_jobs_in_the_order_of_time() {
        assert_eq!(
            slots("next -n 4").unwrap(),
            "\
often 2026-03-29T00:00:00Z 2026-03-29T00:00:00+00:00
night 2026-03-29T01:00:00Z 2026-03-29T03:00:00+02:00
often 2026-03-29T12:00:00Z 2026-03-29T12:00:00+00:00
often 2026-03-30T00:00:00Z 2026-03-30T00:00:00+00:00
"
        );
    }

    #[test]
    fn slots_of_one_job() {
        let check =
            |arguments: &str, expected: &str| assert_eq!(slots(arguments).unwrap(), expected, "{arguments}");
        check("next night -n 1", "night 2026-03-29T01:00:00Z 2026-03-29T03:00:00+02:00\n");
        // A day of the table's zone; the slot at that instant is not after it.
        check("next night --from 2026-03-30 -n 1", "night 2026-03-30T00:30:00Z 2026-03-30T02:30:00+02:00\n");
        check(
            "next night --from 2026-03-30T00:30:00Z -n 1",
            "night 2026-03-31T00:30:00Z 2026-03-31T02:30:00+02:00\n",
        );
        check("next off -n 1", "off 2026-03-28T13:00:00Z 2026-03-28T14:00:00+01:00\n");
    }

    #[test]
    fn a_job_without_slots_says_why() {
        let check = |arguments: &str, expected: &str| {
            let failure = slots(arguments).unwrap_err();
            assert_eq!((failure.code, failure.message.as_str()), (2, expected), "{arguments}");
        };
        check("next nigth", "there is no job named `nigth`: did you mean `night`?");
        check("next hand", "hand has no slots: it has no `schedule`");
        check("next boot", "boot has no slot that could be foretold: @reboot is due once a boot");
    }
}
