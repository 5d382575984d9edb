//! `history`: what became of slots and runs, newest first.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::output::{Colour, Paint, Table};
use super::time;
use crate::ledger::{Filter, Ledger};
use crate::logs::harmless;
use crate::model::{Outcome, RunRecord, Trigger};

/// Rows that are lined up with each other; those of ten million are not all held for that.
const LINED_UP: usize = 1_000;

/// How the reading verbs show what they found.
#[derive(Clone, Debug)]
pub struct View {
    pub json: bool,
    pub paint: Paint,
    /// Of the times that people read.
    pub zone: TimeZone,
    pub now: Timestamp,
}

/// # Errors
/// Where the ledger can't be read; an [`io::Error`] where `out` can't be written.
pub fn history(ledger: &dyn Ledger, filter: &Filter, view: &View, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut printer = Printer { view, out, table: Table::default(), waiting: 0, any: false };
    let mut written = Ok(());
    ledger.visit(filter, &mut |record| {
        written = printer.row(&record);
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    written?;
    printer.end()?;
    Ok(())
}

struct Printer<'a> {
    view: &'a View,
    out: &'a mut dyn Write,
    table: Table,
    waiting: usize,
    any: bool,
}

impl Printer<'_> {
    fn row(&mut self, record: &RunRecord) -> io::Result<()> {
        let first = !std::mem::replace(&mut self.any, true);
        if self.view.json {
            self.out.write_all(if first { b"[\n" } else { b",\n" })?;
            return Ok(serde_json::to_writer(&mut *self.out, record)?);
        }
        if first {
            self.table.row(
                ["RUN", "JOB", "SLOT", "OUTCOME", "TOOK", "WHAT"]
                    .map(|name| (name.to_owned(), Some(Colour::Dim))),
            );
        }
        let View { zone, now, .. } = self.view;
        self.table.row([
            (record.run.to_string(), None),
            (record.job.clone(), Some(Colour::Bold)),
            (when(record, zone), None),
            (outcome_word(record).to_owned(), colour_of(record.outcome)),
            (took(record.started_at, record.finished_at, *now), None),
            (what(record), None),
        ]);
        self.waiting += 1;
        if self.waiting == LINED_UP { self.flush() } else { Ok(()) }
    }

    fn end(&mut self) -> io::Result<()> {
        match (self.view.json, self.any) {
            (true, true) => self.out.write_all(b"\n]\n")?,
            (true, false) => self.out.write_all(b"[]\n")?,
            (false, _) => self.flush()?,
        }
        self.out.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.waiting = 0;
        std::mem::take(&mut self.table).print(self.out, self.view.paint)
    }
}

/// The slot, or for a run without one its start and why it ran.
fn when(record: &RunRecord, zone: &TimeZone) -> String {
    let at = record.slot.or(record.started_at).map_or_else(|| "-".to_owned(), |at| time::show(at, zone));
    match record.trigger {
        Trigger::Schedule => at,
        Trigger::CatchUp => format!("{at} (catch-up)"),
        Trigger::Manual => format!("{at} (manual)"),
        Trigger::After => format!("{at} (after)"),
    }
}

pub(super) fn outcome_word(record: &RunRecord) -> &'static str {
    let queued = record.outcome == Outcome::Running && record.started_at.is_none();
    if queued { "queued" } else { record.outcome.word() }
}

pub(super) fn colour_of(outcome: Outcome) -> Option<Colour> {
    match outcome {
        Outcome::Succeeded => Some(Colour::Green),
        Outcome::Failed | Outcome::TimedOut => Some(Colour::Red),
        Outcome::Cancelled | Outcome::Interrupted => Some(Colour::Yellow),
        Outcome::Skipped => Some(Colour::Dim),
        Outcome::Running => None,
    }
}

/// How long it took, or takes until now.
pub(super) fn took(started: Option<Timestamp>, finished: Option<Timestamp>, now: Timestamp) -> String {
    let Some(started) = started else { return String::new() };
    let milliseconds = finished.unwrap_or(now).as_millisecond() - started.as_millisecond();
    // A clock that was set back makes no sense of the difference.
    let Ok(milliseconds) = u64::try_from(milliseconds) else { return "?".to_owned() };
    match milliseconds {
        0..10_000 => format!("{}.{}s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => time::brief(Duration::from_millis(milliseconds)),
    }
}

/// The one line that says most: why it was not run, what went wrong, or what it did.
fn what(record: &RunRecord) -> String {
    let failed = !matches!(record.outcome, Outcome::Succeeded | Outcome::Running);
    let error = record.attempts.iter().rev().find_map(|attempt| attempt.error.as_deref()).filter(|_| failed);
    let waits = record.reason.as_deref().filter(|reason| *reason != "queued");
    let text = waits.or(error).or(record.summary.as_deref()).unwrap_or_default();
    let mut line = harmless(text.lines().next().unwrap_or_default());
    if record.attempts.len() > 1 {
        line.push_str(&format!(" ({} attempts)", record.attempts.len()));
    }
    match record.findings.len() {
        0 => {}
        1 => line.push_str(" (1 finding)"),
        count => line.push_str(&format!(" ({count} findings)")),
    }
    line.trim_start().to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ledger::{NewRow, NewState, Owner, SqliteLedger, Write as Change};
    use crate::model::{Finding, JobName, Report, RunId, SkipReason};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_388_400 + seconds).unwrap()
    }

    pub(crate) fn view(json: bool) -> View {
        let zone = TimeZone::get("Europe/Paris").unwrap();
        View { json, paint: Paint::plain(), zone, now: at(3600) }
    }

    /// A success in two attempts, a skipped slot, a failure by hand, one that waits, one that runs.
    pub(crate) fn ledger(folder: &std::path::Path) -> SqliteLedger {
        let owner = Owner { role: "daemon".into(), boot: String::new(), pid: 1, start_time: 1 };
        let mut ledger = SqliteLedger::open(&folder.join("ledger.db"), owner, "web1").unwrap();
        let claim = |job: &str, trigger, slot: Option<i64>, state, now| {
            Change::Claim(NewRow {
                job: JobName::new(job).unwrap(),
                kind: "pg_dump".into(),
                trigger,
                slot: slot.map(at),
                slot_last: None,
                slots: 1,
                epoch: 0,
                state,
                requested_by: None,
                dry_run: false,
                at: at(now),
            })
        };
        let failed = |run, seconds, error: &str| Change::AttemptEnded {
            run: RunId(run),
            number: 1,
            at: at(seconds),
            outcome: Outcome::Failed,
            error: Some(error.into()),
        };
        let finished = |run, seconds, outcome, report| Change::Finished {
            run: RunId(run),
            at: at(seconds),
            outcome,
            error: (outcome == Outcome::Failed).then(|| "exit code 1:\n\u{1b}[2Jgone".to_owned()),
            report,
        };
        let mut report =
            Report::new("dumped punk_eco: 412 MiB").fact("bytes", 432_013_312).fact("file", "a.gz");
        report.findings.push(Finding::warning("roles were not dumped"));
        ledger
            .apply(&[
                claim("db-backup", Trigger::Schedule, Some(0), NewState::Started, 0),
                claim("db-backup", Trigger::CatchUp, Some(60), NewState::Skipped(SkipReason::Overlap), 60),
                claim("clean", Trigger::Manual, None, NewState::Started, 120),
                claim("clean", Trigger::Schedule, Some(180), NewState::Queued, 180),
                claim("slow", Trigger::After, None, NewState::Started, 200),
                failed(1, 2, "connection refused"),
                Change::AttemptStarted { run: RunId(1), number: 2, at: at(32) },
                finished(1, 95, Outcome::Succeeded, Some(report)),
                finished(3, 121, Outcome::Failed, None),
            ])
            .unwrap();
        ledger
    }

    fn printed(filter: &Filter, view: &View) -> String {
        let folder = tempfile::tempdir().unwrap();
        let mut out = Vec::new();
        history(&ledger(folder.path()), filter, view, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn people_read_a_table() {
        assert_eq!(
            printed(&Filter::default(), &view(false)),
            "\
RUN  JOB        SLOT                                  OUTCOME    TOOK    WHAT
5    slow       2026-11-23 00:03:20+01:00 (after)     running    56m40s
4    clean      2026-11-23 00:03:00+01:00             queued
3    clean      2026-11-23 00:02:00+01:00 (manual)    failed     1.0s    exit code 1:
2    db-backup  2026-11-23 00:01:00+01:00 (catch-up)  skipped            overlap
1    db-backup  2026-11-23 00:00:00+01:00             succeeded  1m35s   dumped punk_eco: 412 MiB (2 attempts) (1 finding)
"
        );
        assert_eq!(printed(&Filter { job: Some("none".into()), ..Filter::default() }, &view(false)), "");
    }

    #[test]
    fn programs_read_one_document() {
        let failed = Filter { outcome: Some(Outcome::Failed), ..Filter::default() };
        assert_eq!(
            printed(&failed, &view(true)),
            "[\n{\"run\":3,\"job\":\"clean\",\"kind\":\"pg_dump\",\"trigger\":\"manual\",\"slot\":null,\
             \"outcome\":\"failed\",\"reason\":null,\"started_at\":\"2026-11-22T23:02:00Z\",\
             \"finished_at\":\"2026-11-22T23:02:01Z\",\"host\":\"web1\",\"attempts\":[{\"number\":1,\
             \"started_at\":\"2026-11-22T23:02:00Z\",\"finished_at\":\"2026-11-22T23:02:01Z\",\
             \"outcome\":\"failed\",\"error\":\"exit code 1:\\n\\u001b[2Jgone\"}],\"summary\":null,\
             \"facts\":{},\"findings\":[]}\n]\n"
        );
        let all: Vec<RunRecord> = serde_json::from_str(&printed(&Filter::default(), &view(true))).unwrap();
        let queued = &all[1];
        assert_eq!(
            (queued.outcome, queued.started_at, queued.reason.as_deref()),
            (Outcome::Running, None, Some("queued"))
        );
        assert_eq!(printed(&Filter { job: Some("none".into()), ..Filter::default() }, &view(true)), "[]\n");
    }

    #[test]
    fn durations_are_as_fine_as_they_matter() {
        let check = |milliseconds: i64, expected: &str| {
            let end = Timestamp::from_millisecond(milliseconds).unwrap();
            assert_eq!(took(Some(Timestamp::UNIX_EPOCH), Some(end), end), expected);
        };
        check(0, "0.0s");
        check(9_990, "9.9s");
        check(10_000, "10s");
        check(95_000, "1m35s");
        check(-1, "?");
    }
}
