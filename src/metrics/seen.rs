//! What was heard of the runs and slots of each job since the daemon started. Memory alone: reads and writes nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::config::JobTable;
use crate::engine::{Observer, Seen, What};
use crate::ledger::LastEnd;
use crate::model::{CheckState, Checked, JobName, Measure, Outcome, SkipReason, Trigger};

/// The one kind that has checks.
const HEALTH_CHECK: &str = "health_check";

/// How a run can end.
pub(super) const ENDS: [Outcome; 5] =
    [Outcome::Succeeded, Outcome::Failed, Outcome::TimedOut, Outcome::Cancelled, Outcome::Interrupted];

/// Upper bounds, in seconds: from a check that looks at a socket to a dump of a large database.
pub(super) const DURATIONS: [f64; 12] =
    [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 7200.0, 14400.0, f64::INFINITY];
/// From what is usual to what nobody would want.
pub(super) const LATENESSES: [f64; 9] = [0.005, 0.025, 0.1, 0.5, 1.0, 10.0, 60.0, 600.0, f64::INFINITY];

/// What was seen of one job.
#[derive(Clone, Debug, Default)]
pub(super) struct JobSeen {
    pub(super) last: Option<(Timestamp, Outcome)>,
    pub(super) last_success: Option<Timestamp>,
    pub(super) runs: [u64; ENDS.len()],
    pub(super) attempts: u64,
    pub(super) skipped: [u64; SkipReason::ALL.len()],
    pub(super) durations: Option<Box<Histogram<{ DURATIONS.len() }>>>,
    pub(super) latenesses: Option<Box<Histogram<{ LATENESSES.len() }>>>,
    pub(super) checks: Vec<CheckSeen>,
    /// The kind of the run that looked: they say nothing of a job that is of another by now.
    pub(super) checks_of: &'static str,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct CheckSeen {
    pub(super) name: String,
    pub(super) state: CheckState,
    pub(super) measures: Vec<Measure>,
}

#[derive(Clone, Debug)]
pub(super) struct Histogram<const N: usize> {
    pub(super) sum: f64,
    pub(super) counts: [u64; N],
}

impl<const N: usize> Histogram<N> {
    fn add(this: &mut Option<Box<Self>>, bounds: &[f64; N], value: f64) {
        let this = this.get_or_insert_with(|| Box::new(Self { sum: 0.0, counts: [0; N] }));
        let bucket = bounds.iter().position(|bound| value <= *bound).unwrap_or(N - 1);
        this.counts[bucket] += 1;
        this.sum += value;
    }
}

/// Every job's. A clone is the same book.
#[derive(Clone, Default)]
pub(super) struct Book(Arc<Mutex<HashMap<JobName, Arc<JobSeen>>>>);

impl Book {
    /// As it stands; what comes later does not change it.
    pub(super) fn copy(&self) -> HashMap<JobName, Arc<JobSeen>> {
        self.lock().clone()
    }

    /// What jobs have left that are gone from the table goes with them; of one that is of another kind, its checks.
    pub(super) fn keep_only(&self, table: &JobTable) {
        self.lock().retain(|job, seen| {
            let Some(spec) = table.job(job.as_str()) else { return false };
            if !seen.checks.is_empty() && seen.checks_of != spec.kind.name {
                Arc::make_mut(seen).checks.clear();
            }
            true
        });
    }

    /// What the ledger says of the time before. What was heard meanwhile is newer, and stays.
    pub(super) fn remember(&self, ends: Vec<LastEnd>) {
        let mut book = self.lock();
        for end in ends {
            let Ok(job) = JobName::new(&end.job) else { continue };
            let seen = Arc::make_mut(book.entry(job).or_default());
            seen.last_success = seen.last_success.max(end.succeeded_at);
            if seen.last.is_none() {
                seen.last = Some((end.at, end.outcome));
            }
            if seen.checks.is_empty() {
                (seen.checks, seen.checks_of) = (checks_in(&end.facts), HEALTH_CHECK);
            }
        }
    }

    fn change(&self, job: &JobName, change: impl FnOnce(&mut JobSeen)) {
        let mut book = self.lock();
        if !book.contains_key(job) {
            book.insert(job.clone(), Arc::default());
        }
        if let Some(seen) = book.get_mut(job) {
            change(Arc::make_mut(seen));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobName, Arc<JobSeen>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Book {
    fn hears(&self, seen: &Seen<'_>) {
        // Looking what would be done is no run of the job.
        if seen.dry_run {
            return;
        }
        self.change(seen.job, |job| match &seen.what {
            What::Began { at } => {
                job.attempts += 1;
                if let (Trigger::Schedule, Some(due)) = (seen.trigger, seen.due) {
                    // A clock that was set back makes nothing early.
                    let late = at.duration_since(due).as_secs_f64().max(0.0);
                    Histogram::add(&mut job.latenesses, &LATENESSES, late);
                }
            }
            What::Again { .. } => job.attempts += 1,
            What::Ended { at, started_at, outcome, report, .. } => {
                let Some(end) = ENDS.iter().position(|end| end == outcome) else { return };
                job.runs[end] += 1;
                job.last = Some((*at, *outcome));
                if *outcome == Outcome::Succeeded {
                    job.last_success = Some(*at);
                }
                if let Some(started_at) = started_at {
                    let took = at.duration_since(*started_at).as_secs_f64().max(0.0);
                    Histogram::add(&mut job.durations, &DURATIONS, took);
                }
                let kind = seen.spec.map(|spec| spec.kind.name);
                if let Some(report) = report.filter(|report| !report.checks.is_empty()) {
                    job.checks = report.checks.iter().map(CheckSeen::of).collect();
                    job.checks_of = kind.unwrap_or(HEALTH_CHECK);
                } else if *outcome == Outcome::Succeeded || kind.is_some_and(|kind| kind != job.checks_of) {
                    // Of the kind that has checks, a run that did not get as far says nothing of them.
                    job.checks.clear();
                }
            }
            What::Skipped { reason, slots } => {
                let at = SkipReason::ALL.iter().position(|one| one == reason).unwrap_or_default();
                job.skipped[at] += slots;
            }
        });
    }
}

impl CheckSeen {
    fn of(checked: &Checked) -> Self {
        Self { name: checked.name.clone(), state: checked.state, measures: checked.measures.clone() }
    }
}

/// As `health_check` leaves them in the ledger.
fn checks_in(facts: &serde_json::Map<String, serde_json::Value>) -> Vec<CheckSeen> {
    let results = facts.get("results").and_then(serde_json::Value::as_array);
    let check = |result: &serde_json::Value| {
        Some(CheckSeen {
            name: result["name"].as_str()?.to_owned(),
            state: match result["fails"].as_bool() {
                // For want of a measurement as well, which the state alone would not tell.
                Some(true) => CheckState::Failing,
                _ => CheckState::from_word(result["state"].as_str()?)?,
            },
            measures: serde_json::from_value(result["measures"].clone()).unwrap_or_default(),
        })
    };
    results.into_iter().flatten().filter_map(check).collect()
}
