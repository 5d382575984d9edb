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

#[cfg(test)]
mod tests {
    use super::super::history::tests::{ledger, view};
    use super::*;

    fn shown(run: i64, json: bool) -> anyhow::Result<String> {
        let folder = tempfile::tempdir().unwrap();
        let line =
            "2026-11-22T23:00:00.123Z 1 stderr| refused\n2026-11-22T23:00:00.124Z 9 stdout| of another\n";
        std::fs::write(folder.path().join("db-backup.log"), line).unwrap();
        let mut out = Vec::new();
        show(&ledger(folder.path()), folder.path(), RunId(run), &view(json), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_run_is_shown_whole() {
        assert_eq!(
            shown(1, false).unwrap(),
            "\
run 1 of db-backup (pg_dump) on web1
  outcome   succeeded
  trigger   schedule
  slot      2026-11-23 00:00:00+01:00
  started   2026-11-23 00:00:00+01:00
  finished  2026-11-23 00:01:35+01:00
  took      1m35s
  summary   dumped punk_eco: 412 MiB
attempts
  1  2026-11-23 00:00:00+01:00  failed  2.0s
     connection refused
  2  2026-11-23 00:00:32+01:00  succeeded  1m3s
facts
  bytes  432013312
  file   a.gz
findings
  warning: roles were not dumped
log
  2026-11-22T23:00:00.123Z 1 stderr| refused
"
        );
        assert_eq!(
            shown(3, false).unwrap().lines().skip(6).collect::<Vec<_>>(),
            [
                "attempts",
                "  1  2026-11-23 00:02:00+01:00  failed  1.0s",
                "     exit code 1:",
                "     \\x1b[2Jgone"
            ]
        );
    }

    #[test]
    fn programs_get_the_record_and_its_log() {
        let document: serde_json::Value = serde_json::from_str(&shown(1, true).unwrap()).unwrap();
        let keys: Vec<&String> = document.as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            [
                "run",
                "job",
                "kind",
                "trigger",
                "slot",
                "outcome",
                "reason",
                "started_at",
                "finished_at",
                "host",
                "attempts",
                "summary",
                "facts",
                "findings",
                "log",
                "log_error"
            ]
        );
        assert_eq!(
            document["log"].to_string(),
            r#"[{"time":"2026-11-22T23:00:00.123Z","run":1,"stream":"stderr","text":"refused"}]"#
        );
    }

    #[test]
    fn a_run_that_is_not_there_says_whether_it_was() {
        assert_eq!(shown(6, false).unwrap_err().to_string(), "there is no run 6 yet: the newest is 5");
        assert_eq!(
            shown(0, false).unwrap_err().to_string(),
            "there is no run 0 any more: it is older than logs.keep_history"
        );
    }
}
