//! `status`: what the daemon does now.

use std::io::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::args::StatusArgs;
use super::failure::{Failure, code};
use super::output::{self, Colour, Paint, Table};
use super::{Context, time};
use crate::api::{OpenIncident, Status};
use crate::clock::{Clock, SystemClock};
use crate::model::Severity;

pub(super) fn run(context: &Context, args: &StatusArgs) -> Result<u8, Failure> {
    let status = context.daemon()?.status()?;
    if args.json.wanted {
        output::json(&status)?;
        return Ok(code::DONE);
    }
    let mut out = output::data();
    table(&status, SystemClock.now(), &TimeZone::system()).print(&mut out, Paint::stdout())?;
    out.flush()?;
    Ok(code::DONE)
}

fn table(status: &Status, now: Timestamp, zone: &TimeZone) -> Table {
    let at = |instant: Timestamp| format!("{} ({})", time::show(instant, zone), time::distance(instant, now));
    let mut table = Table::default();
    let mut row = |what: &str, text: String, colour: Option<Colour>| {
        table.row([(what.to_owned(), Some(Colour::Bold)), (text, colour)]);
    };
    row("daemon", format!("{}, pid {}, since {}", status.version, status.pid, at(status.started_at)), None);
    let jobs = if status.jobs == 1 { "1 job".into() } else { format!("{} jobs", status.jobs) };
    row("table", format!("{}, {jobs}", status.config), None);
    if status.config_changed {
        let text = "the file differs from the table in force: `punk-eco-sched reload` puts it into force";
        row("", text.into(), Some(Colour::Yellow));
    }
    let next = status
        .next
        .as_ref()
        .map_or_else(|| "no slot".into(), |next| format!("{} at {}", next.job, at(next.slot)));
    row("next", next, None);
    for run in &status.running {
        let state = match run.started_at {
            Some(started) if !run.queued => format!("attempt {}, since {}", run.attempt, at(started)),
            _ => "waits for its turn".into(),
        };
        row("running", format!("run {}: {}, {state}", run.run, run.job), Some(Colour::Green));
    }
    for pause in &status.paused {
        let until =
            pause.until.map_or_else(|| "until resumed".into(), |until| format!("until {}", at(until)));
        let job = pause.job.as_deref().unwrap_or("all jobs");
        row(
            "paused",
            format!("{job}, {until}, by {} at {}", pause.by, at(pause.since)),
            Some(Colour::Yellow),
        );
    }
    for problem in &status.problems {
        row("problem", problem.clone(), Some(Colour::Red));
    }
    for incident in &status.incidents {
        let colour = if incident.severity == Severity::Critical { Colour::Red } else { Colour::Yellow };
        row("failing", failing(incident, &at(incident.since)), Some(colour));
    }
    table
}

/// `monitoring: disk / (warning), since …, 3 runs: 91 % used`
fn failing(incident: &OpenIncident, since: &str) -> String {
    let mut text = incident.job.clone().unwrap_or_else(|| "the ledger".to_owned());
    if let Some(check) = &incident.check {
        text += &format!(": {check}");
    }
    if incident.severity != Severity::Critical {
        text += &format!(" ({})", incident.severity);
    }
    text += &format!(", since {since}");
    if incident.failures > 1 && incident.job.is_some() {
        text += &format!(", {} runs", incident.failures);
    }
    if incident.flapping {
        text += ", it comes and goes";
    }
    if let Some(reason) = &incident.reason {
        let line: Vec<&str> = reason.lines().map(str::trim).collect();
        text += &format!(": {}", line.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{NextSlot, Paused, RunningRun};
    use crate::model::RunId;

    #[test]
    fn the_status_as_people_read_it() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let status = Status {
            version: "0.1.0".into(),
            pid: 812,
            started_at: at("2026-11-22T15:00:00Z"),
            config: "/etc/punk-eco-sched/jobs.yaml".into(),
            config_changed: true,
            jobs: 4,
            running: vec![
                RunningRun {
                    run: RunId(7),
                    job: "db".into(),
                    started_at: Some(at("2026-11-22T17:59:30Z")),
                    attempt: 2,
                    queued: false,
                },
                RunningRun { run: RunId(8), job: "db".into(), started_at: None, attempt: 0, queued: true },
            ],
            next: Some(NextSlot { job: "db".into(), slot: at("2026-11-22T23:00:00Z") }),
            paused: vec![Paused {
                job: None,
                since: at("2026-11-22T17:00:00Z"),
                until: None,
                by: "root (uid 0)".into(),
            }],
            problems: vec!["the ledger can't be written".into()],
            incidents: vec![
                OpenIncident {
                    job: Some("db".into()),
                    check: None,
                    severity: Severity::Critical,
                    since: at("2026-11-22T17:00:00Z"),
                    failures: 1,
                    reason: Some("exit code 7:\n  no such host".into()),
                    flapping: false,
                },
                OpenIncident {
                    job: Some("monitoring".into()),
                    check: Some("disk /".into()),
                    severity: Severity::Warning,
                    since: at("2026-11-22T17:30:00Z"),
                    failures: 3,
                    reason: None,
                    flapping: true,
                },
                OpenIncident {
                    job: None,
                    check: None,
                    severity: Severity::Critical,
                    since: at("2026-11-22T17:59:00Z"),
                    failures: 2,
                    reason: Some("no space left on device".into()),
                    flapping: false,
                },
            ],
        };
        let mut out = Vec::new();
        table(&status, at("2026-11-22T18:00:00Z"), &TimeZone::get("Africa/Lagos").unwrap())
            .print(&mut out, Paint::plain())
            .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
daemon   0.1.0, pid 812, since 2026-11-22 16:00:00+01:00 (3h ago)
table    /etc/punk-eco-sched/jobs.yaml, 4 jobs
         the file differs from the table in force: `punk-eco-sched reload` puts it into force
next     db at 2026-11-23 00:00:00+01:00 (in 5h)
running  run 7: db, attempt 2, since 2026-11-22 18:59:30+01:00 (30s ago)
running  run 8: db, waits for its turn
paused   all jobs, until resumed, by root (uid 0) at 2026-11-22 18:00:00+01:00 (1h ago)
problem  the ledger can't be written
failing  db, since 2026-11-22 18:00:00+01:00 (1h ago): exit code 7: no such host
failing  monitoring: disk / (warning), since 2026-11-22 18:30:00+01:00 (30m ago), 3 runs, it comes and goes
failing  the ledger, since 2026-11-22 18:59:00+01:00 (1m ago): no space left on device
"
        );
    }
}
