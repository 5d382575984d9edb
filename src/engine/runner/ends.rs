//! How an attempt ended, judged by what its job returned, by what was asked meanwhile, and by what was left of it.

use jiff::Timestamp;

use super::words::{survivors, timed_out};
use super::{Held, Run};
use crate::engine::hold;
use crate::host::process::Swept;
use crate::jobs::JobError;
use crate::logs::RunLog;
use crate::model::{Finding, Outcome, Report};

pub(super) struct AttemptEnd {
    pub(super) held: Held,
    /// Where it is known better than from now: an adopted program may have ended long ago.
    pub(super) at: Option<Timestamp>,
    pub(super) outcome: Outcome,
    pub(super) error: Option<String>,
    pub(super) report: Option<Report>,
    /// Another attempt may mend it.
    pub(super) retryable: bool,
}

impl AttemptEnd {
    pub(super) fn of(outcome: Outcome) -> Self {
        Self { held: Held(None), at: None, outcome, error: None, report: None, retryable: false }
    }

    pub(super) fn failed(error: String, retryable: bool) -> Self {
        Self { error: Some(error), retryable, ..Self::of(Outcome::Failed) }
    }
}

pub(super) fn cancelled_end() -> AttemptEnd {
    AttemptEnd { error: Some("cancelled".to_owned()), ..AttemptEnd::of(Outcome::Cancelled) }
}

pub(super) fn cancelled_between() -> AttemptEnd {
    let error = Some("cancelled while it waited for its next attempt".to_owned());
    AttemptEnd { error, ..AttemptEnd::of(Outcome::Cancelled) }
}

pub(super) fn timed_out_end(run: &Run) -> AttemptEnd {
    AttemptEnd { error: Some(timed_out(run)), retryable: true, ..AttemptEnd::of(Outcome::TimedOut) }
}

/// It was being ended when its daemon died, which alone knew why; the spawner has it from there.
pub(super) fn ended_by_the_daemon_before(run: &Run, cause: Outcome, swept: &Swept) -> AttemptEnd {
    let end = match cause {
        Outcome::TimedOut => timed_out_end(run),
        Outcome::Cancelled => cancelled_end(),
        _ => AttemptEnd { error: Some(hold::STOPPED.to_owned()), ..AttemptEnd::of(Outcome::Interrupted) },
    };
    AttemptEnd { error: end.error.map(|error| error + &survivors(swept)), ..end }
}

pub(super) fn judge_result(
    result: Result<Result<Report, JobError>, tokio::task::JoinError>,
    swept: &Swept,
) -> AttemptEnd {
    match result {
        Ok(Ok(mut report)) => {
            report.findings.extend(swept.findings());
            AttemptEnd { report: Some(report), ..AttemptEnd::of(Outcome::Succeeded) }
        }
        Ok(Err(JobError::Found(mut report))) => {
            report.findings.extend(swept.findings());
            let failed = AttemptEnd::failed(report.summary.clone() + &survivors(swept), true);
            AttemptEnd { report: Some(*report), ..failed }
        }
        Ok(Err(JobError::Lacking(mut report))) => {
            report.findings.extend(swept.findings());
            let failed = AttemptEnd::failed(report.summary.clone() + &survivors(swept), false);
            AttemptEnd { report: Some(*report), ..failed }
        }
        Ok(Err(error)) => {
            let retryable = matches!(error, JobError::Retryable(_));
            AttemptEnd::failed(error.to_string() + &survivors(swept), retryable)
        }
        Err(join) => AttemptEnd::failed(format!("a bug: the job panicked: {join}"), false),
    }
}

/// A program went on without a parent that could tell of its end.
pub(super) fn interrupted_end(lost: &str, swept: &Swept) -> AttemptEnd {
    let mut error = lost.to_owned() + &survivors(swept);
    for finding in swept.findings().iter().filter(|_| swept.survivors.is_empty()) {
        error += &format!("; {}", finding.message);
    }
    AttemptEnd { error: Some(error), ..AttemptEnd::of(Outcome::Interrupted) }
}

pub(super) fn with_log_error(report: Option<Report>, log: &RunLog) -> Option<Report> {
    let Some(error) = log.take_error() else { return report };
    let mut report = report.unwrap_or_default();
    report.findings.push(Finding::warning(format!("the job's log is not whole: {error}")));
    Some(report)
}
