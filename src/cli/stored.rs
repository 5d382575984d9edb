//! `history`, `show` and `logs` as the command line asks for them: they need no daemon, only what it wrote, and
//! no more of the file than where that is.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::args::{HistoryArgs, LogsArgs, ShowArgs};
use super::failure::{Failure, code};
use super::history::{self, View};
use super::output::{self, Paint};
use super::{Context, logs, show, time};
use crate::clock::{Clock, SystemClock};
use crate::ledger::{Filter, Ledger, SqliteLedger};

/// A time, or how long ago it was.
pub(super) fn since(text: &str, view: &View) -> Result<jiff::Timestamp, String> {
    time::parse(text, view.now, &view.zone)
        .or_else(|error| time::parse(&format!("-{text}"), view.now, &view.zone).map_err(|_| error))
}

/// How many rows a person is shown who doesn't say how many.
const NEWEST: u32 = 20;

pub(super) fn history(context: &Context, args: &HistoryArgs) -> Result<u8, Failure> {
    let view = view(args.json.wanted);
    let since = args.since.as_deref().map(|text| since(text, &view)).transpose();
    let since = since.map_err(|error| Failure::wrong(format!("--since: {error}")))?;
    let ledger = context.ledger()?;
    if let Some(job) = &args.job {
        let rows = ledger.as_ref().map(Ledger::latest).transpose().map_err(anyhow::Error::from)?;
        let rows: BTreeSet<String> = rows.unwrap_or_default().into_iter().map(|row| row.job).collect();
        if !rows.contains(job) {
            known(context, job, rows)?;
        }
    }
    let Some(ledger) = ledger else {
        output::message("nothing yet: there is no ledger");
        if view.json {
            output::json(&[(); 0])?;
        }
        return Ok(code::DONE);
    };
    // A person reads the newest; a program that asks for rows wants those it asks for.
    let limit = args.count.or((!view.json).then_some(NEWEST)).map(|count| count as usize);
    let filter = Filter { job: args.job.clone(), outcome: args.outcome, since, limit };
    history::history(&ledger, &filter, &view, &mut output::data())?;
    Ok(code::DONE)
}

pub(super) fn show(context: &Context, args: &ShowArgs) -> Result<u8, Failure> {
    let Some(ledger) = context.ledger()? else {
        return Err(Failure::wrong(format!("there is no run {}: there is no ledger yet", args.run)));
    };
    let view = view(args.json.wanted);
    show::show(&ledger, &context.paths().logs, args.run, &view, &mut output::data()).map_err(|error| {
        let failure = Failure::from(error);
        // A run that isn't there is a slip on the command line.
        let code = if matches!(ledger.run(args.run), Ok(None)) { code::WRONG } else { failure.code };
        Failure { code, ..failure }
    })?;
    Ok(code::DONE)
}

pub(super) fn logs(context: &Context, args: &LogsArgs) -> Result<u8, Failure> {
    if args.follow && args.json.wanted {
        return Err(Failure::wrong(
            "--json prints one document, which would never end with --follow: use one of them",
        ));
    }
    let directory = context.paths().logs;
    let wanted =
        logs::Wanted { run: args.run, follow: args.follow, lines: args.lines, json: args.json.wanted };
    let file = crate::logs::file_of(&directory, &args.job);
    if !file.exists() {
        known(context, &args.job, BTreeSet::new())?;
    }
    if !directory.exists() && !args.follow {
        output::message(format!("{}: nothing yet", file.display()));
        if args.json.wanted {
            output::json(&[(); 0])?;
        }
        return Ok(code::DONE);
    }
    let count = logs::logs(&directory, &args.job, wanted, Paint::stdout(), &mut output::data())?;
    if count == 0 && !args.json.wanted {
        output::message(match args.run {
            Some(run) => format!("{}: nothing of run {run}: it may have been rotated away", file.display()),
            None => format!("{}: nothing yet", file.display()),
        });
    }
    Ok(code::DONE)
}

impl Context {
    /// None where nothing was ever run here. One that is there and can't be read is an error.
    pub(super) fn ledger(&self) -> Result<Option<SqliteLedger>, Failure> {
        let path = self.paths().state.join("ledger.db");
        if let Ok(false) = path.try_exists() {
            return Ok(None);
        }
        let failed = |error| Failure::new(code::FAILED, error);
        let ledger = SqliteLedger::open_read_only(&path).map_err(failed)?;
        Ok((!ledger.is_blank().map_err(failed)?).then_some(ledger))
    }
}

pub(super) fn view(json: bool) -> View {
    View { json, paint: Paint::stdout(), zone: TimeZone::system(), now: SystemClock.now() }
}

/// A job that left no trace must at least be in the file.
pub(super) fn known(context: &Context, job: &str, others: BTreeSet<String>) -> Result<(), Failure> {
    // Of a file that is wrong nothing is known: then no name is wrong either.
    let Ok(table) = context.table() else { return Ok(()) };
    let names = others.into_iter().chain(table.jobs.iter().map(|job| job.name.to_string()));
    let names: BTreeSet<String> = names.collect();
    if names.contains(job) { Ok(()) } else { Err(super::unknown_job(job, names.iter().map(String::as_str))) }
}
