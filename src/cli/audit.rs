//! `audit`: each slot and its one row.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::args::AuditArgs;
use super::failure::{Failure, code};
use super::history::View;
use super::output::{self, Colour, Table};
use super::{Context, stored, time};
use crate::daemon;
use crate::ledger::audit::{Audit, Question, audit};
use crate::ledger::{Ledger, SqliteLedger};
use crate::model::JobName;

/// Holes that a person is shown.
const SHOWN: usize = 50;

pub(super) fn run(context: &Context, args: &AuditArgs) -> Result<u8, Failure> {
    let view = stored::view(args.json.wanted);
    let time = |option: &str, text: &Option<String>| {
        let text = text.as_deref().map(|text| stored::since(text, &view)).transpose();
        text.map_err(|error| Failure::wrong(format!("{option}: {error}")))
    };
    let (since, until) = (time("--since", &args.since)?, time("--until", &args.until)?);
    if let (Some(since), Some(until)) = (since, until)
        && until < since
    {
        return Err(Failure::wrong(format!(
            "--since ({}) is later than --until ({}): no slot lies between",
            time::show(since, &view.zone),
            time::show(until, &view.zone)
        )));
    }
    let ledger = context.ledger()?;
    let job = args.job.as_deref().map(|job| named(context, ledger.as_ref(), job)).transpose()?;
    let Some(ledger) = ledger else {
        output::message("nothing yet: there is no ledger");
        if view.json {
            output::json(&Audit::default())?;
        }
        return Ok(code::DONE);
    };
    let living = daemon::living(&context.paths().state);
    let living = living.map(|living| (living.pid, living.since));
    let question = Question { job, since, until, living, now: view.now };
    let found = audit(&ledger, &question).map_err(anyhow::Error::from)?;
    if view.json {
        output::json(&found)?;
    } else {
        print(&found, &view, &mut output::data())?;
    }
    Ok(if found.is_proven() { code::DONE } else { code::FAILED })
}

/// A job of the file, or of which the ledger knows.
pub(super) fn named(context: &Context, ledger: Option<&SqliteLedger>, job: &str) -> Result<JobName, Failure> {
    let mut known = BTreeSet::new();
    if let Some(ledger) = ledger {
        let tables = ledger.chronicle().map_err(anyhow::Error::from)?.tables;
        known.extend(tables.iter().flat_map(|table| &table.jobs).map(|job| job.job.to_string()));
        known.extend(ledger.latest().map_err(anyhow::Error::from)?.into_iter().map(|row| row.job));
    }
    if !known.contains(job) {
        stored::known(context, job, known)?;
    }
    JobName::new(job).map_err(Failure::wrong)
}

fn print(found: &Audit, view: &View, out: &mut dyn Write) -> io::Result<()> {
    let Audit { slots, accounted, unaccounted, duplicates, until, .. } = found;
    let Some(until) = until else {
        writeln!(out, "no table was ever in force here: there is nothing to judge")?;
        return out.flush();
    };
    let mut table = Table::default();
    let mut row = |what: &str, job: &JobName, slot, runs: String| {
        table.row([
            (what.to_owned(), Some(Colour::Red)),
            (job.to_string(), Some(Colour::Bold)),
            (time::show(slot, &view.zone), None),
            (runs, None),
        ]);
    };
    for hole in unaccounted.iter().take(SHOWN) {
        row("unaccounted", &hole.job, hole.slot, String::new());
    }
    for double in duplicates.iter().take(SHOWN) {
        let runs: Vec<String> = double.runs.iter().map(ToString::to_string).collect();
        row("duplicate", &double.job, double.slot, format!("runs {}", runs.join(", ")));
    }
    table.print(out, view.paint)?;
    let more = unaccounted.len().saturating_sub(SHOWN) + duplicates.len().saturating_sub(SHOWN);
    if more > 0 {
        writeln!(out, "and {more} more: --json shows all")?;
    }
    let noun = if *slots == 1 { "slot" } else { "slots" };
    writeln!(
        out,
        "{slots} {noun} until {}: {accounted} accounted for, {} unaccounted, {} with more rows than they may have",
        time::show(*until, &view.zone),
        unaccounted.len(),
        duplicates.len()
    )?;
    out.flush()
}
