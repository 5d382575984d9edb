//! `restore db FILE`: the plan on standard output, then the work, then what has become of it.

use std::io::Write;

use crate::backup::read::Progress;
use crate::backup::restore::{Order, Plan, Restore, Restored, amount};
use crate::cli::args::RestoreDbArgs;
use crate::cli::failure::{Failure, code};
use crate::cli::output::{self, Colour, Paint};
use crate::cli::{Context, progress, time, verify};
use crate::daemon;
use crate::document::nearest;
use crate::host::postgres::Connection;

pub(super) fn run(context: &Context, args: &RestoreDbArgs) -> Result<u8, Failure> {
    verify::is_a_backup(&args.file)?;
    let keys = args.identity.as_deref().map(verify::identities).transpose()?;
    let target = connection(context, &args.connection)?;
    let order = Order { into: args.into.clone(), swap: args.swap };
    // Before any thread. Two restores at once are told apart by it.
    let hand = daemon::by_hand(&format!("restore-{}", std::process::id()))?;
    let counted = Progress::default();
    let total = std::fs::metadata(&args.file).map_or(0, |metadata| metadata.len());
    let work = async {
        let restore = Restore::prepare(&hand.work, target, &args.file, keys, &order).await?;
        tell(&restore.plan)?;
        if args.plan {
            let refusals = &restore.plan.refusals;
            return if refusals.is_empty() { Ok(None) } else { Err(refused(refusals)) };
        }
        let what = format!("reading {}", args.file.display());
        let done = progress::shown(&what, total, &counted, restore.run(counted.clone())).await?;
        Ok::<_, Failure>(Some(done))
    };
    let done = hand.run(work, |line| {
        progress::clear();
        output::message(&line.text);
    })??;
    if let Some(done) = done {
        conclude(&done)?;
    }
    Ok(code::DONE)
}

fn connection(context: &Context, name: &str) -> Result<Connection, Failure> {
    let table = context.table()?;
    let Some(found) = table.connections.get(name) else {
        let known: Vec<&str> = table.connections.keys().map(String::as_str).collect();
        let failure = Failure::wrong(format!("there is no connection {name} under postgres:"));
        return Err(match nearest(name, known.iter().copied()) {
            Some(near) => failure.hint(format!("did you mean {near}?")),
            None => failure.hint(format!("known: {}", known.join(", "))),
        });
    };
    found.located().map_err(|error| Failure::new(code::FAILED, format!("connection {name}: host: {error}")))
}

fn tell(plan: &Plan) -> Result<(), Failure> {
    let mut out = output::data();
    let paint = Paint::stdout();
    for line in &plan.lines {
        writeln!(out, "{line}")?;
    }
    for warning in &plan.warnings {
        writeln!(out, "{}    {warning}", paint.on(Colour::Yellow, "warning"))?;
    }
    out.flush()?;
    Ok(())
}

fn refused(reasons: &[String]) -> Failure {
    Failure::new(code::FAILED, reasons.join("; "))
}

fn conclude(done: &Restored) -> Result<(), Failure> {
    let mut out = output::data();
    writeln!(
        out,
        "{} {}, in {}, after {}",
        Paint::stdout().on(Colour::Green, "restored:"),
        amount(done.tables, done.rows),
        done.database,
        time::brief(done.took)
    )?;
    if let Some(before) = &done.before {
        writeln!(
            out,
            "the database that had this name is {before} now; drop it when nobody misses anything"
        )?;
    }
    if !done.by_hand.is_empty() {
        writeln!(out, "to put it in its place, in psql of the database postgres:")?;
        for line in &done.by_hand {
            writeln!(out, "  {line}")?;
        }
    }
    out.flush()?;
    Ok(())
}
