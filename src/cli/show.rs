//! `show`: one run whole, with its attempts, report, findings and log.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::history::{View, colour_of, outcome_word, took};
use super::output::{Colour, Table};
use super::{logs, time};
use crate::ledger::Ledger;
use crate::logs::{LogLine, harmless, read_run};
use crate::model::{Attempt, RunId, RunRecord, Severity};

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    record: &'a RunRecord,
    log: &'a [LogLine],
    /// Why `log` is not the whole log.
    log_error: Option<&'a str>,
}

/// # Errors
/// Where there is no such run or the ledger can't be read; an `io::Error` where `out` can't be written. A log
/// that can't be read is shown as such.
pub fn show(
    ledger: &dyn Ledger,
    directory: &Path,
    run: RunId,
    view: &View,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let Some(record) = ledger.run(run)? else {
        match ledger.last_run()? {
            None => anyhow::bail!("there is no run {run}: the ledger is empty"),
            Some(last) if last < run => anyhow::bail!("there is no run {run} yet: the newest is {last}"),
            Some(_) => anyhow::bail!("there is no run {run} any more: it is older than logs.keep_history"),
        }
    };
    let (log, log_error) = match read_run(directory, &record.job, Some(run)) {
        Ok(log) => (log, None),
        Err(error) => (vec![], Some(format!("{}: the log can't be read: {error}", directory.display()))),
    };
    if view.json {
        serde_json::to_writer(
            &mut *out,
            &Document { record: &record, log: &log, log_error: log_error.as_deref() },
        )?;
        out.write_all(b"\n")?;
        return Ok(out.flush()?);
    }
    head(&record, view, out)?;
    attempts(&record.attempts, view, out)?;
    report(&record, view, out)?;
    if !log.is_empty() || log_error.is_some() {
        section("log", view, out)?;
    }
    for line in &log {
        write!(out, "  ")?;
        logs::print(line, view.paint, out)?;
    }
    if let Some(error) = log_error {
        writeln!(out, "  {}", view.paint.on(Colour::Red, &error))?;
    }
    Ok(out.flush()?)
}

fn head(record: &RunRecord, view: &View, out: &mut dyn Write) -> anyhow::Result<()> {
    let job = view.paint.on(Colour::Bold, &record.job);
    writeln!(out, "run {} of {job} ({}) on {}", record.run, record.kind, record.host)?;
    let mut table = Table::default();
    let mut line = |name: &str, value: Option<String>, colour| {
        if let Some(value) = value {
            table.row([(format!("  {name}"), Some(Colour::Dim)), (value, colour)]);
        }
    };
    let local = |at| time::show(at, &view.zone);
    line("outcome", Some(outcome_word(record).into()), colour_of(record.outcome));
    line("reason", record.reason.as_deref().map(harmless), None);
    line("trigger", Some(record.trigger.to_string()), None);
    line("slot", record.slot.map(local), None);
    line("started", record.started_at.map(local), None);
    line("finished", record.finished_at.map(local), None);
    line("took", record.started_at.map(|at| took(Some(at), record.finished_at, view.now)), None);
    line("summary", record.summary.as_deref().map(harmless), None);
    Ok(table.print(out, view.paint)?)
}

fn attempts(attempts: &[Attempt], view: &View, out: &mut dyn Write) -> anyhow::Result<()> {
    if attempts.is_empty() {
        return Ok(());
    }
    section("attempts", view, out)?;
    for attempt in attempts {
        let Attempt { number, started_at, finished_at, outcome, error } = attempt;
        let word = colour_of(*outcome)
            .map_or_else(|| outcome.to_string(), |colour| view.paint.on(colour, outcome.word()));
        let took = took(Some(*started_at), *finished_at, view.now);
        writeln!(out, "  {number}  {}  {word}  {took}", time::show(*started_at, &view.zone))?;
        for line in error.as_deref().unwrap_or_default().lines() {
            writeln!(out, "     {}", harmless(line))?;
        }
    }
    Ok(())
}

fn report(record: &RunRecord, view: &View, out: &mut dyn Write) -> anyhow::Result<()> {
    if !record.facts.is_empty() {
        section("facts", view, out)?;
        let mut table = Table::default();
        for (name, value) in &record.facts {
            let value = value.as_str().map_or_else(|| value.to_string(), harmless);
            table.row([(format!("  {}", harmless(name)), None), (value, None)]);
        }
        table.print(out, view.paint)?;
    }
    if !record.findings.is_empty() {
        section("findings", view, out)?;
    }
    for finding in &record.findings {
        let (word, colour) = match finding.severity {
            Severity::Info => ("info", Colour::Dim),
            Severity::Warning => ("warning", Colour::Yellow),
            Severity::Critical => ("critical", Colour::Red),
        };
        writeln!(out, "  {}: {}", view.paint.on(colour, word), harmless(&finding.message))?;
    }
    Ok(())
}

fn section(name: &str, view: &View, out: &mut dyn Write) -> anyhow::Result<()> {
    Ok(writeln!(out, "{}", view.paint.on(Colour::Bold, name))?)
}
