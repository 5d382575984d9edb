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
