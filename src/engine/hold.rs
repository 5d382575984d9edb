//! Crash loops: a job that was interrupted again and again by the death of the daemon or of the host may be what
//! kills them, and is held.
//!
//! Owns the rule and what it changes about a start. A hold is a pause of that job alone, so that its slots keep
//! their rows and `resume` lifts it. Never counts what an orderly stop has interrupted.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use jiff::Timestamp;

use super::event;
use super::recovery::{How, Recovery};
use crate::config::JobTable;
use crate::ledger::{Event, Filter, Ledger, LedgerError, PauseRecord, Write};
use crate::model::{Attempt, JobName, Outcome, RunId, RunRecord, SkipReason};

/// Deaths in a row under attempts of one job, after which it is held.
const DEATHS: usize = 3;

/// Rows that are looked at for those deaths: slots that were skipped between them have rows too.
const ROWS: usize = 10_000;

/// Why an attempt has the outcome `interrupted`. The ledger keeps these words, and the rule reads them.
pub(super) const DIED: &str = "the daemon or the host died under it";
pub(super) const STOPPED: &str = "the daemon was stopped under it";
pub(super) const RUN_NOW_DIED: &str = "the run-now that ran it died";
const LEFT: &str = "a daemon that was stopped left it running, and it ended before the next one began";

/// How the `by` of such a pause begins.
const HELD_BY: &str = "the daemon: ";

/// Holds the jobs of which a third attempt in a row was found interrupted, before anything of them starts again.
pub fn hold_crash_loops(recovery: &mut Recovery, ledger: &dyn Ledger, table: &JobTable, now: Timestamp) {
    for record in std::mem::take(&mut recovery.interrupted) {
        let Ok(job) = JobName::new(&record.job) else { continue };
        let since = record.attempts.last().map_or(now, |attempt| attempt.started_at);
        // Where the ledger does not answer, the job is run: a missing history is no reason against it.
        let lived = ledger.events(since).unwrap_or_default();
        if was_left_running(&lived, record.run) {
            recovery.say_left(record.run);
        } else if table.job(job.as_str()).is_some() {
            match deaths(ledger, &job, &record, now) {
                Ok(deaths) if deaths >= DEATHS => recovery.hold(&job, &record, deaths, now),
                Ok(_) => {}
                Err(error) => tracing::error!("{error}; whether {job} is a crash loop is not known"),
            }
        }
    }
}

/// Whether it is the daemon that pauses a job, as a crash loop.
pub fn is_hold(pause: &PauseRecord) -> bool {
    pause.by.starts_with(HELD_BY)
}

impl Recovery {
    fn hold(&mut self, job: &JobName, record: &RunRecord, deaths: usize, now: Timestamp) {
        let run = record.run;
        self.end(run, now);
        self.drop_waiting(job, now);
        let name = Some(job.as_str());
        let pauses = &mut self.recovered.pauses;
        // One that somebody runs by hand meanwhile, or a second run that died with the first.
        if pauses.iter().any(|pause| pause.job.as_deref() == name && is_hold(pause)) {
            return;
        }
        let why = format!(
            "{deaths} attempts in a row were interrupted by the death of the daemon or the host, the last in run {run}"
        );
        tracing::error!("{job} is held: {why}; `punk-eco-sched resume {job}` lets it start again");
        let by = format!("{HELD_BY}{why}");
        pauses.retain(|pause| pause.job.as_deref() != name);
        pauses.push(PauseRecord { job: Some(job.to_string()), since: now, until: None, by: by.clone() });
        self.writes.push(Write::Pause { job: Some(job.clone()), since: now, until: None, by });
        let detail = serde_json::json!({ "job": job, "run": run, "interrupted": deaths });
        self.writes.push(event(now, "held", detail));
        self.held.insert(run, why);
    }

    /// It is not tried again.
    fn end(&mut self, run: RunId, now: Timestamp) {
        let goes_on = self.resume.len();
        self.resume.retain(|resume| resume.record.run != run);
        if self.resume.len() == goes_on {
            // `leave` has ended it already.
            return;
        }
        self.recovered.open.retain(|open| open.run != run);
        self.writes.retain(|write| !matches!(write, Write::Adopted { run: of, .. } if *of == run));
        let (outcome, error) = (Outcome::Interrupted, Some(DIED.to_owned()));
        self.writes.push(Write::Finished { run, at: now, outcome, error, report: None });
    }

    /// What waits for its turn would start in spite of a pause.
    fn drop_waiting(&mut self, job: &JobName, now: Timestamp) {
        let waits =
            |resume: &super::recovery::Resume| resume.job == *job && matches!(resume.how, How::Queued);
        let runs: Vec<RunId> =
            self.resume.iter().filter(|one| waits(one)).map(|one| one.record.run).collect();
        self.resume.retain(|resume| !waits(resume));
        self.recovered.open.retain(|open| !runs.contains(&open.run));
        self.writes.retain(|write| !matches!(write, Write::Adopted { run, .. } if runs.contains(run)));
        let dropped = |run| Write::Dropped { run, at: now, reason: SkipReason::Paused };
        self.writes.extend(runs.into_iter().map(dropped));
    }

    /// Nobody died under it.
    fn say_left(&mut self, of: RunId) {
        for write in &mut self.writes {
            if let Write::AttemptEnded { run, error, .. } | Write::Finished { run, error, .. } = write
                && *run == of
            {
                *error = Some(LEFT.to_owned());
            }
        }
    }
}

/// The daemon before us ended in order and left this run to go on: a host that is rebooted ends it then.
fn was_left_running(events: &[Event], run: RunId) -> bool {
    let lives = |event: &&Event| matches!(event.kind.as_str(), "daemon_started" | "daemon_stopped");
    let Some(last) = events.iter().rfind(lives).filter(|event| event.kind == "daemon_stopped") else {
        return false;
    };
    last.detail["left_running"].as_array().is_some_and(|left| left.iter().any(|one| *one == run.0))
}

/// How many deaths in a row attempts of this job have met, the one that was just found included. Several runs that
/// died together met one.
fn deaths(
    ledger: &dyn Ledger,
    job: &JobName,
    record: &RunRecord,
    now: Timestamp,
) -> Result<usize, LedgerError> {
    let mut streak = Streak { now, deaths: BTreeSet::new(), oldest: now };
    if streak.take(&record.attempts).is_continue() {
        let mut rows = 0;
        let filter = Filter { job: Some(job.to_string()), ..Filter::default() };
        ledger.visit(&filter, &mut |row| {
            rows += 1;
            if rows > ROWS || streak.deaths.len() > DEATHS {
                return ControlFlow::Break(());
            }
            if row.run == record.run { ControlFlow::Continue(()) } else { streak.take(&row.attempts) }
        })?;
    }
    if streak.deaths.len() < DEATHS {
        return Ok(streak.deaths.len());
    }
    // Somebody who resumes it begins the count anew.
    let resumed = |event: &Event| event.kind == "resumed" && event.detail["job"] == job.as_str();
    let resumed = ledger.events(streak.oldest)?.iter().rfind(|event| resumed(event)).map(|event| event.at);
    Ok(streak.deaths.iter().filter(|at| resumed.is_none_or(|resumed| **at > resumed)).count())
}

struct Streak {
    now: Timestamp,
    /// When each was found.
    deaths: BTreeSet<Timestamp>,
    oldest: Timestamp,
}

impl Streak {
    /// Attempts of one run; breaks at the newest that ended otherwise.
    fn take(&mut self, attempts: &[Attempt]) -> ControlFlow<()> {
        for attempt in attempts.iter().rev() {
            let died = match attempt.outcome {
                Outcome::Running => true,
                Outcome::Interrupted => attempt
                    .error
                    .as_deref()
                    .is_none_or(|error| ![STOPPED, RUN_NOW_DIED, LEFT].contains(&error)),
                _ => false,
            };
            if !died {
                return ControlFlow::Break(());
            }
            self.deaths.insert(attempt.finished_at.unwrap_or(self.now));
            self.oldest = self.oldest.min(attempt.started_at);
        }
        ControlFlow::Continue(())
    }
}
