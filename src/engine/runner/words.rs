//! What a run's log and its errors say of its attempts.

use std::time::Duration;

use super::Run;
use super::ends::AttemptEnd;
use crate::config::JobSpec;
use crate::host::process::Swept;
use crate::logs::Level;
use crate::model::Outcome;
use crate::units::HumanDuration;

pub(super) fn survivors(swept: &Swept) -> String {
    if swept.survivors.is_empty() {
        return String::new();
    }
    let names: Vec<String> =
        swept.survivors.iter().map(|process| format!("{} (pid {})", process.name, process.pid)).collect();
    format!("; even SIGKILL did not end {}", names.join(", "))
}

pub(super) fn first_line(run: &Run, spec: &JobSpec, number: u32) -> String {
    let mut line = format!("attempt {number} of {}", number.max(spec.retries.attempts));
    line += &format!(" ({}", run.trigger);
    if let Some(slot) = run.slot {
        line += &format!(", slot {slot}");
    }
    if run.dry_run {
        line += ", dry run";
    }
    line + ")"
}

pub(super) fn last_line(end: &AttemptEnd, took: Duration) -> String {
    let told = end.error.as_deref().or(end.report.as_ref().map(|report| report.summary.as_str()));
    let told = told.filter(|told| !told.is_empty()).map(|told| format!(": {told}")).unwrap_or_default();
    format!("{} after {}{told}", end.outcome, shown(took))
}

/// Of the line that ends the log of a run: a search for errors finds each run that failed, with its reason.
pub(super) fn level_of(outcome: Outcome) -> Level {
    match outcome {
        Outcome::Failed | Outcome::TimedOut | Outcome::Interrupted => Level::Error,
        Outcome::Cancelled => Level::Warn,
        _ => Level::Info,
    }
}

pub(super) fn timed_out(run: &Run) -> String {
    match &run.spec {
        Some(spec) => format!("not done after {}: ended by its timeout", HumanDuration(spec.timeout)),
        None => "ended by its timeout".to_owned(),
    }
}

/// To a tenth of a second under a minute, to a second above.
pub(super) fn shown(duration: Duration) -> String {
    if duration < Duration::from_secs(60) {
        return format!("{:.1}s", duration.as_secs_f64());
    }
    HumanDuration(Duration::from_secs(duration.as_secs())).to_string()
}
