//! `pause JOB|--all [--for D]`: slots are recorded as skipped until the pause ends.

use jiff::tz::TimeZone;

use super::args::PauseArgs;
use super::failure::{Failure, code};
use super::{Context, output, time};
use crate::clock::{Clock, SystemClock};

pub(super) fn run(context: &Context, args: &PauseArgs) -> Result<u8, Failure> {
    let until = args.duration.map(|duration| SystemClock.now().checked_add(duration.0)).transpose();
    let until =
        until.map_err(|_| Failure::wrong("--for: that is beyond the end of the calendar: leave it out"))?;
    let job = args.scope.job.as_deref();
    context.daemon()?.pause(job, until)?;
    let until = match until {
        Some(until) => format!("until {}", time::show(until, &TimeZone::system())),
        None => "until resumed".into(),
    };
    let again = format!("`punk-eco-sched resume {}`", job.unwrap_or("--all"));
    output::message(format!("{} {until}; {again} ends it", subject(job, "is paused", "are paused")));
    Ok(code::DONE)
}

/// `db-backup is paused`, `all jobs are paused`
pub(super) fn subject(job: Option<&str>, one: &str, all: &str) -> String {
    job.map_or_else(|| format!("all jobs {all}"), |job| format!("{job} {one}"))
}
