//! The runs that have no end yet: how they come to be known, begin, are cancelled and told of.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::message::Outbox;
use super::plan::Event;
use super::runner::{self, Begin, Run, RunEnd};
use super::{Accepted, Ended, Engine, Then, Turn};
use crate::config::{JobSpec, JobTable};
use crate::host::process::Origin;
use crate::ledger::{self, NewState};
use crate::logs::RunLog;
use crate::model::{JobName, Outcome, RunId, SkipReason, Trigger};

/// A run that has no end yet.
pub(super) struct Active {
    pub(super) job: JobName,
    pub(super) trigger: Trigger,
    pub(super) slot: Option<Timestamp>,
    pub(super) dry_run: bool,
    /// Of a run that was claimed here.
    pub(super) origin: Option<Origin>,
    pub(super) spec: Option<Arc<JobSpec>>,
    pub(super) log: RunLog,
    pub(super) cancel: CancellationToken,
    pub(super) started_at: Option<Timestamp>,
    pub(super) attempt: u32,
    /// It waits for its turn.
    pub(super) queued: bool,
    /// What it waits for is not its first attempt.
    pub(super) again: Option<Again>,
    pub(super) ended: Option<oneshot::Sender<Ended>>,
}

/// An attempt of this number follows one that was interrupted. `tried`: as [`Begin::Rerun`] has it.
#[derive(Clone, Copy)]
pub(super) struct Again {
    pub(super) number: u32,
    pub(super) tried: u32,
}

impl Engine {
    /// A row that was claimed becomes a run, unless it says that its slot is skipped.
    pub(super) fn register(
        &mut self,
        run: RunId,
        row: &ledger::NewRow,
        request: Option<u64>,
        now: Timestamp,
    ) {
        if matches!(row.state, NewState::Skipped(_)) {
            return;
        }
        let queued = row.state == NewState::Queued;
        let log = self.logs.run(&row.job, run);
        let mut active = Active {
            job: row.job.clone(),
            trigger: row.trigger,
            slot: row.slot,
            dry_run: row.dry_run,
            origin: Some(Origin {
                trigger: row.trigger,
                requested_by: row.requested_by.clone(),
                epoch: row.epoch,
            }),
            spec: self.table.job(row.job.as_str()).cloned(),
            log,
            cancel: CancellationToken::new(),
            started_at: (!queued).then_some(now),
            attempt: u32::from(!queued),
            queued,
            again: None,
            ended: None,
        };
        if let Some(request) = request.and_then(|request| self.requests.remove(&request)) {
            active.log.note(now, &format!("asked for by {}", request.by));
            let (tell, ended) = oneshot::channel();
            active.ended = Some(tell);
            let _ = request.reply.send(Ok(Accepted { run, queued, lines: active.log.follow(), ended }));
        }
        self.runs.insert(run, active);
    }

    pub(super) fn begin(&mut self, run: RunId, begin: Begin) {
        let now = self.clock.now();
        let Some(active) = self.runs.get_mut(&run) else { return };
        if active.queued {
            active.starts(&self.table);
        }
        active.started_at.get_or_insert(now);
        active.attempt = active.attempt.max(1);
        let begin = match active.again.take() {
            Some(Again { number, tried }) => Begin::Rerun { number, tried },
            None => begin,
        };
        let run = Run {
            run,
            job: active.job.clone(),
            spec: active.spec.clone(),
            trigger: active.trigger,
            slot: active.slot,
            began: active.started_at.unwrap_or(now),
            dry_run: active.dry_run,
            origin: active.origin.clone(),
            log: active.log.clone(),
            cancel: active.cancel.clone(),
        };
        let sink = Arc::new(Outbox(self.outbox.clone()));
        self.runtime.spawn(runner::execute(run, begin, self.around.clone(), sink));
    }

    pub(super) fn cancel(&mut self, run: RunId) {
        if let Some(active) = self.runs.get(&run) {
            active.cancel.cancel();
        } else if let Some(foreign) = self.foreign.get(&run) {
            // Only that process can end it; its end comes as the end of the process.
            foreign.ask_to_end();
        }
    }

    pub(super) fn waits(&self, run: RunId) -> bool {
        self.runs.get(&run).is_some_and(|active| active.queued)
    }

    /// Whether what waits in this process is its to begin or to end, until the turn is written.
    pub(super) fn is_ours(&mut self, turn: &mut Turn) -> bool {
        let Some(may_begin) = &self.may_begin else { return true };
        if turn.permit.is_none() {
            turn.permit = may_begin();
        }
        turn.permit.is_some()
    }

    /// Whoever follows the run here hears of no end.
    pub(super) fn leave_to_daemon(&mut self, run: RunId, now: Timestamp, turn: &mut Turn) {
        self.plan_event(Event::Ended { run, outcome: Outcome::Interrupted }, now, turn);
        turn.then.push(Then::Forget(run));
    }

    /// It waits for another attempt than its first.
    pub(super) fn waits_again(&self, run: RunId) -> bool {
        self.runs.get(&run).is_some_and(|active| active.again.is_some())
    }

    /// What has run already was not skipped, whatever keeps it from running again.
    pub(super) fn drop_again(&mut self, run: RunId, reason: SkipReason, now: Timestamp, turn: &mut Turn) {
        let (outcome, error) = match reason {
            // It stays open: the next daemon tries it again.
            SkipReason::Stopping => {
                turn.then.push(Then::Forget(run));
                return;
            }
            SkipReason::Overlap => (Outcome::Cancelled, "replaced while it waited for its next attempt"),
            _ => (Outcome::Interrupted, "its job is gone, and it waited for its next attempt"),
        };
        let end = RunEnd { run, at: now, outcome, error: Some(error.to_owned()), report: None };
        self.finished(end, now, turn);
    }

    pub(super) fn tell_end(&mut self, run: RunId, end: Ended) {
        if let Some(tell) = self.runs.get_mut(&run).and_then(|active| active.ended.take()) {
            let _ = tell.send(end);
        }
    }
}

impl Active {
    /// It waits no longer, and begins with the attempt of this number. A queued run uses the table in force when it
    /// starts.
    pub(super) fn starts(&mut self, table: &JobTable) -> u32 {
        self.spec = table.job(self.job.as_str()).cloned();
        self.queued = false;
        self.attempt = self.again.map_or(1, |again| again.number);
        self.attempt
    }

    pub(super) fn outlives_daemon(&self) -> bool {
        self.spec.as_ref().is_none_or(|spec| spec.job.outlives_daemon())
    }
}
